package bytesize

import "testing"

func TestSizeReadsBackWhatItPrints(t *testing.T) {
	for _, s := range []Size{0, 1, 1023, KiB, 3 * MiB, 2 * GiB, 2*GiB + 1} {
		var got Size
		if err := got.UnmarshalText([]byte(s.String())); err != nil || got != s {
			t.Errorf("%d printed as %q and came back as %d, %v", s, s, got, err)
		}
	}
}

func TestSizeNamesWhatItCannotRead(t *testing.T) {
	var s Size
	for _, bad := range []string{"", "much", "-1", "2 GiBs"} {
		if err := s.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q was read as %d", bad, s)
		}
	}
}

package bytesize

import "testing"

func TestSizeReadsBackWhatItPrints(t *testing.T) {
	for _, s := range []Size{0, 1, 1023, KiB, 3 * MiB, 2 * GiB, 2*GiB + 1, 8 * gB, 500 * mB, 3 * kB} {
		var got Size
		if err := got.UnmarshalText([]byte(s.String())); err != nil || got != s {
			t.Errorf("%d printed as %q and came back as %d, %v", s, s, got, err)
		}
	}
}

func TestSizeIsPrintedInTheUnitItWasWrittenIn(t *testing.T) {
	for _, text := range []string{"8GB", "500MB", "64kB", "8GiB", "1536MiB", "12KiB", "999B"} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err != nil || s.String() != text {
			t.Errorf("%s: %s, %v", text, s, err)
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

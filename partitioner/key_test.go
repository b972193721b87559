package partitioner

import (
	"errors"
	"strings"
	"testing"
)

func TestEncodeKeyEscapesWhatIsNoToken(t *testing.T) {
	for raw, want := range map[string]string{
		"c-17": "c-17", "a.b": "a%2Eb", "a b": "a%20b", "*": "%2A", ">": "%3E", "50%": "50%25", "ü": "%C3%BC",
		"\x00\t\n\x7f": "%00%09%0A%7F", "plant/7:x@y~z_": "plant/7:x@y~z_", "\xff": "%FF", "%2E": "%252E",
	} {
		if got, err := EncodeKey(raw); err != nil || got != want {
			t.Errorf("%q became %q, %v; want %q", raw, got, err, want)
		}
	}
}

func TestEncodeKeyRefusesNoneAndTooLong(t *testing.T) {
	if _, err := EncodeKey(""); !errors.Is(err, ErrNoKey) {
		t.Errorf("empty key: %v", err)
	}
	if _, err := EncodeKey(strings.Repeat("k", MaxKey)); err != nil {
		t.Errorf("%d bytes: %v", MaxKey, err)
	}
	if _, err := EncodeKey(strings.Repeat(".", 171)); !errors.Is(err, ErrKeyTooLong) ||
		!strings.Contains(err.Error(), "513 bytes") {
		t.Errorf("171 dots: %v", err)
	}
}

func TestDecodeKeyLeavesWhatIsNoEscape(t *testing.T) {
	for token, want := range map[string]string{"%": "%", "a%2": "a%2", "%zz": "%zz", "%2e": ".", "%%41": "%A",
		"a.b": "a.b", "": ""} {
		if got := DecodeKey(token); got != want {
			t.Errorf("%q became %q, want %q", token, got, want)
		}
	}
}

func FuzzKeyRoundTrip(f *testing.F) {
	for _, seed := range []string{"c-17", "a.b", " ", "%41", "ü", "\x00\xff", "a%", ">*", strings.Repeat("é", 300)} {
		f.Add(seed)
	}
	topic := Topic{Name: "orders", Partitions: 64}.WithDefaults()
	f.Fuzz(func(t *testing.T, raw string) {
		DecodeKey(raw)
		token, err := EncodeKey(raw)
		if err != nil {
			if raw != "" && len(raw) <= MaxKey/3 {
				t.Fatalf("%q: %v", raw, err)
			}
			return
		}
		if got := DecodeKey(token); got != raw {
			t.Fatalf("%q became %q and came back as %q", raw, token, got)
		}
		if strings.ContainsAny(token, ".*> \t\r\n\x00") || len(token) > MaxKey {
			t.Fatalf("%q became %q, which is no token", raw, token)
		}
		subject, err := topic.PublishSubject(token)
		if err != nil {
			t.Fatal(err)
		}
		place, err := topic.Placement(subject)
		if err != nil || place.Key != token {
			t.Fatalf("%q is at %+v, %v", subject, place, err)
		}
		stored := strings.TrimSuffix(topic.PartitionFilter(place.Partition), ">") + token
		if back, err := topic.Parse(stored); err != nil || back != place {
			t.Fatalf("%q: parsed %+v, %v; placed %+v", stored, back, err, place)
		}
	})
}

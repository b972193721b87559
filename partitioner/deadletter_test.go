package partitioner

import (
	"strings"
	"testing"
)

func TestDeadLetterSubjectsComeBack(t *testing.T) {
	for _, want := range []DeadLetterPlace{
		{Group: "billing", Partition: 0, Kind: Dead, LetterKey: "a", Seq: 1},
		{Group: "b-2", Partition: 1023, Kind: Parked, LetterKey: "a.b.c", Seq: 1<<64 - 1},
		{Group: "g", Partition: 7, Kind: Parked, LetterKey: "5", Seq: 6},
		{Group: "g", Partition: 7, Kind: Dead, LetterKey: LetterKey(strings.Repeat("x", MaxKey)), Seq: 6},
	} {
		got, err := ParseDeadLetter(want.Subject())
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", want.Subject(), got, err)
		}
	}
}

// TestLetterKeysAreBoundedAndTellKeysApart: whatever a plain NATS client uses as a key, and a forged hash.
func TestLetterKeysAreBoundedAndTellKeysApart(t *testing.T) {
	long := strings.Repeat("k", 4060)
	forged := string(NewLetterKey(long))
	keys := []string{
		"a", "a.b.c", "Zürich", "50%", strings.Repeat("x", MaxKey), // Kept.
		// Hashed.
		strings.Repeat("x", MaxKey+1), long, long + "k", strings.Repeat("ab.", 1300) + "c", forged, hashedKey,
		hashedKey + "1",
		// Neither JSON nor a list nor a filter holds these.
		"\xff", "\xfe", "\ufffd", "a\x01", "a\u00a0b", "\U000e0001", "*", "a.>", "a..b", ".",
	}
	seen := map[LetterKey]string{}
	for i, key := range keys {
		k := NewLetterKey(key)
		if other, twice := seen[k]; twice {
			t.Errorf("keys %q and %q are both %q", key, other, k)
		}
		seen[k] = key
		if k.Hashed() == (i < 5) || !k.Hashed() && string(k) != key {
			t.Errorf("key %q is %q", key, k)
		}
		place := DeadLetterPlace{Group: strings.Repeat("g", 64), Partition: 1023, Kind: Parked, LetterKey: k, Seq: 1<<64 - 1}
		if n := len(place.Subject()); n > MaxKey+128 {
			t.Errorf("the subject of key %.20q has %d bytes", key, n)
		}
		if got, err := ParseDeadLetter(place.Subject()); err != nil || got != place {
			t.Errorf("key %.20q: %+v, %v", key, got, err)
		}
	}
}

func FuzzParseDeadLetter(f *testing.F) {
	for _, s := range []string{"dlq.g.3.parked.a.b.17", "dlq.g.3.dead.a.1", "dlq.g.-1.dead.a.1", "dlq.g.3.gone.a.1",
		"dlq.g.3.dead..1", "dlq.g.3.dead.1", "", "dlq....."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, subject string) {
		p, err := ParseDeadLetter(subject)
		if err != nil {
			return
		}
		if p.Partition < 0 || p.LetterKey == "" || p.Kind != Dead && p.Kind != Parked {
			t.Fatalf("%q is taken for %+v", subject, p)
		}
		if again, err := ParseDeadLetter(p.Subject()); err != nil || again != p {
			t.Fatalf("%q: %+v, spelled again %+v, %v", subject, p, again, err)
		}
	})
}

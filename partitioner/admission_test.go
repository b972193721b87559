package partitioner

import (
	"errors"
	"strings"
	"testing"

	"leasehold/internal/admission"
)

// plant is a topic with a wildcard outside its key.
func plant() Topic {
	return Topic{Name: "plant", Partitions: 8, Subject: "plant.*.line.*", Key: []int{2}}.WithDefaults()
}

func TestPlacementRefusesWithACodeWhatIsNoKeyOfTheTopic(t *testing.T) {
	two := Topic{Name: "two", Partitions: 8, Subject: "two.*.*", Key: []int{1, 2}}.WithDefaults()
	half := strings.Repeat("k", MaxKey/2)
	for _, c := range []struct {
		topic   Topic
		subject string
		want    error
	}{
		{plant(), "plant." + strings.Repeat("x", 4070) + ".line.a", ErrSubject},
		{plant(), "plant." + strings.Repeat("x", admission.MaxSubject-len("plant..line.a")+1) + ".line.a", ErrSubject},
		{plant(), "plant.p.line." + strings.Repeat("k", MaxKey+1), ErrKeyTooLong},
		{two, "two." + half + "." + half, ErrKeyTooLong},
		{plant(), "plant.p.line.*", ErrSubject},
		{plant(), "plant.*.line.a", ErrSubject},
		{plant(), "plant.p.line.>", ErrSubject},
		{plant(), "plant.>", ErrSubject},
		{plant(), "plant.p.line.a b", ErrSubject},
		{plant(), "plant.p.line.a\x00", ErrSubject},
		{plant(), "plant.p.line.\x7f", ErrSubject},
		{plant(), "plant.\x1b[0m.line.a", ErrSubject},
		{plant(), "plant..line.a", ErrNoKey},
		{plant(), "plant.p.line.", ErrNoKey},
		{plant(), "plant.p.line.a.b", ErrSubject},
		{plant(), "", ErrSubject},
	} {
		_, err := c.topic.Placement(c.subject)
		var r *admission.Refusal
		if !errors.Is(err, c.want) || !errors.As(err, &r) || r.ErrCode != admission.SubjectInvalid.ErrCode {
			t.Errorf("%.60q: %v", c.subject, err)
		} else if len(r.Description) > 300 || strings.ContainsFunc(r.Description, func(c rune) bool { return c < ' ' }) {
			t.Errorf("%.60q: %q", c.subject, r.Description)
		}
	}
}

func TestPlacementTakesTheLongestSubjectAndKey(t *testing.T) {
	key := strings.Repeat("k", MaxKey)
	subject := "plant." + strings.Repeat("x", admission.MaxSubject-len("plant..line.")-MaxKey) + ".line." + key
	if place, err := plant().Placement(subject); err != nil || place.Key != key {
		t.Errorf("%+v, %v", place, err)
	}
}

// TestStoredSubjectsOfAnyLengthAreRead: messages from before the bounds must be handled, shown and dead-lettered.
func TestStoredSubjectsOfAnyLengthAreRead(t *testing.T) {
	key := strings.Repeat("k", 3000)
	place, err := orders().Parse("orders.1.3." + key)
	if err != nil || place.Key != key || place.Subject != "orders."+key {
		t.Errorf("%.100v, %v", place, err)
	}
}

func TestPlacementDoesNotAllocate(t *testing.T) {
	side := Topic{Name: "side", Partitions: 8, Subject: "side.*.*.x.*", Key: []int{1, 2}}.WithDefaults()
	for subject, c := range map[string]struct {
		topic Topic
		key   string
	}{
		"orders.c-17":     {orders(), "c-17"},
		"plant.p1.line.a": {plant(), "a"},
		"side.a.b.x.c":    {side, "a.b"},
	} {
		if place, err := c.topic.Placement(subject); err != nil || place.Key != c.key {
			t.Errorf("%s: %+v, %v", subject, place, err)
		}
		if n := testing.AllocsPerRun(100, func() { _, _ = c.topic.Placement(subject) }); n != 0 {
			t.Errorf("%s: %v allocations", subject, n)
		}
	}
}

func TestKeysWhoseTokensAreApartOrTurnedRound(t *testing.T) {
	for _, c := range []struct {
		key  []int
		want string
	}{{[]int{1, 3}, "a.c"}, {[]int{2, 1}, "b.a"}, {[]int{2, 3}, "b.c"}, {[]int{3}, "c"}, {[]int{1, 2, 3}, "a.b.c"}} {
		topic := Topic{Name: "t", Partitions: 8, Subject: "t.*.*.*", Key: c.key}.WithDefaults()
		if place, err := topic.Placement("t.a.b.c"); err != nil || place.Key != c.want {
			t.Errorf("%v: %+v, %v", c.key, place, err)
		}
	}
}

func BenchmarkPlacement(b *testing.B) {
	topic := plant()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := topic.Placement("plant.p1.line.machine-17"); err != nil {
			b.Fatal(err)
		}
	}
}

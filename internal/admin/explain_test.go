package admin

import (
	"context"
	"strings"
	"testing"

	"leasehold/internal/api"
)

func TestAMessageBeforeTheStartOfAGroupWasNeverTheGroups(t *testing.T) {
	v, m := api.ExplainedGroup{Group: "billing"}, api.Message{Seq: 3}
	if err := (Explainer{}).locate(t.Context(), &v, &m, 3); err != nil || v.Place != api.PlaceBeforeStart {
		t.Errorf("%+v, %v", v, err)
	}
}

// manyLetters is a group with so many dead letters of one key that nobody may read them all for one answer.
type manyLetters struct {
	Sources
	asked []api.LetterFilter
}

func (s *manyLetters) DeadLetters(_ context.Context, _ string, f api.LetterFilter) (*api.LetterList, error) {
	s.asked = append(s.asked, f)
	out := &api.LetterList{}
	if f.Seq == 7 {
		out.Letters = []api.Letter{{Number: 100_007, Seq: 7, Reason: "rejected"}}
	}
	return out, nil
}

func TestADeadLetterIsFoundAmongManyOfItsKeyWithOneQuestion(t *testing.T) {
	s := &manyLetters{}
	for seq, want := range map[uint64]string{7: api.PlaceDeadLetter, 8: api.PlaceDone} {
		s.asked = nil
		v := api.ExplainedGroup{Group: "billing", Partition: api.Partition{Done: 10}}
		m := api.Message{Partition: 3, Seq: seq, Key: "a%20b"}
		if err := (Explainer{s}).locate(t.Context(), &v, &m, 0); err != nil || v.Place != want {
			t.Errorf("message %d: %+v, %v", seq, v, err)
		}
		if want == api.PlaceDeadLetter && !strings.Contains(v.Note, "dlq show billing 100007") {
			t.Errorf("message %d: %s", seq, v.Note)
		}
		if len(s.asked) != 1 || s.asked[0].Seq != seq || *s.asked[0].Partition != 3 || s.asked[0].Key != "%=a%20b" {
			t.Errorf("message %d: asked %+v", seq, s.asked)
		}
	}
}

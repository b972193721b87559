package lane

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"leasehold/internal/ownership"
	"leasehold/worker/handler"
)

// batches is a handler of batches that logs each call as "from-to" and answers with a function.
type batches struct {
	script
	size   int
	answer func(ms []*handler.Message) handler.BatchResult
}

func (b *batches) BatchSize(int) int { return b.size }

func (b *batches) HandleBatch(ctx context.Context, ms []*handler.Message) handler.BatchResult {
	b.script.mu.Lock()
	b.script.calls = append(b.script.calls, fmt.Sprintf("%d-%d", ms[0].Seq, ms[len(ms)-1].Seq))
	b.script.mu.Unlock()
	if b.answer == nil {
		return handler.BatchResult{OK: len(ms)}
	}
	return b.answer(ms)
}

func newBatchStand(t *testing.T, h *batches, o testLaneOptions) *testLane {
	h.size = 4
	h.script.call = func(context.Context, *handler.Message) { time.Sleep(time.Second) } // Others come meanwhile.
	s := newTestLane(t, h, o)
	s.feedKeys(t, "a/1")
	synctest.Wait()
	return s
}

func TestBatchTakesWhatWaitsAndNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &batches{}
		s := newBatchStand(t, h, testLaneOptions{})
		s.feedKeys(t, "a/2", "b/3", "c/4", "a/5") // The queue holds four.
		time.Sleep(time.Second)
		s.feedKeys(t, "a/6")
		time.Sleep(time.Minute)
		wantCalls(t, &h.script, "1/1", "2-5", "6/1")
		wantDone(t, s.Lane, 6, 0)
		if n := s.Backlog(); n != 0 {
			t.Errorf("backlog %d", n)
		}
	})
}

func TestOnlyAPrefixOfABatchSucceeds(t *testing.T) {
	for name, c := range map[string]struct {
		answer handler.BatchResult
		calls  []string
	}{
		"the third fails": {handler.BatchResult{OK: 2, Named: true, Result: fails},
			[]string{"1/1", "2-5", "4/2", "5/1"}},
		"somebody fails": {handler.BatchResult{OK: 1, Result: fails}, []string{"1/1", "2-5", "3/1", "4/1", "5/1"}},
		"nobody is to blame": {handler.BatchResult{Result: handler.Result{Status: handler.Unavailable}},
			[]string{"1/1", "2-5", "2/1", "3-5"}},
		"the third is refused": {handler.BatchResult{OK: 2, Named: true, Result: refuses}, []string{"1/1", "2-5", "5/1"}},
		"all are refused":      {handler.BatchResult{Result: refuses}, []string{"1/1", "2-5", "2/1", "3/1", "4/1", "5/1"}},
		"the rest comes next":  {handler.BatchResult{OK: 2, Rest: true}, []string{"1/1", "2-5", "4-5"}},
		"more than there were": {handler.BatchResult{OK: 9}, []string{"1/1", "2-5"}},
		"less than nothing": {handler.BatchResult{OK: -1, Result: fails},
			[]string{"1/1", "2-5", "2/1", "3/1", "4/1", "5/1"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, box := &batches{}, &fakeDeadLetters{}
				first := true
				h.answer = func(ms []*handler.Message) handler.BatchResult {
					if !first {
						return handler.BatchResult{OK: len(ms)}
					}
					first = false
					return c.answer
				}
				s := newBatchStand(t, h, testLaneOptions{letters: box, policy: deadLetter()})
				s.feedKeys(t, "a/2", "b/3", "c/4", "a/5")
				time.Sleep(time.Hour)
				wantCalls(t, &h.script, c.calls...)
				wantDone(t, s.Lane, 5, 0)
			})
		})
	}
}

func TestPanicInABatchIsNobodysAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &batches{answer: func([]*handler.Message) handler.BatchResult { panic("ouch") }}
		s := newBatchStand(t, h, testLaneOptions{policy: deadLetter(), letters: &fakeDeadLetters{}})
		s.feedKeys(t, "a/2", "b/3")
		time.Sleep(time.Minute)
		wantCalls(t, &h.script, "1/1", "2-3", "2/1", "3/1")
		wantDone(t, s.Lane, 3, 0)
	})
}

func TestParkedKeysAreInNoBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, box := &batches{}, parkSome(t)
		s := newBatchStand(t, h, testLaneOptions{policy: parkingKeys(), letters: box,
			grant: ownership.Grant{Progress: ownership.Progress{DeadLetterSeq: 4}}})
		s.feedKeys(t, "c/11") // The stand's own message is of a parked key, so that no call of it lets others come meanwhile.
		synctest.Wait()
		s.feedKeys(t, "c/12", "d/13", "a/14", "c/15")
		time.Sleep(time.Minute)
		wantCalls(t, &h.script, "11/1", "12-13", "15/1")
		box.want(t, "parked a 5 parked 0; parked b 2 parked 0; parked a 1 parked 0; parked a 3 parked 0; parked a 14 "+
			"parked 0")
		wantDone(t, s.Lane, 15, 0)
	})
}

func TestNothingOfABatchCountsAfterCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &batches{}
		s := newBatchStand(t, h, testLaneOptions{})
		h.answer = func(ms []*handler.Message) handler.BatchResult {
			s.Cancel(errTest)
			return handler.BatchResult{OK: len(ms)}
		}
		s.feedKeys(t, "a/2", "b/3")
		<-s.Stopped()
		wantDone(t, s.Lane, 1, 0)
		if calls := h.log(); !slices.Equal(calls, []string{"1/1", "2-3"}) {
			t.Errorf("calls %v", calls)
		}
	})
}

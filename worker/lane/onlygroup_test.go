package lane

import (
	"testing"
	"testing/synctest"
	"time"

	"leasehold/internal/ownership"
	"leasehold/worker/header"
	"leasehold/worker/stream"
)

// feedFor pushes a message that was requeued for one group alone, "" for a message of a publisher.
func (s *testLane) feedFor(t *testing.T, group, key string, seq uint64) {
	t.Helper()
	e := &stream.Entry{Seq: seq, Subject: key}
	if group != "" {
		e.Headers = map[string][]string{header.OnlyGroup: {group}}
	}
	ok, wake := s.Push(e)
	if !ok {
		t.Fatalf("no room for message %d", seq)
	}
	if wake {
		s.Signal()
	}
}

func TestMessageForAnotherGroupIsPassedOverInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &script{}
		s := newTestLane(t, h, testLaneOptions{policy: Policy{Group: "billing", Commit: CommitEach}})
		for seq, group := range []string{"", "audit", "billing", "Billing", "audit"} {
			s.feedFor(t, group, "a", uint64(seq+1))
			synctest.Wait()
			wantDone(t, s.Lane, uint64(seq+1), 0)
		}
		wantCalls(t, h, "1/1", "3/1")
	})
}

// TestMessageForAnotherGroupIsInNoBatchAndNotParked: this group would requeue or release what was never its.
func TestMessageForAnotherGroupIsInNoBatchAndNotParked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, box := &batches{}, parkSome(t)
		policy := parkingKeys()
		policy.Group = "billing"
		s := newBatchStand(t, h, testLaneOptions{policy: policy, letters: box,
			grant: ownership.Grant{Progress: ownership.Progress{DeadLetterSeq: 4}}})
		before := box.text()
		s.feedKeys(t, "c/11")
		synctest.Wait()
		s.feedFor(t, "", "c", 12)
		s.feedFor(t, "audit", "a", 13) // Of a parked key.
		s.feedFor(t, "", "c", 14)
		s.feedFor(t, "", "d", 15)
		time.Sleep(time.Minute)
		wantCalls(t, &h.script, "11/1", "12/1", "14-15")
		wantDone(t, s.Lane, 15, 0)
		if after := box.text(); after != before {
			t.Errorf("letters %s, want %s", after, before)
		}
	})
}

// TestAttemptsOfAMessageForAnotherGroupEndWithIt: an owner of an earlier version called its handler with the message.
func TestAttemptsOfAMessageForAnotherGroupEndWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &script{}
		s := newTestLane(t, h, testLaneOptions{policy: Policy{Group: "billing", MaxAttempts: 3},
			grant: ownership.Grant{Progress: ownership.Progress{Checkpoint: 1, Attempt: 3}}})
		s.feedFor(t, "audit", "a", 2)
		s.feedFor(t, "", "a", 3)
		synctest.Wait()
		wantCalls(t, h, "3/1")
		wantDone(t, s.Lane, 3, 0)
	})
}

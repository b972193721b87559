package cluster

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"leasehold/cluster/lease"
)

// wantHeld fails the test unless every lane was cancelled at the cut, and none may start a call.
func (r *rig) wantHeld(lanes []*fakeLane, cut time.Time) {
	r.t.Helper()
	for _, l := range lanes {
		at, cause := l.cancelled()
		if late := at.Sub(cut); !errors.Is(cause, lease.ErrFenced) || late < 0 || late > margin/10 {
			r.t.Errorf("partition %d was cancelled %v after the cut, because of %v", l.Partition, late, cause)
		}
		if l.MayStart() {
			r.t.Errorf("partition %d may start a call", l.Partition)
		}
	}
	if n := len(r.running()); n > 0 {
		r.t.Errorf("%d lanes run behind a cut", n)
	}
}

// wantResumed fails the test unless every partition runs again, on a renewal that was sent after the cut.
func (r *rig) wantResumed(cut time.Time) {
	r.t.Helper()
	for _, l := range r.wantRunning(partitions) {
		if l.Epoch != 1 || !l.MayStart() || !r.fence().Add(margin-ttl).After(cut) {
			r.t.Errorf("partition %d goes on under epoch %d, may start: %v", l.Partition, l.Epoch, l.MayStart())
		}
	}
}

// TestCutOffStopsCallsAtOnce: the others may be about to bury this node, so nothing goes on until they are heard again.
func TestCutOffStopsCallsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, newMemory(), "n1", nil)
		time.Sleep(3300 * time.Millisecond)
		lanes, cut := r.wantRunning(partitions), time.Now()
		r.store.hang()
		r.driver.Isolated()
		for _, l := range lanes {
			if l.MayStart() {
				t.Errorf("partition %d may start a call right after the cut", l.Partition)
			}
		}
		time.Sleep(margin / 2)
		r.wantHeld(lanes, cut)
		r.store.heal()
		time.Sleep(2 * time.Second)
		r.wantResumed(cut)
		r.endWell()
	})
}

// answersLate has writes answered 300 ms after they landed, and no read show one that was not answered yet.
func answersLate(r *rig, _ *Options) { r.store.delay, r.store.stale = 300*time.Millisecond, 1 }

// untilRenewing waits until a renewal has been sent that is answered late, and returns the lanes.
func (r *rig) untilRenewing() []*fakeLane {
	r.t.Helper()
	time.Sleep(4 * time.Second)
	lanes, before := r.wantRunning(partitions), r.fence()
	for r.fence().Equal(before) {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(800 * time.Millisecond) // the next renewal is on its way
	return lanes
}

// TestCutOffStopsCallsWhileTheLoopIsStuck: and what the loop does with the answer that it finds first does not undo it.
func TestCutOffStopsCallsWhileTheLoopIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, newMemory(), "n1", answersLate)
		lanes := r.untilRenewing()
		release := make(chan struct{})
		r.driver.inbox.put(call{func(*lease.Core) { <-release }})
		time.Sleep(200 * time.Millisecond) // its answer waits before the stuck loop
		cut := time.Now()
		r.driver.Isolated()
		time.Sleep(margin / 4)
		r.wantHeld(lanes, cut)
		r.store.hang()
		close(release)
		time.Sleep(margin / 4)
		r.wantHeld(lanes, cut)
		if n := len(r.all()); n > partitions {
			t.Errorf("%d lanes resumed on a renewal from before the cut", n-partitions)
		}
		r.store.set(func(s *fakeStore) { s.delay, s.stale = 0, 0 })
		r.store.heal()
		time.Sleep(2 * time.Second)
		r.wantResumed(cut)
		r.endWell()
	})
}

// TestRenewalSentBeforeTheCutDoesNotResume: its answer says that nobody had buried us by then, not that nobody will.
func TestRenewalSentBeforeTheCutDoesNotResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, newMemory(), "n1", answersLate)
		lanes := r.untilRenewing()
		cut := time.Now()
		r.driver.Isolated()
		time.Sleep(250 * time.Millisecond) // and has been answered
		r.wantHeld(lanes, cut)
		r.store.set(func(s *fakeStore) { s.delay, s.stale = 0, 0 })
		time.Sleep(2 * time.Second)
		r.wantResumed(cut)
		r.endWell()
	})
}

// TestLaneThatDoesNotStopAtACutEndsTheProcess: in time for whoever waits for it, stuck loop or not.
func TestLaneThatDoesNotStopAtACutEndsTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, newMemory(), "n1", nil)
		time.Sleep(3 * time.Second)
		deaf := r.wantRunning(partitions)[1]
		deaf.behave(0, true)
		r.store.hang()
		release := make(chan struct{})
		r.driver.inbox.put(call{func(*lease.Core) { <-release }})
		cut := time.Now()
		r.driver.Isolated()
		time.Sleep(margin / 4)
		close(release)
		time.Sleep(margin)
		r.wantDeath(cut, "the cut")
		deaf.end()
		r.store.heal()
		r.endWell()
	})
}

// TestWitnessedNodeIsTakenOverAtOnce: a node that has just renewed, but whose process is proven to be gone.
func TestWitnessedNodeIsTakenOverAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		serverID := func(id string) func(*rig, *Options) {
			return func(_ *rig, o *Options) {
				o.Lease.Self.ServerID, o.Lease.Self.Provable = id, true
			}
		}
		n1, n2 := start(t, m, "n1", serverID("a")), start(t, m, "n2", serverID("b"))
		time.Sleep(20*time.Second + renew*7/10) // between two renewals, the last of which has been read
		n1.wantRunning(partitions / 2)
		n2.store.hang()
		n2.driver.Isolated() // what is left of it is no part of this
		read := func() lease.Observed {
			obs, err := n1.store.Read(t.Context(), lease.SessionKey("n2"))
			if err != nil {
				t.Fatal(err)
			}
			return obs
		}
		other, stale := read(), read()
		later := *other.Session
		later.ServerID = "c"
		other.Session = &later
		n1.driver.Witness(other, []string{"n3"})
		stale.Revision--
		n1.driver.Witness(stale, []string{"n3"})
		time.Sleep(margin / 2)
		n1.wantRunning(partitions / 2)
		n1.driver.Witness(read(), []string{"n3"})
		time.Sleep(margin / 2)
		n1.wantRunning(partitions)
		if s := m.session("n2"); s.State != lease.Dead {
			t.Errorf("the session of n2 is %s", s.State)
		}
		n2.store.heal()
		n1.endWell()
		n2.endWell()
	})
}

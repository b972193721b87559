package cluster

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"leasehold/cluster/lease"
)

// wantStopped fails the test unless every lane was cancelled at the cut, and none may start a call.
func (r *rig) wantStopped(lanes []*fakeLane, cut time.Time) {
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
			r.t.Errorf("partition %d runs under epoch %d, may start: %v", l.Partition, l.Epoch, l.MayStart())
		}
	}
}

// TestIsolationStopsCallsAtOnce: the others may be about to declare this node dead, so nothing resumes before a
// renewal.
func TestIsolationStopsCallsAtOnce(t *testing.T) {
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
		r.wantStopped(lanes, cut)
		r.store.heal()
		time.Sleep(2 * time.Second)
		r.wantResumed(cut)
		r.endWell()
	})
}

// repliesLate delays the replies to writes by 300 ms, and hides a write from reads until its reply has arrived.
func repliesLate(r *rig, _ *Options) { r.store.delay, r.store.stale = 300*time.Millisecond, 1 }

// untilRenewing waits until a renewal whose reply will be late has been sent, and returns the lanes.
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

// TestIsolationStopsCallsWhileTheLoopIsStuck: and the earlier reply, which the loop finds first, does not undo it.
func TestIsolationStopsCallsWhileTheLoopIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, newMemory(), "n1", repliesLate)
		lanes := r.untilRenewing()
		release := make(chan struct{})
		r.driver.inbox.put(call{func(*lease.Core) { <-release }})
		time.Sleep(200 * time.Millisecond) // its answer waits before the stuck loop
		cut := time.Now()
		r.driver.Isolated()
		time.Sleep(margin / 4)
		r.wantStopped(lanes, cut)
		r.store.hang()
		close(release)
		time.Sleep(margin / 4)
		r.wantStopped(lanes, cut)
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

// TestRenewalSentBeforeTheCutDoesNotResume: its reply shows that we were not declared dead by then, not that we will
// not be.
func TestRenewalSentBeforeTheCutDoesNotResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, newMemory(), "n1", repliesLate)
		lanes := r.untilRenewing()
		cut := time.Now()
		r.driver.Isolated()
		time.Sleep(250 * time.Millisecond) // and has been answered
		r.wantStopped(lanes, cut)
		r.store.set(func(s *fakeStore) { s.delay, s.stale = 0, 0 })
		time.Sleep(2 * time.Second)
		r.wantResumed(cut)
		r.endWell()
	})
}

// TestLaneThatDoesNotStopAtACutEndsTheProcess: in time for the nodes that wait for it, stuck loop or not.
func TestLaneThatDoesNotStopAtACutEndsTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, lanes := startOwner(t, newMemory(), 3*time.Second, nil)
		stuck := lanes[1]
		stuck.behave(0, true)
		r.store.hang()
		release := make(chan struct{})
		r.driver.inbox.put(call{func(*lease.Core) { <-release }})
		cut := time.Now()
		r.driver.Isolated()
		time.Sleep(margin / 4)
		close(release)
		time.Sleep(margin)
		r.wantTermination(cut, "the cut")
		stuck.end()
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
		n2.driver.Isolated() // its remains play no part here
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

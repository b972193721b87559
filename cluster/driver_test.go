package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"leasehold/cluster/lease"
	"leasehold/internal/ownership"
)

// The timing of these tests, that of a local network.
const (
	ttl             = 5 * time.Second
	renew           = time.Second
	margin          = time.Second
	partitions      = 4
	startCheckpoint = 100
)

// bubbleClock is the bubble's time plus an offset. Moving the offset is a suspend, in which no timer fires.
type bubbleClock struct {
	began  time.Time
	offset atomic.Int64
	slow   atomic.Int64 // How long a reading is held back before its reader gets it.
}

func (c *bubbleClock) Now() lease.Time {
	now := time.Hour + time.Since(c.began) + time.Duration(c.offset.Load())
	if slow := c.slow.Load(); slow > 0 {
		time.Sleep(time.Duration(slow))
	}
	return now
}

// fakeLane does nothing; the test sets its progress.
type fakeLane struct {
	ownership.Grant
	startedAt   time.Time
	stopped     chan struct{}
	join        time.Duration // From Cancel or Drain until it has stopped.
	ignoresStop bool          // It does not stop until the test says so.

	mu        sync.Mutex
	progress  ownership.Progress
	committed ownership.Progress
	cause     error
	causeAt   time.Time
	ended     bool
}

func (l *fakeLane) Drain() { l.stopLater() }

func (l *fakeLane) Cancel(cause error) {
	l.mu.Lock()
	if l.cause == nil {
		l.cause, l.causeAt = cause, time.Now()
	}
	l.mu.Unlock()
	l.stopLater()
}

func (l *fakeLane) stopLater() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ignoresStop {
		time.AfterFunc(l.join, l.end)
	}
}

func (l *fakeLane) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended {
		l.ended = true
		close(l.stopped)
	}
}

func (l *fakeLane) Stopped() <-chan struct{} { return l.stopped }

func (l *fakeLane) Progress() (ownership.Progress, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.progress, l.progress != l.committed
}

func (l *fakeLane) Committed(p ownership.Progress) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.committed = p
}

func (l *fakeLane) move(done uint64, attempt int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.progress = ownership.Progress{Checkpoint: done, Attempt: attempt}
}

func (l *fakeLane) stored() ownership.Progress {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.committed
}

// behave changes how the lane stops.
func (l *fakeLane) behave(join time.Duration, stuck bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.join, l.ignoresStop = join, stuck
}

func (l *fakeLane) running() bool {
	select {
	case <-l.stopped:
		return false
	default:
		return true
	}
}

func (l *fakeLane) cancelled() (time.Time, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.causeAt, l.cause
}

// rig is one node's driver with everything around it faked.
type rig struct {
	t      *testing.T
	name   string
	store  *fakeStore
	clock  *bubbleClock
	driver *Driver
	stop   context.CancelFunc
	result chan error

	mu         sync.Mutex
	lanes      []*fakeLane // Every one that was started, in order.
	boots      []uint64
	renewed    time.Time // When the newest session write known to have landed was sent.
	terminated []time.Time
}

// start runs a node's driver in the bubble until the test ends; change may alter how.
func start(t *testing.T, m *memory, name string, change func(*rig, *Options)) *rig {
	r := &rig{t: t, name: name, store: newFakeStore(m), clock: &bubbleClock{began: time.Now()},
		result: make(chan error, 1)}
	r.store.wrote = r.noteRenewal
	o := Options{
		Lease: lease.Config{
			Self:   lease.Session{Node: name, DirID: name, KernelBoot: "k", Weight: 1},
			Secret: name + fmt.Sprint(time.Now().UnixNano()),
			Groups: []lease.Group{{Name: "g", Partitions: partitions, Start: startCheckpoint, Handover: 2 * time.Second}},
			TTL:    ttl, Renew: renew, Margin: margin, WriteLimit: renew / 2, StabilizationWindow: renew,
			MinHold: 10 * time.Second,
		},
		Store: r.store, Clock: r.clock, SaveBoot: r.saveBoot, Start: r.startLane,
		CommitInterval: func(string) time.Duration { return 100 * time.Millisecond },
		Terminate:      r.terminate,
		Logger:         hclog.New(&hclog.LoggerOptions{Name: name, Output: t.Output(), Level: hclog.Debug}),
	}
	if change != nil {
		change(r, &o)
	}
	r.driver = New(o)
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	go func() { r.result <- r.driver.Run(ctx) }()
	return r
}

// startOwner runs n1 alone for a while, in which it claims every partition, and returns its lanes.
func startOwner(t *testing.T, m *memory, after time.Duration, change func(*rig, *Options)) (*rig, []*fakeLane) {
	t.Helper()
	r := start(t, m, "n1", change)
	time.Sleep(after)
	return r, r.wantRunning(partitions)
}

func (r *rig) noteRenewal(w lease.Write, sent time.Time) {
	if w.Key == lease.SessionKey(r.name) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.renewed = sent
	}
}

func (r *rig) saveBoot(boot uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.boots = append(r.boots, boot)
	return nil
}

func (r *rig) startLane(g ownership.Grant) Lane {
	l := &fakeLane{Grant: g, startedAt: time.Now(), stopped: make(chan struct{})}
	l.progress = g.Progress
	l.committed = l.progress
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lanes = append(r.lanes, l)
	return l
}

func (r *rig) terminate(string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.terminated = append(r.terminated, time.Now())
}

// terminations are the times at which the process would have been ended.
func (r *rig) terminations() []time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.terminated)
}

// wantTermination fails the test unless the process was ended, for a lane that did not stop, half a margin after since.
func (r *rig) wantTermination(since time.Time, what string) {
	r.t.Helper()
	died := r.terminations()
	if len(died) == 0 {
		r.t.Fatal("the process keeps running beside a lane that does not stop")
	}
	if late := died[0].Sub(since); late < margin/2 || late > margin/2+margin/5 {
		r.t.Errorf("the process ended %v after %s", late, what)
	}
}

// saved are the boot numbers on disk, in order.
func (r *rig) saved() []uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.boots)
}

// fence is when calls must have stopped, in the bubble's time and without suspends.
func (r *rig) fence() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.renewed.Add(ttl - margin)
}

// all returns every lane that was ever started.
func (r *rig) all() []*fakeLane {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.lanes)
}

// running returns the lanes that run.
func (r *rig) running() []*fakeLane {
	return slices.DeleteFunc(r.all(), func(l *fakeLane) bool { return !l.running() })
}

// wantRunning fails the test unless n lanes run, each of another partition, and returns them.
func (r *rig) wantRunning(n int) []*fakeLane {
	r.t.Helper()
	seen := map[int]bool{}
	lanes := r.running()
	for _, l := range lanes {
		seen[l.Partition] = true
	}
	if len(lanes) != n || len(seen) != n {
		r.t.Fatalf("%s runs %d lanes of %d partitions, wanted %d", r.name, len(lanes), len(seen), n)
	}
	return lanes
}

// end stops the driver if it runs and returns what Run returned. It must not take longer than limit of the bubble's
// time.
func (r *rig) end(limit time.Duration) error {
	r.t.Helper()
	r.stop()
	select {
	case err := <-r.result:
		if lanes := r.running(); len(lanes) > 0 {
			r.t.Errorf("Run of %s returned with %d lanes running", r.name, len(lanes))
		}
		return err
	case <-time.After(limit):
		r.t.Fatalf("Run of %s did not end within %v", r.name, limit)
		return nil
	}
}

// endWell stops the driver and fails the test if that does not end well.
func (r *rig) endWell() {
	r.t.Helper()
	if err := r.end(time.Minute); err != nil {
		r.t.Errorf("Run of %s ended with %v", r.name, err)
	}
}

func TestStartClaimsAndRunsLanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		r := start(t, m, "n1", nil)
		time.Sleep(3 * time.Second)
		for _, l := range r.wantRunning(partitions) {
			rec := m.lease("g", l.Partition)
			if l.Boot != 1 || l.Epoch != 1 || l.Grant.Progress.Checkpoint != startCheckpoint || rec.Owner != "n1" ||
				rec.Boot != 1 || rec.Epoch != l.Epoch {
				t.Errorf("lane %+v runs under the lease %+v", l.Grant, rec)
			}
			if !l.MayStart() {
				t.Errorf("partition %d may not start a call", l.Partition)
			}
		}
		if s := m.session("n1"); !slices.Equal(r.saved(), []uint64{1}) || s.Boot != 1 || s.State != lease.Live {
			t.Errorf("boots %v were saved, the session is %+v", r.saved(), s)
		}
		view, err := r.driver.Snapshot(t.Context())
		if err != nil || !view.Live || len(view.Groups) != 1 || view.Groups[0].Leases[0].Owner != "n1" {
			t.Errorf("the snapshot shows %+v: %v", view, err)
		}
		r.endWell()
	})
}

func TestFenceCountsFromTheSendOfTheRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, lanes := startOwner(t, newMemory(), 10*time.Second, func(r *rig, _ *Options) {
			r.store.delay = 300 * time.Millisecond
		})
		l := lanes[0]
		r.store.hang()
		for l.MayStart() {
			time.Sleep(time.Millisecond)
		}
		if late := time.Since(r.fence()); late < 0 || late > time.Millisecond {
			t.Errorf("calls end %v after the send of the last renewal + ttl - margin", late)
		}
		r.store.heal()
		r.endWell()
	})
}

func TestWatchdogCancelsLanesWhileTheLoopIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, lanes := startOwner(t, newMemory(), 3300*time.Millisecond, nil)
		release := make(chan struct{})
		r.driver.inbox.put(call{func(*lease.Core) { <-release }})
		time.Sleep(ttl)
		for _, l := range lanes {
			at, cause := l.cancelled()
			if late := at.Sub(r.fence()); !errors.Is(cause, lease.ErrFenced) || late < 0 || late > margin/10 {
				t.Errorf("partition %d was cancelled %v after the fence, because of %v", l.Partition, late, cause)
			}
		}
		if now := r.running(); len(now) > 0 {
			t.Errorf("%d lanes run behind the fence", len(now))
		}
		close(release)
		time.Sleep(2 * time.Second)
		for _, l := range r.wantRunning(partitions) {
			if l.Epoch != 1 || !l.MayStart() {
				t.Errorf("partition %d runs under epoch %d, may start: %v", l.Partition, l.Epoch, l.MayStart())
			}
		}
		r.endWell()
	})
}

// TestSuspendStopsCallsAtOnce: the machine sleeps for an hour. The check of the fence must not wait for any timer, and
// a renewal from before the sleep must not count after it.
func TestSuspendStopsCallsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, lanes := startOwner(t, newMemory(), 3300*time.Millisecond, nil)
		r.store.hang()
		r.clock.offset.Add(int64(time.Hour))
		woke := time.Now()
		for _, l := range lanes {
			if l.MayStart() {
				t.Errorf("partition %d may start a call right after the suspend", l.Partition)
			}
		}
		time.Sleep(3 * time.Second)
		for _, l := range lanes {
			if _, cause := l.cancelled(); !errors.Is(cause, lease.ErrFenced) {
				t.Errorf("partition %d was cancelled because of %v", l.Partition, cause)
			}
		}
		if n := len(r.all()); n > partitions {
			t.Errorf("%d lanes resumed without a renewal", n-partitions)
		}
		r.store.heal()
		time.Sleep(2 * time.Second)
		for _, l := range r.wantRunning(partitions) {
			if l.Epoch != 1 || l.startedAt.Before(woke) || r.fence().Add(margin-ttl).Before(woke) {
				t.Errorf("partition %d resumed under epoch %d, %v after waking up", l.Partition, l.Epoch, l.startedAt.Sub(woke))
			}
		}
		r.endWell()
	})
}

// TestRenewalAnsweredLateDoesNotResume: a reply that a suspend delayed shows that the session was live, not that it is.
func TestRenewalAnsweredLateDoesNotResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, lanes := startOwner(t, newMemory(), 4*time.Second, func(r *rig, _ *Options) {
			r.store.delay = 300 * time.Millisecond
		})
		before := r.fence()
		for r.fence().Equal(before) { // until just after an answer, so that the next renewal is a while away
			time.Sleep(time.Millisecond)
		}
		time.Sleep(800 * time.Millisecond) // the next one is on its way
		r.clock.offset.Add(int64(ttl - margin))
		time.Sleep(300 * time.Millisecond) // and its answer is back
		for _, l := range lanes {
			if l.MayStart() {
				t.Errorf("partition %d may start on a renewal sent before the suspend", l.Partition)
			}
		}
		time.Sleep(3 * time.Second)
		r.wantRunning(partitions)
		r.endWell()
	})
}

// TestLaneThatWasRefusedACallIsCancelled: a lane that may not start a call waits to be cancelled. Here the loop reads
// the clock just before the fence, is delayed until just after it, and then takes in the reply that moves the fence. So
// neither the loop nor the watchdog notices that the fence was reached.
func TestLaneThatWasRefusedACallIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, lanes := startOwner(t, newMemory(), 3050*time.Millisecond, func(_ *rig, o *Options) {
			o.Lease.WriteLimit = time.Minute
		})
		lane := lanes[0]
		held := make(chan struct{})
		r.store.set(func(s *fakeStore) { s.held, s.stale = held, 1 }) // nor may a read show that the renewal landed
		// sends fall on the loop's ticks, and so would the fence on the watchdog's
		const skew = 37 * time.Millisecond
		r.clock.offset.Add(int64(skew))
		time.Sleep(time.Until(r.fence()) - skew - time.Millisecond)
		r.clock.slow.Store(int64(5 * time.Millisecond))
		close(held)
		synctest.Wait()
		r.clock.slow.Store(0)
		time.Sleep(2 * time.Millisecond)
		if lane.MayStart() {
			t.Fatal("the lane may start a call behind the fence")
		}
		time.Sleep(2 * time.Second)
		if _, cause := lane.cancelled(); !errors.Is(cause, lease.ErrFenced) {
			t.Errorf("the lane that was refused a call was cancelled because of %v", cause)
		}
		for _, l := range r.wantRunning(partitions) {
			if !l.MayStart() || l.Epoch != 1 {
				t.Errorf("partition %d runs under epoch %d, may start: %v", l.Partition, l.Epoch, l.MayStart())
			}
		}
		r.endWell()
	})
}

func TestLaneThatDoesNotStopEndsTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, lanes := startOwner(t, newMemory(), 3*time.Second, nil)
		stuck := lanes[1]
		stuck.behave(0, true)
		r.store.hang()
		time.Sleep(ttl)
		r.wantTermination(r.fence(), "the fence")
		stuck.end()
		r.store.heal()
		r.endWell()
	})
}

func TestLanesThatStopInTimeDoNotEndTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, newMemory(), "n1", nil)
		time.Sleep(3 * time.Second)
		for _, l := range r.wantRunning(partitions) {
			l.behave(margin*4/10, false)
		}
		r.store.hang()
		time.Sleep(time.Minute)
		r.store.heal()
		time.Sleep(3 * time.Second)
		r.wantRunning(partitions)
		r.endWell()
		if n := len(r.terminations()); n > 0 {
			t.Errorf("the process was ended %d times", n)
		}
	})
}

func TestCleanStopHandsOverEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		n1 := start(t, m, "n1", nil)
		n2 := start(t, m, "n2", nil)
		time.Sleep(15 * time.Second)
		n2.wantRunning(partitions / 2)
		lanes := n1.wantRunning(partitions / 2)
		for _, l := range lanes {
			l.behave(300*time.Millisecond, false) // the call in flight at the stop succeeds
			time.AfterFunc(200*time.Millisecond, func() { l.move(startCheckpoint+50, 0) })
		}
		n1.endWell()
		ended := m.history(lease.SessionKey("n1"))
		last := ended[len(ended)-1]
		if last.Session.State != lease.Ended || last.Session.Boot != 1 {
			t.Errorf("the session was left as %+v", *last.Session)
		}
		for _, l := range lanes {
			n1.checkHandedOver(l, last.Revision)
		}
		time.Sleep(time.Second)
		for _, l := range n2.wantRunning(partitions) {
			if slices.ContainsFunc(lanes, func(o *fakeLane) bool {
				return o.Partition == l.Partition
			}) && l.Grant.Progress.Checkpoint != startCheckpoint+50 {
				t.Errorf("partition %d was taken over at %d", l.Partition, l.Grant.Progress.Checkpoint)
			}
		}
		n2.endWell()
	})
}

// checkHandedOver fails the test unless a write freed the lease with the lane's last progress, before the session
// ended.
func (r *rig) checkHandedOver(l *fakeLane, ended uint64) {
	r.t.Helper()
	for _, obs := range r.store.history(lease.Key{Group: "g", Partition: l.Partition}) {
		if obs.Lease.Owner == "" && obs.Lease.Epoch == l.Epoch {
			if obs.Lease.Checkpoint != startCheckpoint+50 || obs.Revision > ended {
				r.t.Errorf("partition %d was handed over as %+v at revision %d, the session ended at %d", l.Partition, *obs.Lease,
					obs.Revision, ended)
			}
			return
		}
	}
	r.t.Errorf("partition %d was not handed over", l.Partition)
}

func TestStopWithoutAStoreEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := startOwner(t, newMemory(), 3*time.Second, nil)
		r.store.hang()
		if err := r.end(ttl + renew); err != nil {
			t.Errorf("Run ended with %v", err)
		}
	})
}

func TestStopBeforeAnythingCouldBeReadEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, newMemory(), "n1", func(r *rig, _ *Options) { r.store.hang() })
		time.Sleep(time.Minute)
		if len(r.saved()) > 0 || len(r.all()) > 0 {
			t.Error("a session began though nothing could be read")
		}
		if err := r.end(renew); err != nil {
			t.Errorf("Run ended with %v", err)
		}
	})
}

func TestUnsavedBootEndsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := errors.New("the disk is full")
		m := newMemory()
		r := start(t, m, "n1", func(_ *rig, o *Options) { o.SaveBoot = func(uint64) error { return full } })
		if err := <-r.result; !errors.Is(err, full) {
			t.Errorf("Run ended with %v", err)
		}
		if h := m.history(lease.SessionKey("n1")); len(h) > 0 {
			t.Error("a session was written under a boot number that is not on disk")
		}
	})
}

func TestUrgentProgressIsStoredAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		r, lanes := startOwner(t, m, 3*time.Second, func(_ *rig, o *Options) {
			o.CommitInterval = func(string) time.Duration { return 30 * time.Second }
		})
		for _, l := range lanes {
			l.move(startCheckpoint, 1)
		}
		urgent := lanes[0]
		urgent.Wake()
		time.Sleep(10 * time.Millisecond)
		if got := m.lease("g", urgent.Partition).Attempt; got != 1 || urgent.stored().Attempt != 1 {
			t.Errorf("after a wake-up attempt %d is stored and attempt %d was committed", got, urgent.stored().Attempt)
		}
		if got := m.lease("g", lanes[1].Partition).Attempt; got != 0 {
			t.Error("progress that is not urgent was stored too")
		}
		time.Sleep(40 * time.Second)
		for _, l := range lanes {
			if got := m.lease("g", l.Partition).Attempt; got != 1 {
				t.Errorf("partition %d was not stored after its interval", l.Partition)
			}
		}
		r.endWell()
	})
}

func TestAbortJoinsLanesAndHandsNothingOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		r, lanes := startOwner(t, m, 3*time.Second, nil)
		for _, l := range lanes {
			l.behave(margin/4, false)
		}
		cause := errors.New("the broker gave up")
		r.driver.Abort(cause)
		if n := len(r.running()); n > 0 {
			t.Errorf("Abort returned with %d lanes running", n)
		}
		if err := <-r.result; !errors.Is(err, cause) {
			t.Errorf("Run ended with %v", err)
		}
		for _, l := range lanes {
			if rec := m.lease("g", l.Partition); rec.Owner != "n1" || l.MayStart() {
				t.Errorf("partition %d was left as %+v, may start: %v", l.Partition, rec, l.MayStart())
			}
		}
		if s := m.session("n1"); s.State != lease.Live {
			t.Errorf("the session was left %s", s.State)
		}
		r.driver.Abort(cause) // a second one does not wait for anything
	})
}

// TestSilentNodeIsTakenOverBehindItsFence: n1 is cut off. n2 may start its lanes only when those of n1 have ended.
func TestSilentNodeIsTakenOverBehindItsFence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		n1 := start(t, m, "n1", nil)
		var overlap atomic.Int32
		n2 := start(t, m, "n2", func(r *rig, o *Options) {
			o.Start = func(g ownership.Grant) Lane {
				for _, l := range n1.running() {
					if l.Partition == g.Partition {
						overlap.Add(1)
					}
				}
				return r.startLane(g)
			}
		})
		time.Sleep(15 * time.Second)
		n1.wantRunning(partitions / 2)
		n1.store.hang()
		time.Sleep(ttl + 2*time.Second)
		n2.wantRunning(partitions)
		if n := overlap.Load(); n > 0 {
			t.Errorf("%d lanes started beside another node's", n)
		}
		if s := m.session("n1"); s.State != lease.Dead || s.Boot != 1 {
			t.Errorf("the session of the silent node is %+v", s)
		}
		n1.store.heal()
		time.Sleep(15 * time.Second)
		for _, l := range n1.wantRunning(partitions / 2) {
			if l.Boot != 2 {
				t.Errorf("partition %d runs under boot %d after the node was declared dead", l.Partition, l.Boot)
			}
		}
		if n := overlap.Load(); n > 0 {
			t.Errorf("%d lanes started beside another node's", n)
		}
		n1.endWell()
		n2.endWell()
	})
}

func TestClaimWhoseAnswerIsLostIsClaimedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lost atomic.Int32
		m := newMemory()
		r := start(t, m, "n1", func(r *rig, _ *Options) {
			r.store.loseOne = func(w lease.Write) bool {
				return w.Lease != nil && w.Key.Partition == 2 && lost.Add(1) == 1
			}
			r.store.late = func(w lease.Write) bool {
				return w.Lease != nil && w.Key.Partition == 3 && w.Lease.Epoch == 1
			}
		})
		time.Sleep(6 * time.Second)
		for _, l := range r.wantRunning(partitions) {
			want := uint64(1)
			if l.Partition >= 2 {
				want = 2
			}
			if rec := m.lease("g", l.Partition); l.Epoch != want || rec.Epoch != want {
				t.Errorf("partition %d runs under epoch %d, its lease says %d", l.Partition, l.Epoch, rec.Epoch)
			}
		}
		r.endWell()
		r.store.lands.Wait()
	})
}

func TestStaleReadsDoNotHarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		n1 := start(t, m, "n1", func(r *rig, _ *Options) { r.store.stale = 2 })
		n2 := start(t, m, "n2", func(r *rig, _ *Options) { r.store.stale = 3 })
		time.Sleep(20 * time.Second)
		n1.wantRunning(partitions / 2)
		n2.wantRunning(partitions / 2)
		n1.endWell()
		time.Sleep(time.Second)
		n2.wantRunning(partitions)
		n2.endWell()
	})
}

func TestDeadNodeComesBackUnderANewBoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		r, lanes := startOwner(t, m, 3*time.Second, nil)
		for _, l := range lanes {
			l.behave(400*time.Millisecond, false)
		}
		h := m.history(lease.SessionKey("n1"))
		rec := *h[len(h)-1].Session
		rec.State, rec.Nonce = lease.Dead, ""
		if _, err := m.put(lease.Write{Key: lease.SessionKey("n1"), Revision: h[len(h)-1].Revision,
			Session: &rec}); err != nil {
			t.Fatal(err)
		}
		for len(r.saved()) < 2 {
			time.Sleep(time.Millisecond)
			if len(r.saved()) == 2 && slices.ContainsFunc(lanes, (*fakeLane).running) {
				t.Error("a new boot was taken before the lanes were joined")
			}
		}
		time.Sleep(10 * time.Second)
		for _, l := range r.wantRunning(partitions) {
			if l.Boot != 2 || l.Epoch != 2 {
				t.Errorf("partition %d runs under boot %d, epoch %d", l.Partition, l.Boot, l.Epoch)
			}
		}
		r.endWell()
	})
}

func TestDuplicateNameEndsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		r := start(t, m, "n1", nil)
		time.Sleep(3*time.Second + renew/2) // between two renewals
		h := m.history(lease.SessionKey("n1"))
		rec := *h[len(h)-1].Session
		rec.Boot, rec.DirID, rec.Nonce = 2, "another", "another"
		if _, err := m.put(lease.Write{Key: lease.SessionKey("n1"), Revision: h[len(h)-1].Revision,
			Session: &rec}); err != nil {
			t.Fatal(err)
		}
		if err := <-r.result; !errors.Is(err, lease.ErrNameTaken) {
			t.Errorf("Run ended with %v", err)
		}
		if n := len(r.running()); n > 0 {
			t.Errorf("Run returned with %d lanes running", n)
		}
	})
}

func TestRestartOnTheSameDirectoryDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		first := start(t, m, "n1", nil)
		time.Sleep(3 * time.Second)
		first.driver.Abort(errors.New("killed"))
		<-first.result
		again := start(t, m, "n1", func(_ *rig, o *Options) { o.Lease.Boot = 1 })
		time.Sleep(time.Second)
		for _, l := range again.wantRunning(partitions) {
			if l.Boot != 2 || l.Epoch != 2 {
				t.Errorf("partition %d runs under boot %d, epoch %d", l.Partition, l.Boot, l.Epoch)
			}
		}
		again.endWell()
	})
}

func TestDuplicateOfALiveNodeIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		n1 := start(t, m, "n1", nil)
		time.Sleep(3 * time.Second)
		duplicate := start(t, m, "n1", func(_ *rig, o *Options) { o.Lease.Self.DirID = "another" })
		if err := <-duplicate.result; !errors.Is(err, lease.ErrNameTaken) {
			t.Errorf("the duplicate ended with %v", err)
		}
		if len(duplicate.all()) > 0 || m.session("n1").DirID != "n1" {
			t.Error("the duplicate took part")
		}
		n1.wantRunning(partitions)
		n1.endWell()
	})
}

// TestStopGivesUpOnALeaseThatCannotBeWritten: a tool has deleted the record of a lease whose lane runs. No hand-over of
// it will ever land, though the session is renewed.
func TestStopGivesUpOnALeaseThatCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		r, _ := startOwner(t, m, 3*time.Second, nil)
		m.delete(lease.Key{Group: "g", Partition: 1})
		time.Sleep(time.Second)
		if err := r.end(20 * time.Second); err != nil {
			t.Errorf("Run ended with %v", err)
		}
		if s := m.session("n1"); s.State != lease.Ended {
			t.Errorf("the session was left %s, so that others wait for the rest", s.State)
		}
	})
}

package cluster

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"leasehold/cluster/lease"
	"leasehold/internal/every"
)

// watchdog cancels every lane at the fence. It takes no lock that is held during I/O, and waits for no queue and no
// reply: whatever hangs in this process, the calls of a session that may be over end.
type watchdog struct {
	clock     Clock
	margin    time.Duration
	terminate func(reason string) // Ends the process, with its children, at once.

	fence atomic.Int64 // The deadline as lease.Time. Written by the driver's loop only.

	cuts    atomic.Uint64 // How often this node was cut off,
	cutAt   atomic.Int64  // when last, as lease.Time,
	applied atomic.Uint64 // and how many of these cuts fence accounts for. Written by the driver's loop only, after fence.

	mu    sync.Mutex
	lanes map[lease.Key]*watched

	firedFor int64 // The fence at which the lanes were last cancelled. Owned by run, like the next.
	dueSince int64 // When that fence was first seen to have passed, no renewal having come in between.
}

// watched is a lane that the watchdog cancels.
type watched struct {
	Lane
	refused atomic.Bool // It was refused a call, so it waits to be cancelled.
}

func newWatchdog(clock Clock, margin time.Duration, terminate func(string)) *watchdog {
	return &watchdog{clock: clock, margin: margin, terminate: terminate, lanes: map[lease.Key]*watched{}}
}

// setFence moves the fence.
func (w *watchdog) setFence(f lease.Fence) {
	w.fence.Store(int64(f.At))
	w.applied.Store(f.Cut)
}

// isolated makes now the deadline until the loop sets a fence that accounts for this cut.
func (w *watchdog) isolated() lease.Isolated {
	now := w.clock.Now()
	w.cutAt.Store(int64(now))
	return lease.Isolated{N: w.cuts.Add(1), At: now}
}

// deadline is the fence, unless a cut is not in it yet. The fence is read last: one that was set by a loop that did not
// know of a cut never counts together with the news that the loop knows.
func (w *watchdog) deadline() int64 {
	if w.applied.Load() < w.cuts.Load() {
		return min(w.cutAt.Load(), w.fence.Load())
	}
	return w.fence.Load()
}

// mayStart checks the fence for a call of the lane. The check is the start of the call.
func (w *watchdog) mayStart(l *watched) bool {
	if int64(w.clock.Now()) < w.deadline() {
		return true
	}
	l.refused.Store(true)
	return false
}

func (w *watchdog) add(k lease.Key, l *watched) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lanes[k] = l
}

func (w *watchdog) remove(k lease.Key) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.lanes, k)
}

func (w *watchdog) running() map[lease.Key]*watched {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.lanes)
}

// run checks the fence ten times a margin until ctx ends. A single timer set to the fence would not do: timers run on
// the monotonic clock, so a suspend delays them by its length.
func (w *watchdog) run(ctx context.Context) { every.Loop(ctx, w.margin/10, w.checkFence) }

func (w *watchdog) checkFence() {
	w.cancelRefused()
	fence, now := w.deadline(), int64(w.clock.Now())
	if now < fence || fence == 0 {
		return
	}
	if w.firedFor != fence {
		w.firedFor = fence
		for _, l := range w.running() {
			l.Cancel(lease.ErrFenced)
		}
	}
	if w.dueSince < fence {
		w.dueSince = now
		if now-fence <= int64(2*w.margin/10) {
			w.dueSince = fence // the checks kept running, so this one is late by a tick only
		}
	}
	w.enforceStop(time.Duration(now - w.dueSince))
}

// cancelRefused cancels the lanes that were refused a call. Usually the fence has passed and they are about to be
// cancelled anyway. But a reply that moves the fence may arrive just as a lane checks the old one. Nothing else would
// notice then that the fence was reached, and the lane would wait forever.
func (w *watchdog) cancelRefused() {
	for _, l := range w.running() {
		if l.refused.Load() {
			l.Cancel(lease.ErrFenced)
		}
	}
}

// enforceStop ends the process if a lane outlives its cancellation by half a margin: other nodes may own its partition
// soon. The time is counted from the fence, and noticed a tenth of a margin later at most. Only a process that was
// stopped, or a machine that was suspended, counts from its first check: its lanes had no chance to stop before, and
// ending the process would end their calls no sooner than cancelling them does.
func (w *watchdog) enforceStop(late time.Duration) {
	if late < w.margin/2 {
		return
	}
	for k, l := range w.running() {
		select {
		case <-l.Stopped():
		default:
			w.terminate(fmt.Sprintf("the lane of %v did not stop within %v of being cancelled at the session's end",
				k, late))
			return
		}
	}
}

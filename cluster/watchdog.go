package cluster

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"leasehold/cluster/lease"
)

// watchdog cancels every lane at the fence. It stands behind no lock that is held during I/O, no queue and nothing that
// waits for an answer: whatever hangs in this process, the calls of a session that may be over end.
type watchdog struct {
	clock  Clock
	margin time.Duration
	die    func(reason string) // Ends the process, with its children, at once.

	fence atomic.Int64 // The deadline as lease.Time. Written by the driver's loop only.

	cuts  atomic.Uint64 // How often this node was cut off,
	cutAt atomic.Int64  // when last, as lease.Time,
	known atomic.Uint64 // and of how many of them fence knows. Written by the driver's loop only, after fence.

	mu    sync.Mutex
	lanes map[lease.Key]*watched
}

// watched is a lane that the watchdog cancels.
type watched struct {
	Lane
	refused atomic.Bool // It was told not to start a call, so it waits to be cancelled.
}

func newWatchdog(clock Clock, margin time.Duration, die func(string)) *watchdog {
	return &watchdog{clock: clock, margin: margin, die: die, lanes: map[lease.Key]*watched{}}
}

// set moves the fence.
func (w *watchdog) set(f lease.Fence) {
	w.fence.Store(int64(f.At))
	w.known.Store(f.Cut)
}

// cutOff makes now the deadline until the loop sets a fence that knows of it.
func (w *watchdog) cutOff() lease.CutOff {
	now := w.clock.Now()
	w.cutAt.Store(int64(now))
	return lease.CutOff{N: w.cuts.Add(1), At: now}
}

// deadline is the fence, unless a cut is not in it yet. The fence is looked at last: one that was set by a loop that did not
// know of a cut never counts together with the news that the loop knows.
func (w *watchdog) deadline() int64 {
	if w.known.Load() < w.cuts.Load() {
		return min(w.cutAt.Load(), w.fence.Load())
	}
	return w.fence.Load()
}

// mayStart is the look at the fence that is the start of a call of the lane.
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

// run looks at the fence ten times a margin. A single timer set to the fence would not do: timers run on the monotonic
// clock and so come late by the length of a suspend.
func (w *watchdog) run(ctx context.Context) {
	tick := time.NewTicker(w.margin / 10)
	defer tick.Stop()
	var fired int64 // The fence at which the lanes were last cancelled.
	var since int64 // When this was first seen to be due, no renewal having come in between.
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		w.releaseRefused()
		fence, now := w.deadline(), int64(w.clock.Now())
		if now < fence || fence == 0 {
			continue
		}
		if fired != fence {
			fired = fence
			for _, l := range w.running() {
				l.Cancel(lease.ErrFenced)
			}
		}
		if since < fence {
			since = now
			if now-fence <= int64(2*w.margin/10) {
				since = fence // the looks went on, so this one is late by a tick only
			}
		}
		w.insist(time.Duration(now - since))
	}
}

// releaseRefused cancels the lanes that were refused a call. As a rule the fence has passed and that is about to happen
// anyway. But an answer that moves the fence on may be taken in just as a lane looks at the old one; nobody else would
// ever notice that the fence was reached, and the lane would wait for good.
func (w *watchdog) releaseRefused() {
	for _, l := range w.running() {
		if l.refused.Load() {
			l.Cancel(lease.ErrFenced)
		}
	}
}

// insist ends the process if a lane outlives its cancellation by half a margin: other nodes may own its partition soon.
// That is counted from the fence, and is noticed a tenth of a margin later at most. Only a process that was stopped, or a
// machine that was suspended, counts from its first look: its lanes had no chance to stop before, and to end it would end
// their calls no sooner than to cancel them does.
func (w *watchdog) insist(late time.Duration) {
	if late < w.margin/2 {
		return
	}
	for k, l := range w.running() {
		select {
		case <-l.Stopped():
		default:
			w.die(fmt.Sprintf("the lane of %v did not stop within %v of being cancelled at the session's end", k, late))
			return
		}
	}
}

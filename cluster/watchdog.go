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

	mu    sync.Mutex
	lanes map[lease.Key]Lane
}

func newWatchdog(clock Clock, margin time.Duration, die func(string)) *watchdog {
	return &watchdog{clock: clock, margin: margin, die: die, lanes: map[lease.Key]Lane{}}
}

// mayStart is the look at the fence that is the start of a call.
func (w *watchdog) mayStart() bool { return int64(w.clock.Now()) < w.fence.Load() }

func (w *watchdog) add(k lease.Key, l Lane) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lanes[k] = l
}

func (w *watchdog) remove(k lease.Key) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.lanes, k)
}

func (w *watchdog) running() map[lease.Key]Lane {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.lanes)
}

// run looks at the fence ten times a margin. A single timer set to the fence would not do: timers run on the monotonic
// clock and so come late by the length of a suspend.
func (w *watchdog) run(ctx context.Context) {
	tick := time.NewTicker(w.margin / 10)
	defer tick.Stop()
	var fired int64
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		fence := w.fence.Load()
		late := int64(w.clock.Now()) - fence
		if late < 0 || fence == 0 {
			continue
		}
		if fired != fence {
			fired = fence
			for _, l := range w.running() {
				l.Cancel(lease.ErrFenced)
			}
		}
		w.insist(time.Duration(late))
	}
}

// insist ends the process if a lane outlives the fence by half a margin: other nodes may own its partition soon.
func (w *watchdog) insist(late time.Duration) {
	if late < w.margin/2 {
		return
	}
	for k, l := range w.running() {
		select {
		case <-l.Stopped():
		default:
			w.die(fmt.Sprintf("the lane of %v did not stop within %v of the session's end", k, late))
			return
		}
	}
}

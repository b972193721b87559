package lane

import (
	"context"
	"time"

	"github.com/hashicorp/go-hclog"

	"leasehold/internal/ownership"
	"leasehold/worker/handler"
)

// lifetime ends a lane, and holds every wait of its goroutine: the lane's end cuts each of them short. It has no lock
// of its own; contexts and channels need none.
type lifetime struct {
	ledger *ledger
	grant  *ownership.Grant
	op     operatorCommands
	log    hclog.Logger

	calls   context.Context // Parent of the calls' contexts; ends with cancel.
	cancel  context.CancelCauseFunc
	live    context.Context // Ends with drain too: every wait of the lane but the call itself.
	endLive context.CancelCauseFunc
	wake    chan struct{} // Something changed for a waiting lane: a message, a commit.
	stopped chan struct{}
}

// newLifetime returns the lifetime of a lane that has not been cancelled or drained.
func newLifetime(b *ledger, g *ownership.Grant, op operatorCommands, log hclog.Logger) lifetime {
	w := lifetime{ledger: b, grant: g, op: op, log: log, wake: make(chan struct{}, 1), stopped: make(chan struct{})}
	t := &handler.Turn{MayStart: g.MayStart, Queued: b.setQueued}
	w.calls, w.cancel = context.WithCancelCause(handler.WithTurn(context.Background(), t))
	w.live, w.endLive = context.WithCancelCause(w.calls)
	t.Live = w.live
	return w
}

// ended reports whether the lane was cancelled or drained.
func (w *lifetime) ended() bool { return w.live.Err() != nil }

// signal wakes up a waiting lane.
func (w *lifetime) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// awaitSignal waits for a signal. It returns false if the lane ends first.
func (w *lifetime) awaitSignal() bool {
	select {
	case <-w.wake:
		return true
	case <-w.live.Done():
		return false
	}
}

// awaitReady waits until ready is closed; nil always is. It returns false if the lane ends first.
func (w *lifetime) awaitReady(ready <-chan struct{}) bool {
	if ready == nil {
		return !w.ended()
	}
	select {
	case <-ready:
		return !w.ended()
	case <-w.live.Done():
		return false
	}
}

// passFence checks the fence. If that forbids to start anything, it waits until the lane ends and returns false.
func (w *lifetime) passFence() bool {
	if w.grant.MayStart() {
		return true
	}
	w.awaitEnd(StateFenced, "")
	return false
}

// awaitEnd does nothing until the lane ends.
func (w *lifetime) awaitEnd(state, fault string) {
	w.ledger.setState(state, fault)
	<-w.live.Done()
}

// halt stops at the head message, loudly, until the lane ends. The lease stays: another node would only fail as well.
// The way out is an operator's command; otherwise the next owner, or this one after a restart, tries once more.
func (w *lifetime) halt(state, fault string) step {
	w.log.Error("partition stopped at a message", "state", state, "error", fault)
	w.awaitEnd(state, fault)
	return stepEnd
}

// sleep waits for d. It returns false if the lane ends first.
func (w *lifetime) sleep(d time.Duration) bool { return w.sleepUntil(d, nil) }

// sleepUntil is sleep that also ends when early is closed. nil never is.
func (w *lifetime) sleepUntil(d time.Duration, early <-chan struct{}) bool {
	w.ledger.setRetry(d)
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-early:
	case <-w.live.Done():
		return false
	}
	return true
}

// awaitCommit waits until the progress that was marked as urgent is stored. It returns false if the lane ends first.
func (w *lifetime) awaitCommit() bool {
	for w.ledger.awaitsCommit() {
		if !w.awaitSignal() {
			return false
		}
	}
	return !w.ended()
}

// pause commits that the partition is paused, so that every later owner keeps it paused, and waits until the lane ends.
func (w *lifetime) pause(reason string) step {
	if !w.ledger.pause(reason) {
		return stepEnd
	}
	w.grant.Wake()
	w.log.Error("partition paused", "reason", reason)
	w.awaitResume(reason)
	return stepEnd
}

// awaitResume keeps the partition paused until the lane ends.
func (w *lifetime) awaitResume(reason string) {
	w.awaitEnd(StatePaused, reason+"; "+w.op.resume()+" lets it go on")
}

package worker

import (
	"context"
	"fmt"
	"time"
)

// step is what follows a call.
type step int

const (
	stepNext  step = iota // The message is finished.
	stepAgain             // Call again with the same message.
	stepEnd               // The lane ends.
)

// How long a handler may take to take note that a partition is gone. A lane that was cancelled must be joined within
// half the lease margin, or the node ends itself, so there is no time for manners.
const (
	revokeDrained   = 5 * time.Second
	revokeCancelled = 100 * time.Millisecond
)

// overdueGrace is how long after its deadline a call may still be giving up.
const overdueGrace = 5 * time.Second

// settle books the result of a call and decides what follows. It waits out the backoff.
func (l *Lane) settle(e *entry, r Result) step {
	if r.Status == OK {
		return l.settleOK(e)
	}
	if l.cancelled() {
		return stepEnd
	}
	wasDown := l.lastDown > 0
	if r.Status != Unavailable {
		l.lastDown = 0
	}
	switch r.Status {
	case Unavailable:
		return l.settleUnavailable(e, r, !wasDown)
	case Reject:
		return l.haltStep(StateBlocked, fmt.Sprintf("message %d was rejected: %s", e.seq, r.text()))
	case Pause:
		return l.haltStep(StatePaused, fmt.Sprintf("message %d: %s", e.seq, r.text()))
	case Retry, Timeout:
		return l.settleFailed(e, r)
	}
	r.Reason = fmt.Sprintf("the handler answered with an unknown status %q", r.Status)
	return l.settleFailed(e, r)
}

// settleOK counts the message as finished, unless the lane was cancelled first.
func (l *Lane) settleOK(e *entry) step {
	l.mu.Lock()
	if l.cause != nil {
		l.mu.Unlock()
		return stepEnd
	}
	each := l.config.Commit == CommitEach
	l.done, l.doneSince, l.attempt = e.seq, l.callSince, 0
	l.current, l.inCall, l.urgent = false, false, each
	l.state, l.fault = StateHeld, ""
	l.mu.Unlock()
	if l.lastDown > 0 {
		l.lastDown = 0
		l.log.Info("handler is available again")
	}
	if !each {
		return stepNext
	}
	l.grant.Wake()
	if !l.awaitCommit() {
		return stepEnd
	}
	return stepNext
}

// settleFailed raises the attempt. It must be stored before the retry starts: otherwise a node that dies in every
// call would hand the message on with a fresh count each time, for ever.
func (l *Lane) settleFailed(e *entry, r Result) step {
	attempt, ok := l.raiseAttempt(r)
	if !ok {
		return stepEnd
	}
	l.grant.Wake()
	if attempt >= l.config.MaxAttempts {
		return l.haltStep(StateBlocked, fmt.Sprintf("message %d failed %d times: %s", e.seq, attempt, r.text()))
	}
	if attempt == 1 {
		l.log.Warn("message failed, trying again", "seq", e.seq, "status", string(r.Status), "reason", r.text())
	} else {
		l.log.Debug("message failed again", "seq", e.seq, "attempt", attempt, "status", string(r.Status), "reason", r.text())
	}
	if !l.sleep(l.pause(r, attempt)) || !l.awaitCommit() {
		return stepEnd
	}
	return stepAgain
}

func (l *Lane) raiseAttempt(r Result) (attempt int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cause != nil {
		return 0, false
	}
	l.attempt++
	l.urgent, l.inCall = true, false
	l.state, l.fault = StateRetrying, r.text()
	return l.attempt, true
}

// settleUnavailable stalls the partition: it is not the message's fault.
func (l *Lane) settleUnavailable(e *entry, r Result, first bool) step {
	l.lastDown++
	l.setState(StateUnavailable, r.text())
	if first {
		l.log.Warn("handler is unavailable, the partition waits", "seq", e.seq, "reason", r.text())
	}
	if !l.sleep(l.pause(r, l.lastDown)) {
		return stepEnd
	}
	return stepAgain
}

// pause is how long to wait after the n-th failure in a row: as the handler says, or as configured.
func (l *Lane) pause(r Result, n int) time.Duration {
	if r.After > 0 {
		return r.After
	}
	return l.config.Backoff.wait(n)
}

// haltStep is halt as a step.
func (l *Lane) haltStep(state, fault string) step {
	l.halt(state, fault)
	return stepEnd
}

// halt stops at the head message, loudly, until the lane ends. The lease stays: another node would only fail as well.
// There is no way out in place; the next owner, or this one after a restart, makes one more try, and stops again if
// that fails, its attempt count being raised already.
func (l *Lane) halt(state, fault string) bool {
	l.setState(state, fault)
	l.log.Error("partition stopped at a message", "state", state, "error", fault)
	<-l.live.Done()
	return false
}

// sleep waits for d. It returns false if the lane ends first.
func (l *Lane) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-l.live.Done():
		return false
	}
}

// awaitCommit waits until the progress that was marked as urgent is stored. It returns false if the lane ends first.
func (l *Lane) awaitCommit() bool {
	for {
		l.mu.Lock()
		waiting := l.urgent
		l.mu.Unlock()
		if !waiting {
			return l.live.Err() == nil
		}
		select {
		case <-l.wake:
		case <-l.live.Done():
			return false
		}
	}
}

func (l *Lane) cancelled() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cause != nil
}

// assign tells the handler of the partition, again and again until it takes it. It returns false if the lane ends first.
func (l *Lane) assign() bool {
	a, ok := l.handler.(Assigner)
	if !ok {
		return true
	}
	for n := 1; ; n++ {
		if !l.grant.MayStart() {
			l.awaitEnd(StateFenced)
			return false
		}
		err := guard(func() error { return a.Assign(l.live, l.assignment()) })
		if err == nil || l.live.Err() != nil {
			return err == nil && l.live.Err() == nil
		}
		l.setState(StateUnavailable, err.Error())
		if n == 1 {
			l.log.Warn("handler does not take the partition", "error", err)
		}
		if !l.sleep(l.config.Backoff.wait(n)) {
			return false
		}
	}
}

// revoke tells the handler that the partition is gone.
func (l *Lane) revoke() {
	a, ok := l.handler.(Assigner)
	if !ok {
		return
	}
	reason := reasonRebalance
	if l.reason != nil {
		reason = l.reason()
	}
	// Not below l.calls: a partition that is lost is revoked too. But a Cancel cuts a slow revoke short.
	ctx, cancel := context.WithTimeout(context.Background(), revokeDrained)
	defer cancel()
	release := context.AfterFunc(l.calls, func() { time.AfterFunc(revokeCancelled, cancel) })
	defer release()
	if l.cancelled() && reason != reasonShutdown {
		reason = reasonLost
	}
	if err := guard(func() error { a.Revoke(ctx, l.assignment(), reason); return nil }); err != nil {
		l.log.Error("revoke", "error", err)
	}
}

func (l *Lane) assignment() Assignment {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Assignment{Partition: l.grant.Partition, Epoch: l.grant.Epoch, NextSeq: l.done + 1}
}

// guard turns a panic of a handler into an error.
func guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("handler panicked: %v", p)
		}
	}()
	return f()
}

// text is what a result says to people.
func (r Result) text() string {
	switch {
	case r.Reason != "":
		return r.Reason
	case r.Err != nil:
		return r.Err.Error()
	}
	return "no reason given (" + string(r.Status) + ")"
}

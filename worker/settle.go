package worker

import (
	"context"
	"fmt"
	"time"

	"leasehold/internal/brokererr"
	"leasehold/internal/failpoint"
)

// step is what follows a call.
type step int

const (
	stepNext  step = iota // The message is finished.
	stepAgain             // Call again with the same message.
	stepEnd               // The lane ends.
)

// overdueGrace is how long after its deadline a call may still be giving up.
const overdueGrace = 5 * time.Second

// settle books the result of a call with one message and decides what follows. It waits out the backoff.
func (l *Lane) settle(j *job, r Result) step {
	if r.Status == OK {
		return l.settleOK(j, 1)
	}
	if l.cancelled() {
		return stepEnd
	}
	switch r.Status {
	case Unavailable:
		return l.settleUnavailable(j.m.Seq, r)
	case Reject:
		return l.settleRejected(j, r)
	case Pause:
		return l.settlePause(j, r)
	case Retry, Timeout:
		return l.settleFailed(j, r)
	}
	r.Reason = fmt.Sprintf("the handler answered with an unknown status %q", r.Status)
	return l.settleFailed(j, r)
}

// settleOK counts a message, the last of n that succeeded together, as finished.
func (l *Lane) settleOK(j *job, n int) step {
	failpoint.Hit(failpoint.Handled)
	next := l.finished(j.m.Seq, n, 0)
	if next == stepEnd {
		return stepEnd
	}
	failpoint.Hit(failpoint.Finished)
	l.health.ok()
	if l.lastDown > 0 {
		l.lastDown = 0
		l.log.Info("handler is available again")
	}
	return next
}

// finished moves the checkpoint past a message, the last of n at hand, unless the lane was cancelled first. letter is its
// sequence among the dead letters, if it became one.
func (l *Lane) finished(seq uint64, n int, letter uint64) step {
	l.firstFail, l.evidence = time.Time{}, evidence{}
	l.mu.Lock()
	if l.cause != nil {
		l.mu.Unlock()
		return stepEnd
	}
	each := l.policy.Commit == CommitEach
	l.p.Checkpoint, l.p.Attempt, l.doneSince = seq, 0, l.callSince
	l.p.DeadLetterSeq = max(l.p.DeadLetterSeq, letter)
	l.current, l.inCall, l.urgent = l.current-n, false, each
	l.state, l.fault, l.retryAt = StateHeld, "", time.Time{}
	l.mu.Unlock()
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
func (l *Lane) settleFailed(j *job, r Result) step {
	attempt, ok := l.raiseAttempt(r)
	if !ok {
		return stepEnd
	}
	if attempt >= l.policy.MaxAttempts {
		return l.settleExhausted(j, r)
	}
	l.lastDown = 0
	if attempt == 1 {
		l.log.Warn("message failed, trying again", "seq", j.m.Seq, "status", string(r.Status), "reason", r.text())
	} else {
		l.log.Debug("message failed again", "seq", j.m.Seq, "attempt", attempt, "status", string(r.Status), "reason", r.text())
	}
	l.grant.Wake()
	if !l.sleep(l.pause(r, attempt)) || !l.awaitCommit() {
		return stepEnd
	}
	return stepAgain
}

// raiseAttempt counts a failure, up to the limit.
func (l *Lane) raiseAttempt(r Result) (attempt int, ok bool) {
	if l.firstFail.IsZero() {
		l.firstFail = time.Now()
	}
	l.evidence.failed(l.health.successes.Load())
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cause != nil {
		return 0, false
	}
	if l.p.Attempt < l.policy.MaxAttempts {
		l.p.Attempt++
		l.urgent = true
	}
	l.inCall = false
	l.state, l.fault = StateRetrying, r.text()
	return l.p.Attempt, true
}

// settleUnavailable stalls the partition: it is not the message's fault.
func (l *Lane) settleUnavailable(seq uint64, r Result) step {
	if r.notCalled() {
		if !l.sleep(r.After) {
			return stepEnd
		}
		return stepAgain
	}
	return l.stall(seq, r)
}

// stall waits until the handler may work again: as long as it or the backoff says, or until it works for another
// partition. It is logged once, however many tries it lasts.
func (l *Lane) stall(seq uint64, r Result) step {
	if l.lastDown == 0 {
		l.log.Warn("handler is unavailable, the partition waits", "seq", seq, "reason", r.text())
	}
	l.lastDown++
	l.setState(StateUnavailable, r.text())
	recovered := l.health.down()
	first := l.pause(r, l.lastDown)
	later := time.Duration(0)
	if r.After == 0 { // What works for others may not work here: the first wait is waited out.
		first, later = min(first, l.policy.Backoff.Initial), max(0, first-l.policy.Backoff.Initial)
	}
	if !l.sleep(first) || later > 0 && !l.sleepUntil(later, recovered) {
		return stepEnd
	}
	return stepAgain
}

// settlePause stores that the partition is paused, so that it stays so whoever owns it.
func (l *Lane) settlePause(j *job, r Result) step {
	reason := fmt.Sprintf("the handler asked for it at message %d: %s", j.m.Seq, r.text())
	l.mu.Lock()
	if l.cause != nil {
		l.mu.Unlock()
		return stepEnd
	}
	l.p.Paused, l.urgent = reason, true
	l.mu.Unlock()
	l.grant.Wake()
	l.log.Error("partition paused", "reason", reason)
	l.awaitResume(reason)
	return stepEnd
}

// awaitResume keeps the partition paused until the lane ends.
func (l *Lane) awaitResume(reason string) {
	l.awaitEnd(StatePaused, reason+"; "+l.resume()+" lets it go on")
}

// pause is how long to wait after the n-th failure in a row: as the handler says, or as configured.
func (l *Lane) pause(r Result, n int) time.Duration {
	if r.After > 0 {
		return r.After
	}
	return l.policy.Backoff.wait(n)
}

// haltStep is halt as a step.
func (l *Lane) haltStep(state, fault string) step {
	l.halt(state, fault)
	return stepEnd
}

// halt stops at the head message, loudly, until the lane ends. The lease stays: another node would only fail as well.
// The way out is a request of a person; else the next owner, or this one after a restart, makes one more try.
func (l *Lane) halt(state, fault string) bool {
	l.log.Error("partition stopped at a message", "state", state, "error", fault)
	l.awaitEnd(state, fault)
	return false
}

// sleep waits for d. It returns false if the lane ends first.
func (l *Lane) sleep(d time.Duration) bool { return l.sleepUntil(d, nil) }

// sleepUntil is sleep that also ends when early is closed. nil never is.
func (l *Lane) sleepUntil(d time.Duration, early <-chan struct{}) bool {
	l.mu.Lock()
	l.retryAt = time.Now().Add(d)
	l.mu.Unlock()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-early:
	case <-l.live.Done():
		return false
	}
	return true
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
			l.awaitEnd(StateFenced, "")
			return false
		}
		err := guard(func() error { return a.Assign(l.live, l.assignment()) })
		if err == nil || l.live.Err() != nil {
			return err == nil && l.live.Err() == nil
		}
		l.setState(StateUnavailable, brokererr.Text(err))
		if n == 1 {
			l.log.Warn("handler does not take the partition", "error", err)
		}
		if !l.sleep(l.policy.Backoff.wait(n)) {
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
	return Assignment{Partition: l.grant.Partition, Epoch: l.grant.Epoch, NextSeq: l.p.Checkpoint + 1}
}

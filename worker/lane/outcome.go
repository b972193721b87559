package lane

import (
	"context"
	"fmt"
	"time"

	"leasehold/internal/brokererr"
	"leasehold/internal/failpoint"
	"leasehold/worker/handler"
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

// applyResult books the result of a call with one message and decides what follows. It waits out the backoff.
func (l *Lane) applyResult(j *job, r handler.Result) step {
	if r.Status == handler.OK {
		return l.applyOK(j, 1)
	}
	if l.cancelled() {
		return stepEnd
	}
	switch r.Status {
	case handler.Unavailable:
		return l.applyUnavailable(j.m.Seq, r)
	case handler.Reject:
		return l.applyRejected(j, r)
	case handler.Pause:
		return l.applyPause(j, r)
	case handler.Retry, handler.Timeout:
		return l.applyFailure(j, r)
	}
	r.Reason = fmt.Sprintf("the handler answered with an unknown status %q", r.Status)
	return l.applyFailure(j, r)
}

// applyOK counts a message, the last of n that succeeded together, as finished.
func (l *Lane) applyOK(j *job, n int) step {
	failpoint.Hit(failpoint.Handled)
	next := l.advance(j.m.Seq, n, 0)
	if next == stepEnd {
		return stepEnd
	}
	failpoint.Hit(failpoint.Finished)
	l.o.Breaker.succeeded()
	if l.lastDown > 0 {
		l.lastDown = 0
		l.log.Info("handler recovered")
	}
	return next
}

// finished moves the checkpoint past a message, the last of n at hand, unless the lane was cancelled first. letter is
// its sequence among the dead letters, if it became one.
func (l *Lane) advance(seq uint64, n int, record uint64) step {
	l.firstFail, l.evidence = time.Time{}, evidence{}
	l.mu.Lock()
	if l.cause != nil {
		l.mu.Unlock()
		return stepEnd
	}
	each := l.o.Policy.Commit == CommitEach
	l.progress.Checkpoint, l.progress.Attempt, l.progressedAt = seq, 0, l.callSince
	l.progress.DeadLetterSeq = max(l.progress.DeadLetterSeq, record)
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

// applyFailure raises the attempt. It must be stored before the retry starts: otherwise a node that dies in every
// call would hand the message on with a fresh count each time, forever.
func (l *Lane) applyFailure(j *job, r handler.Result) step {
	attempt, ok := l.raiseAttempt(r)
	if !ok {
		return stepEnd
	}
	if attempt >= l.o.Policy.MaxAttempts {
		return l.applyExhausted(j, r)
	}
	l.lastDown = 0
	if attempt == 1 {
		l.log.Warn("message failed, trying again", "seq", j.m.Seq, "status", string(r.Status), "reason", r.Text())
	} else {
		l.log.Debug("message failed again", "seq", j.m.Seq, "attempt", attempt, "status", string(r.Status), "reason",
			r.Text())
	}
	l.grant.Wake()
	if !l.sleep(l.delay(r, attempt)) || !l.awaitCommit() {
		return stepEnd
	}
	return stepAgain
}

// raiseAttempt counts a failure, up to the limit.
func (l *Lane) raiseAttempt(r handler.Result) (attempt int, ok bool) {
	if l.firstFail.IsZero() {
		l.firstFail = time.Now()
	}
	l.evidence.failed(l.o.Breaker.successes.Load())
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cause != nil {
		return 0, false
	}
	if l.progress.Attempt < l.o.Policy.MaxAttempts {
		l.progress.Attempt++
		l.urgent = true
	}
	l.inCall = false
	l.state, l.fault = StateRetrying, r.Text()
	return l.progress.Attempt, true
}

// applyUnavailable stalls the partition: it is not the message's fault.
func (l *Lane) applyUnavailable(seq uint64, r handler.Result) step {
	if r.NotCalled() {
		if !l.sleep(r.After) {
			return stepEnd
		}
		return stepAgain
	}
	return l.stall(seq, r)
}

// stall waits until the handler may work again: as long as it or the backoff says, or until it works for another
// partition. It is logged once, however many tries it lasts.
func (l *Lane) stall(seq uint64, r handler.Result) step {
	if l.lastDown == 0 {
		l.log.Warn("handler is unavailable, the partition waits", "seq", seq, "reason", r.Text())
	}
	l.lastDown++
	l.setState(StateUnavailable, r.Text())
	recovered := l.o.Breaker.unavailable()
	first := l.delay(r, l.lastDown)
	later := time.Duration(0)
	if r.After == 0 { // What works for others may not work here: the first wait is waited out.
		first, later = min(first, l.o.Policy.Backoff.Initial), max(0, first-l.o.Policy.Backoff.Initial)
	}
	if !l.sleep(first) || later > 0 && !l.sleepUntil(later, recovered) {
		return stepEnd
	}
	return stepAgain
}

// applyPause stores that the partition is paused, so that it stays so whoever owns it.
func (l *Lane) applyPause(j *job, r handler.Result) step {
	reason := fmt.Sprintf("the handler asked for it at message %d: %s", j.m.Seq, r.Text())
	l.mu.Lock()
	if l.cause != nil {
		l.mu.Unlock()
		return stepEnd
	}
	l.progress.Paused, l.urgent = reason, true
	l.mu.Unlock()
	l.grant.Wake()
	l.log.Error("partition paused", "reason", reason)
	l.awaitResume(reason)
	return stepEnd
}

// awaitResume keeps the partition paused until the lane ends.
func (l *Lane) awaitResume(reason string) {
	l.awaitEnd(StatePaused, reason+"; "+l.resumeCommand()+" lets it go on")
}

// pause is how long to wait after the n-th failure in a row: as the handler says, or as configured.
func (l *Lane) delay(r handler.Result, n int) time.Duration {
	if r.After > 0 {
		return r.After
	}
	return l.o.Policy.Backoff.wait(n)
}

// haltStep is halt as a step.
func (l *Lane) haltAndEnd(state, fault string) step {
	l.halt(state, fault)
	return stepEnd
}

// halt stops at the head message, loudly, until the lane ends. The lease stays: another node would only fail as well.
// The way out is a request of an operator; else the next owner, or this one after a restart, makes one more try.
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

// assign tells the handler of the partition, again and again until it takes it. It returns false if the lane ends
// first.
func (l *Lane) assign() bool {
	a, ok := l.o.Handler.(handler.Assigner)
	if !ok {
		return true
	}
	for n := 1; ; n++ {
		if !l.grant.MayStart() {
			l.awaitEnd(StateFenced, "")
			return false
		}
		err := handler.Guard(func() error { return a.Assign(l.live, l.assignment()) })
		if err == nil || l.live.Err() != nil {
			return err == nil && l.live.Err() == nil
		}
		l.setState(StateUnavailable, brokererr.Text(err))
		if n == 1 {
			l.log.Warn("handler rejected the assignment", "error", err)
		}
		if !l.sleep(l.o.Policy.Backoff.wait(n)) {
			return false
		}
	}
}

// revoke tells the handler that the partition is gone.
func (l *Lane) revoke() {
	a, ok := l.o.Handler.(handler.Assigner)
	if !ok {
		return
	}
	reason := handler.ReasonRebalance
	if l.o.Reason != nil {
		reason = l.o.Reason()
	}
	// Not below l.calls: a partition that is lost is revoked too. But a Cancel cuts a slow revoke short.
	ctx, cancel := context.WithTimeout(context.Background(), handler.RevokeTimeout)
	defer cancel()
	release := context.AfterFunc(l.calls, func() { time.AfterFunc(handler.CancelledRevokeTimeout, cancel) })
	defer release()
	if l.cancelled() && reason != handler.ReasonShutdown {
		reason = handler.ReasonLost
	}
	if err := handler.Guard(func() error { a.Revoke(ctx, l.assignment(), reason); return nil }); err != nil {
		l.log.Error("revoke", "error", err)
	}
}

func (l *Lane) assignment() handler.Assignment {
	l.mu.Lock()
	defer l.mu.Unlock()
	return handler.Assignment{Partition: l.grant.Partition, Epoch: l.grant.Epoch, NextSeq: l.progress.Checkpoint + 1}
}

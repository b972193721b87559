package lane

import (
	"fmt"
	"time"

	"leasehold/internal/failpoint"
	"leasehold/internal/plural"
	"leasehold/partitioner"
	"leasehold/worker/deadletter"
	"leasehold/worker/handler"
)

// step is what follows a call.
type step int

const (
	stepNext  step = iota // The message is finished.
	stepAgain             // Call again with the same message.
	stepEnd               // The lane ends.
)

// outcome converts a step with one message to how many messages are finished, and false if the lane ends.
func outcome(next step) (finished int, ok bool) {
	if next == stepNext {
		return 1, true
	}
	return 0, next == stepAgain
}

// applyResult applies the result of a call with one message and decides what follows. It waits out the backoff.
func (l *Lane) applyResult(j *job, r handler.Result) step {
	if r.Status == handler.OK {
		return l.applyOK(j, 1)
	}
	if l.ledger.cancelled() {
		return stepEnd
	}
	switch r.Status {
	case handler.Unavailable:
		return l.attempts.unavailable(j.m.Seq, r)
	case handler.Reject:
		return l.applyRejected(j, r)
	case handler.Pause:
		return l.life.pause(pauseReason(j.m.Seq, r))
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
	l.attempts.succeeded()
	return next
}

// advance moves the checkpoint to seq, the last of n messages at hand, unless the lane was cancelled first. record is
// the message's sequence among the dead letters, 0 if it did not become one.
func (l *Lane) advance(seq uint64, n int, record uint64) step {
	l.attempts.nextMessage()
	each := l.o.Policy.Commit == CommitEach
	if !l.ledger.advance(seq, n, record, each) {
		return stepEnd
	}
	if !each {
		return stepNext
	}
	l.grant.Wake()
	if !l.life.awaitCommit() {
		return stepEnd
	}
	return stepNext
}

// applyFailure raises the attempt and waits for the next, unless it was the last.
func (l *Lane) applyFailure(j *job, r handler.Result) step {
	attempt, ok := l.attempts.raise(r)
	if !ok {
		return stepEnd
	}
	if attempt >= l.o.Policy.MaxAttempts {
		return l.applyExhausted(j, r)
	}
	return l.attempts.again(j.m.Seq, attempt, r)
}

// applyRejected dead-letters a message that will never work, unless the group skips nothing.
func (l *Lane) applyRejected(j *job, r handler.Result) step {
	if l.dead.skipsNothing() {
		return l.life.halt(StateBlocked, fmt.Sprintf("message %d was rejected: %s; %s", j.m.Seq, r.Text(),
			l.op.remedies(j.m.Seq)))
	}
	l.attempts.noteFailure(time.Now())
	record := l.dead.record(j, deadletter.ReasonRejected, r, l.attempts.firstFail)
	record.Attempts++
	return l.deadLetter(record)
}

// applyExhausted does with a message that used up its attempts what the group is configured to do.
func (l *Lane) applyExhausted(j *job, r handler.Result) step {
	l.grant.Wake()
	if l.dead.skipsNothing() {
		return l.life.halt(StateBlocked, fmt.Sprintf("message %d failed %s: %s; %s", j.m.Seq,
			plural.Of(l.o.Policy.MaxAttempts, "time"), r.Text(), l.op.remedies(j.m.Seq)))
	}
	if !l.life.awaitCommit() { // parkedKeys.load and alreadyDeadLettered rely on it.
		return stepEnd
	}
	switch l.attempts.blame() {
	case nobodyAtFault:
		if !l.life.sleep(l.o.Policy.Backoff.Initial) {
			return stepEnd
		}
		return stepAgain
	case handlerAtFault:
		r.Reason = fmt.Sprintf("circuit breaker open: %d messages in a row exhausted their attempts; retrying message %d "+
			"until it succeeds: %s; %s",
			tripThreshold, j.m.Seq, r.Text(), l.op.remedies(j.m.Seq))
		return l.attempts.stall(j.m.Seq, r)
	case messageAtFault:
	}
	record := l.dead.record(j, deadletter.ReasonMaxAttempts, r, l.attempts.firstFail)
	if l.o.Policy.OnExhausted == ExhaustedPark {
		record.Kind = partitioner.Parked
		l.parked.add(record.LetterKey)
	}
	return l.deadLetter(record)
}

// park dead-letters a message because an earlier one of its key was.
func (l *Lane) park(j *job) step {
	record := l.dead.record(j, deadletter.ReasonParked,
		handler.Result{Reason: "an earlier message of its key is parked"}, l.attempts.firstFail)
	record.Kind, record.Attempts = partitioner.Parked, 0
	return l.deadLetter(record)
}

// alreadyDeadLettered finds a message that a former owner dead-lettered but did not live to record as finished. Without
// this check it would be called again although nobody asked for it.
func (l *Lane) alreadyDeadLettered(j *job) (next step, done bool) {
	if l.dead.skipsNothing() {
		return stepNext, false
	}
	record := l.dead.record(j, deadletter.ReasonMaxAttempts, handler.Result{}, l.attempts.firstFail)
	found, ok := l.dead.has(record.DeadLetterPlace)
	switch {
	case !ok:
		return stepEnd, true
	case !found:
		return stepNext, false
	}
	return l.advance(j.m.Seq, 1, 0), true
}

// deadLetter stores a dead letter and then counts its message as finished: in this order, for only what is stored may
// be passed.
func (l *Lane) deadLetter(record *deadletter.Record) step {
	stored, ok := l.dead.store(record)
	if !ok {
		return stepEnd
	}
	failpoint.Hit(failpoint.LetterStored)
	l.attempts.lastDown = 0
	if record.Reason != deadletter.ReasonParked {
		l.log.Warn("message dead-lettered", "seq", record.Seq, "reason", string(record.Reason), "kind", string(record.Kind),
			"attempts", record.Attempts, "error", record.Error)
	}
	return l.advance(record.Seq, 1, stored)
}

// pauseReason is why a handler paused the partition.
func pauseReason(seq uint64, r handler.Result) string {
	return fmt.Sprintf("the handler asked for it at message %d: %s", seq, r.Text())
}

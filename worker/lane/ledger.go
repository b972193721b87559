package lane

import (
	"strings"
	"sync"
	"time"

	"leasehold/internal/ownership"
	"leasehold/worker/stream"
)

// overdueGrace is how long a call may take to give up after its deadline before it is reported as overdue.
const overdueGrace = 5 * time.Second

// When an idle lane's checkpoint follows the reader, for the topic's janitor only: each such move is a synced write.
const (
	idleBehind = 10_000
	idleAfter  = time.Minute
)

// ledger is the state that a lane's goroutine shares with the reader, the lease driver and status. mu guards all of it,
// the queue too: a lane is idle only if queue, progress and state say so at the same moment. Every method without
// "Locked" in its name takes mu; none waits or calls out of the ledger while it holds it.
type ledger struct {
	mu           sync.Mutex
	inbox        inbox
	progress     ownership.Progress // Checkpoint ≥ the grant's; never goes back.
	progressedAt time.Time          // When the checkpoint last moved, or the lane began.
	urgent       bool               // The lane waits until progress is committed.

	inCall    bool      // A call is in flight.
	callSince time.Time // When the latest call began, or its handler last stopped queueing it.
	queued    bool      // The handler lets the call wait for calls of other partitions.
	overdue   bool      // The call in flight has been reported as overdue.

	cause    error // Why the lane was cancelled; nil if it was not.
	draining bool

	state      string
	fault      string    // Error text that goes with state.
	retryAt    time.Time // When a lane that waits tries again; zero if it does not wait for a time.
	gap        string    // Which messages are missing; "" if none.
	parkedKeys int       // How many keys are parked.
	unreleased string    // Why the last released message that used up its attempts failed; "" if none has.
}

func (l *ledger) drain() {
	l.mu.Lock()
	l.draining = true
	l.mu.Unlock()
}

// cancel notes why the lane is cancelled. The first cause counts.
func (l *ledger) cancel(cause error) {
	l.mu.Lock()
	if l.cause == nil {
		l.cause = cause
	}
	l.mu.Unlock()
}

func (l *ledger) cancelled() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cause != nil
}

// endingLocked reports whether the lane starts no further call.
func (l *ledger) endingLocked() bool { return l.draining || l.cause != nil }

// stop leaves the state of a lane that only answers questions.
func (l *ledger) stop() {
	l.mu.Lock()
	l.inbox.queue.drop()
	l.state, l.urgent, l.inbox.current, l.inCall = StateStopped, false, 0, false
	l.mu.Unlock()
}

func (l *ledger) push(e *stream.Entry) (ok, wake bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inbox.push(e)
}

// next takes the next message. It returns false for ok if there is none, which the lane then waits for, or if the lane
// ends (ending); freed says that the reader can push again.
func (l *ledger) next() (e stream.Entry, ok, ending, freed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.endingLocked() {
		return stream.Entry{}, false, true, false
	}
	e, ok = l.inbox.take()
	l.inbox.waiting = !ok
	return e, ok, false, l.inbox.capacityFreed()
}

// nextWithin takes the next message if there is one of at most that many bytes. freed is as for next.
func (l *ledger) nextWithin(bytes int) (e stream.Entry, ok, freed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.endingLocked() || !l.inbox.queue.fits(bytes) {
		return stream.Entry{}, false, false
	}
	e, ok = l.inbox.take()
	return e, ok, l.inbox.capacityFreed()
}

// begin notes that a call begins, and returns how many attempts of the head message have failed. It returns false if
// the lane ends.
func (l *ledger) begin(now time.Time) (failed int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.endingLocked() {
		return 0, false
	}
	l.inCall, l.callSince = true, now
	return l.progress.Attempt, true
}

// beginReleased notes that a call of a released message begins. It returns the time, and false if the lane ends.
func (l *ledger) beginReleased() (now time.Time, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ok, now = !l.endingLocked(), time.Now()
	l.inCall, l.callSince = ok, now
	return now, ok
}

// callBegan returns when the latest call began.
func (l *ledger) callBegan() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.callSince
}

// setQueued notes whether the handler lets the call in flight wait. The call's time begins when it stops waiting.
func (l *ledger) setQueued(queued bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queued, l.callSince = queued, time.Now()
}

// checkOverdue reports, once per call, that the call in flight is overdue.
func (l *ledger) checkOverdue(now time.Time, timeout time.Duration) (first bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	late := l.inCall && !l.queued && now.Sub(l.callSince) > timeout+overdueGrace
	first = late && !l.overdue
	l.overdue = late
	return first
}

// advance moves the checkpoint to seq, the last of n finished messages, unless the lane is cancelled. record is the
// message's sequence among the dead letters, 0 if it did not become one. urgent says that the lane will wait for the
// commit.
func (l *ledger) advance(seq uint64, n int, record uint64, urgent bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cause != nil {
		return false
	}
	l.progress.Checkpoint, l.progress.Attempt, l.progressedAt = seq, 0, l.callSince
	l.progress.DeadLetterSeq = max(l.progress.DeadLetterSeq, record)
	l.inbox.current, l.inCall, l.urgent = l.inbox.current-n, false, urgent
	l.state, l.fault, l.retryAt = StateHeld, "", time.Time{}
	return true
}

// raiseAttempt counts a failure of the head message, up to the limit, and returns its failed attempts. It returns false
// if the lane is cancelled.
func (l *ledger) raiseAttempt(limit int, fault string) (attempt int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cause != nil {
		return 0, false
	}
	if l.progress.Attempt < limit {
		l.progress.Attempt++
		l.urgent = true
	}
	l.inCall = false
	l.state, l.fault = StateRetrying, fault
	return l.progress.Attempt, true
}

// failedAttempts returns how many attempts of the head message have failed.
func (l *ledger) failedAttempts() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.progress.Attempt
}

// pause marks the partition as paused, to be committed. It returns false if the lane is cancelled.
func (l *ledger) pause(reason string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cause != nil {
		return false
	}
	l.progress.Paused, l.urgent = reason, true
	return true
}

// toRelease returns the keys that are left to release. Only the lane's goroutine may call it: nobody else writes them.
func (l *ledger) toRelease() []string { return strings.Fields(l.progress.Release) }

// deadLetterSeq returns the progress's DeadLetterSeq. Only the lane's goroutine may call it: nobody else writes it.
func (l *ledger) deadLetterSeq() uint64 { return l.progress.DeadLetterSeq }

// setToRelease notes which keys are left to release, to be committed.
func (l *ledger) setToRelease(left []string) {
	l.mu.Lock()
	l.progress.Release, l.urgent = strings.Join(left, " "), true
	l.mu.Unlock()
}

// parkedLoaded notes that the dead letters up to last were read. If keys are parked, the next owner has to read them
// too, so from now on the lease names a dead letter.
func (l *ledger) parkedLoaded(some bool, last uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.progress.CheckDeadLetters = false
	if some {
		l.progress.DeadLetterSeq = max(l.progress.DeadLetterSeq, last)
	}
}

func (l *ledger) setParkedKeys(n int) {
	l.mu.Lock()
	l.parkedKeys = n
	l.mu.Unlock()
}

func (l *ledger) setUnreleased(text string) {
	l.mu.Lock()
	l.unreleased = text
	l.mu.Unlock()
}

// setState says what the lane is doing instead of a call.
func (l *ledger) setState(state, fault string) {
	l.mu.Lock()
	l.state, l.fault, l.inCall, l.retryAt = state, fault, false, time.Time{}
	l.mu.Unlock()
}

func (l *ledger) setRetry(after time.Duration) {
	l.mu.Lock()
	l.retryAt = time.Now().Add(after)
	l.mu.Unlock()
}

// setGap notes which messages are missing, and reports whether that has changed.
func (l *ledger) setGap(text string) (changed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	changed = l.gap != text
	l.gap = text
	return changed
}

// current returns the progress, and whether the lane waits until it is committed.
func (l *ledger) current() (p ownership.Progress, urgent bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.progress, l.urgent
}

// committed notes that p is stored, and reports whether the lane waits for just that.
func (l *ledger) committed(p ownership.Progress) (satisfied bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	satisfied = l.urgent && p == l.progress
	if satisfied {
		l.urgent = false
	}
	return satisfied
}

// awaitsCommit reports whether the lane waits until its progress is committed.
func (l *ledger) awaitsCommit() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.urgent
}

func (l *ledger) checkpoint() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.progress.Checkpoint
}

func (l *ledger) backlog() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inbox.backlog()
}

func (l *ledger) mayIdle(position uint64, now time.Time, pressed bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if position <= l.progress.Checkpoint || !l.idleLocked() {
		return false
	}
	return pressed || position-l.progress.Checkpoint > idleBehind || now.Sub(l.progressedAt) >= idleAfter
}

func (l *ledger) idleTo(position uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if position > l.progress.Checkpoint && l.idleLocked() {
		l.progress.Checkpoint, l.progress.Attempt, l.progressedAt = position, 0, time.Now()
		l.inbox.last = max(l.inbox.last, position)
	}
}

// idleLocked reports whether nothing is queued or in flight. A lane that ends does not move any more, for its owner may
// be writing its last checkpoint.
func (l *ledger) idleLocked() bool {
	return l.inbox.backlog() == 0 && l.progress.Attempt == 0 && !l.urgent && l.state == StateHeld && l.gap == "" &&
		!l.endingLocked()
}

// status fills in what the ledger knows.
func (l *ledger) status(s *Status) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.Checkpoint, s.Attempt, s.RetryAt = l.progress.Checkpoint, l.progress.Attempt, l.retryAt
	s.State, s.Error, s.Parked, s.Unreleased = l.state, l.fault, l.parkedKeys, l.unreleased
	switch {
	case s.State == StateStopped:
	case l.overdue:
		s.State, s.Error = StateOverdue, "the handler call is overdue: its deadline has passed"
	case l.endingLocked():
		s.State = StateDraining
	case l.gap != "" && l.inbox.backlog() == 0:
		s.State, s.Error = StateGap, l.gap
	}
}

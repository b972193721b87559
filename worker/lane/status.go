package lane

import "time"

// When an idle lane's checkpoint follows the reader, for the topic's janitor only: each such move is a synced write.
const (
	idleBehind = 10_000
	idleAfter  = time.Minute
)

// Backlog returns how many messages the lane has been given and has not finished.
func (l *Lane) Backlog() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.backlogLocked()
}

func (l *Lane) backlogLocked() uint64 {
	return uint64(l.queue.len() + l.current)
}

// MayIdle reports whether done should follow to position.
func (l *Lane) MayIdle(position uint64, now time.Time, pressed bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if position <= l.progress.Checkpoint || !l.idleLocked() {
		return false
	}
	return pressed || position-l.progress.Checkpoint > idleBehind || now.Sub(l.progressedAt) >= idleAfter
}

// IdleTo moves the checkpoint of an idle lane to position. The caller has read position before: a message that was
// pushed up to then is in the queue, in flight or finished, and one that is pushed later is above it.
func (l *Lane) IdleTo(position uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if position > l.progress.Checkpoint && l.idleLocked() {
		l.progress.Checkpoint, l.progress.Attempt, l.progressedAt = position, 0, time.Now()
		l.last = max(l.last, position)
	}
}

// idleLocked reports whether nothing is queued or in flight. A lane that ends does not move any more, for its owner may
// be writing its last done.
func (l *Lane) idleLocked() bool {
	return l.backlogLocked() == 0 && l.progress.Attempt == 0 && !l.urgent && l.state == StateHeld && l.gap == "" &&
		l.cause == nil && !l.draining
}

// SetGap says which messages are missing; "" if they have been found.
func (l *Lane) SetGap(text string) {
	l.mu.Lock()
	changed := l.gap != text
	l.gap = text
	l.mu.Unlock()
	if changed && text != "" {
		l.log.Error("partition stopped at a gap in its topic", "error", text)
	}
}

// setQueued notes whether the handler lets the call in flight wait. Its time begins when it waits no longer.
func (l *Lane) setQueued(queued bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queued, l.callSince = queued, time.Now()
}

// CheckOverdue reports once per call that it has not returned long after its deadline.
func (l *Lane) CheckOverdue(now time.Time) {
	l.mu.Lock()
	late := l.inCall && !l.queued && now.Sub(l.callSince) > l.o.Policy.Timeout+overdueGrace
	first := late && !l.overdue
	l.overdue = late
	l.mu.Unlock()
	if first {
		l.log.Error("handler call is overdue", "timeout_ms", l.o.Policy.Timeout.Milliseconds())
	}
}

// Status is what there is to know about a lane.
type Status struct {
	Partition  int
	Epoch      uint64
	Checkpoint uint64
	Lag        *uint64 // Messages after Done that this node's replica of the topic has; nil if unknown.
	Passed     uint64  // Of the topic, the last sequence whose message Lag would count; 0 if that is not known.
	State      string
	Attempt    int
	Error      string
	RetryAt    time.Time // When it tries again; zero if it does not wait for a time.
	Parked     int       // Keys whose messages are dead-lettered.

	// Why the last released message that used up its attempts failed; "" if none has since the lane began.
	Unreleased string
}

// Status returns what the lane is doing. The caller fills in Lag and Passed.
func (l *Lane) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Status{
		Partition: l.grant.Partition, Epoch: l.grant.Epoch,
		Checkpoint: l.progress.Checkpoint, Attempt: l.progress.Attempt, RetryAt: l.retryAt, Parked: l.parkedKeys,
		State: l.state, Error: l.fault,
		Unreleased: l.unreleased,
	}
	switch {
	case s.State == StateStopped:
	case l.overdue:
		s.State, s.Error = StateOverdue, "the handler call is overdue: its deadline has passed"
	case l.draining || l.cause != nil:
		s.State = StateDraining
	case l.gap != "" && l.backlogLocked() == 0:
		s.State, s.Error = StateGap, l.gap
	}
	return s
}

// Checkpoint returns the sequence up to which all messages are finished.
func (l *Lane) Checkpoint() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.progress.Checkpoint
}

package lane

import "time"

// Status describes a lane at a moment.
type Status struct {
	Partition  int
	Epoch      uint64
	Checkpoint uint64
	Lag        *uint64 // Messages after Checkpoint that this node's replica of the topic has; nil if unknown.
	Passed     uint64  // The topic's last sequence that Lag accounts for; 0 if that is not known.
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
	s := Status{Partition: l.grant.Partition, Epoch: l.grant.Epoch}
	l.ledger.status(&s)
	return s
}

// Checkpoint returns the sequence up to which all messages are finished.
func (l *Lane) Checkpoint() uint64 { return l.ledger.checkpoint() }

// Backlog returns how many messages the lane has been given and has not finished.
func (l *Lane) Backlog() uint64 { return l.ledger.backlog() }

// MayIdle reports whether the checkpoint of an idle lane should follow the reader to position: if it has fallen far
// behind, if the last move was long ago, or if pressed.
func (l *Lane) MayIdle(position uint64, now time.Time, pressed bool) bool {
	return l.ledger.mayIdle(position, now, pressed)
}

// IdleTo moves the checkpoint of an idle lane to position. The caller has read position before: a message that was
// pushed up to then is in the queue, in flight or finished, and one that is pushed later is above it.
func (l *Lane) IdleTo(position uint64) { l.ledger.idleTo(position) }

// SetGap says which messages are missing; "" if they have been found.
func (l *Lane) SetGap(text string) {
	if l.ledger.setGap(text) && text != "" {
		l.log.Error("partition stopped at a gap in its topic", "error", text)
	}
}

// CheckOverdue logs, once per call, that it has not returned long after its deadline.
func (l *Lane) CheckOverdue(now time.Time) {
	if timeout := l.o.Policy.Timeout; l.ledger.checkOverdue(now, timeout) {
		l.log.Error("handler call is overdue", "timeout_ms", timeout.Milliseconds())
	}
}

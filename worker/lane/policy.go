package lane

import (
	"cmp"
	"fmt"
	"time"

	"leasehold/worker/handler"
)

// When a group's progress is stored.
const (
	CommitInterval = "interval" // Every commit_interval, if it moved.
	CommitEach     = "each"     // After every message.
)

// What becomes of a message that has used up its attempts.
const (
	ExhaustedDeadLetter = "dead_letter" // It is dead-lettered; the next one follows.
	ExhaustedBlock      = "block"       // The partition stays there: nothing is ever skipped.
	// It and every later one of its key are dead-lettered, in order; other keys continue.
	ExhaustedPark = "park_key"
)

// Policy is what a group wants its lanes to do with their messages.
type Policy struct {
	Group       string
	Commit      string // CommitInterval or CommitEach.
	Timeout     time.Duration
	MaxAttempts int
	Backoff     Backoff
	OnExhausted string // ExhaustedDeadLetter, ExhaustedBlock or ExhaustedPark.
}

// DefaultPolicy returns the policy of a group that says nothing. The name is the user's.
func DefaultPolicy() Policy {
	return Policy{
		Commit: CommitInterval, Timeout: 30 * time.Second, MaxAttempts: 8, Backoff: DefaultBackoff(),
		OnExhausted: ExhaustedDeadLetter,
	}
}

// WithDefaults returns p with its zero fields filled in.
func (p Policy) WithDefaults() Policy {
	d := DefaultPolicy()
	p.Commit, p.Timeout = cmp.Or(p.Commit, d.Commit), cmp.Or(p.Timeout, d.Timeout)
	p.MaxAttempts, p.OnExhausted = cmp.Or(p.MaxAttempts, d.MaxAttempts), cmp.Or(p.OnExhausted, d.OnExhausted)
	p.Backoff = p.Backoff.WithDefaults()
	return p
}

// Follows says what a lane of the group does after such an answer to a call with this attempt.
func (p Policy) Follows(r handler.Result, attempt int) string {
	skipsNothing := p.OnExhausted == ExhaustedBlock
	switch {
	case r.Status == handler.OK:
		return "the message is done, the next one follows"
	case r.Status == handler.Unavailable:
		return fmt.Sprintf("the partition waits, then the same message again %s; no attempt is counted", p.after(r, 1))
	case r.Status == handler.Pause:
		return "the partition is paused until an operator resumes it"
	case r.Status == handler.Reject && skipsNothing:
		return "the partition stops at the message, loudly (on_exhausted = \"block\")"
	case r.Status == handler.Reject:
		return "the message becomes a dead letter, the next one follows"
	case attempt < p.MaxAttempts:
		return fmt.Sprintf("the same message again %s, as attempt %d of %d; later ones of its partition wait",
			p.after(r, attempt), attempt+1, p.MaxAttempts)
	case skipsNothing:
		return "no attempts are left: the partition stops at the message, loudly (on_exhausted = \"block\")"
	case p.OnExhausted == ExhaustedPark:
		return "no attempts are left: the message is parked, and every later one of its key behind it; other keys continue"
	}
	return "no attempts are left: the message becomes a dead letter, the next one follows"
}

// after says how long a lane waits after the n-th failure.
func (p Policy) after(r handler.Result, n int) string {
	if r.After > 0 {
		return fmt.Sprintf("after %v", r.After)
	}
	plain := p.Backoff
	plain.Jitter = 0
	return fmt.Sprintf("after about %v", plain.wait(n))
}

package lane

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"leasehold/worker/handler"
)

// When a group's progress is stored.
const (
	CommitInterval = "interval" // Every commit_interval, if it moved.
	CommitEach     = "each"     // After every message.
)

// What is done with a message that has used up its attempts.
const (
	ExhaustedDeadLetter = "dead_letter" // It is dead-lettered; the next one follows.
	ExhaustedBlock      = "block"       // The partition stays there: nothing is ever skipped.
	// It and every later one of its key are dead-lettered, in order; other keys continue.
	ExhaustedPark = "park_key"
)

// Policy is how a group's lanes call the handler and what they do when a message fails.
type Policy struct {
	Group       string
	Commit      string // CommitInterval or CommitEach.
	Timeout     time.Duration
	MaxAttempts int
	Backoff     Backoff
	OnExhausted string // ExhaustedDeadLetter, ExhaustedBlock or ExhaustedPark.
}

// DefaultPolicy returns the policy of a group that configures nothing, without its name.
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

// Follows says, for an operator, what a lane of the group does after such a result of a call with this attempt.
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

// Backoff says how long to wait before attempt n + 1: initial × factor^(n-1), at most max, ± jitter.
type Backoff struct {
	Initial time.Duration `toml:"initial"`
	Max     time.Duration `toml:"max"`
	Factor  float64       `toml:"factor"` // ≥ 1.
	Jitter  float64       `toml:"jitter"` // Share of the wait, 0 ≤ jitter < 1, by which it may be shorter or longer.
}

// DefaultBackoff returns the default waits: 0.5 s, 1 s, 2 s … 60 s, each ± 20 %.
func DefaultBackoff() Backoff {
	return Backoff{Initial: 500 * time.Millisecond, Max: time.Minute, Factor: 2, Jitter: 0.2}
}

// WithDefaults returns b with its zero fields filled in, the jitter only if all of it is zero: no jitter is a choice.
func (b Backoff) WithDefaults() Backoff {
	d := DefaultBackoff()
	if b == (Backoff{}) {
		return d
	}
	b.Initial = cmp.Or(b.Initial, d.Initial)
	b.Max = cmp.Or(b.Max, max(d.Max, b.Initial))
	b.Factor = cmp.Or(b.Factor, d.Factor)
	return b
}

// Validate reports every fault by its key in the group's table.
func (b Backoff) Validate(fault handler.FaultFunc) {
	handler.Within(fault, "backoff.initial", b.Initial, time.Millisecond, time.Hour)
	handler.Within(fault, "backoff.max", b.Max, time.Millisecond, 24*time.Hour)
	if b.Max < b.Initial {
		fault("backoff.max", "must not be less than backoff.initial (%s), is %s", b.Initial, b.Max)
	}
	if !(b.Factor >= 1 && b.Factor <= 100) {
		fault("backoff.factor", "must be from 1 to 100, is %v", b.Factor)
	}
	if !(b.Jitter >= 0 && b.Jitter < 1) {
		fault("backoff.jitter", "must be at least 0 and less than 1, is %v", b.Jitter)
	}
}

// wait returns how long to wait after the n-th failure in a row, n ≥ 1.
func (b Backoff) wait(n int) time.Duration {
	d := min(float64(b.Initial)*math.Pow(b.Factor, float64(n-1)), float64(b.Max))
	// Without jitter, lanes that failed together at a backend's restart would come back together.
	d *= 1 + b.Jitter*(2*rand.Float64()-1)
	return time.Duration(d)
}

package lane

import (
	"cmp"
	"math"
	"math/rand/v2"
	"time"

	"leasehold/worker/handler"
)

// wait returns how long to wait after the n-th failure in a row, n ≥ 1.
func (b Backoff) wait(n int) time.Duration {
	d := min(float64(b.Initial)*math.Pow(b.Factor, float64(n-1)), float64(b.Max))
	// Without jitter, lanes that failed together at a backend's restart would come back together.
	d *= 1 + b.Jitter*(2*rand.Float64()-1)
	return time.Duration(d)
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

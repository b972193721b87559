package worker

import (
	"math"
	"math/rand/v2"
	"time"
)

// wait returns how long to wait after the n-th failure in a row, n ≥ 1.
func (b Backoff) wait(n int) time.Duration {
	d := min(float64(b.Initial)*math.Pow(b.Factor, float64(n-1)), float64(b.Max))
	// Without jitter, lanes that failed together at a backend's restart would come back together.
	d *= 1 + b.Jitter*(2*rand.Float64()-1)
	return time.Duration(d)
}

package worker

import (
	"math"
	"runtime/debug"
	"testing"
)

func TestLanesShareWhatMemoryThereIs(t *testing.T) {
	before := debug.SetMemoryLimit(math.MaxInt64)
	defer debug.SetMemoryLimit(before)
	for _, c := range []struct {
		limit      int64
		partitions int
		want       int
	}{
		{math.MaxInt64, 64, 1 << 20}, {math.MaxInt64, 1, 1 << 20}, {math.MaxInt64, 4096, 64 << 10},
		{192 << 20, 64, 384 << 10}, {192 << 20, 4096, 64 << 10},
	} {
		debug.SetMemoryLimit(c.limit)
		if got := laneBytes(c.partitions); got != c.want {
			t.Errorf("limit %d, %d partitions: %d, want %d", c.limit, c.partitions, got, c.want)
		}
	}
}

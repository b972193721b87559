package every

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestSleepWaitsForItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		if !Sleep(t.Context(), time.Minute) || time.Since(start) != time.Minute {
			t.Errorf("woke after %v", time.Since(start))
		}
	})
}

func TestSleepEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if Sleep(ctx, time.Minute) || time.Since(start) != time.Second {
			t.Errorf("woke after %v", time.Since(start))
		}
		if Sleep(ctx, 0) {
			t.Error("slept under a context that has ended")
		}
	})
}

func TestLoopCallsUntilItsContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3500*time.Millisecond)
		defer cancel()
		start := time.Now()
		var at []time.Duration
		Loop(ctx, time.Second, func() { at = append(at, time.Since(start)) })
		if len(at) != 3 || at[0] != time.Second || at[2] != 3*time.Second {
			t.Errorf("called at %v", at)
		}
		if took := time.Since(start); took != 3500*time.Millisecond {
			t.Errorf("returned after %v", took)
		}
	})
}

// A slow call makes later ones late, never more.
func TestLoopDropsTicksThatComeDuringACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 6500*time.Millisecond)
		defer cancel()
		calls := 0
		Loop(ctx, time.Second, func() {
			if calls++; calls == 1 {
				time.Sleep(3500 * time.Millisecond) // Misses the ticks at 2, 3 and 4 s, of which one is kept.
			}
		})
		if calls != 4 { // At 1, 4.5, 5 and 6 s.
			t.Errorf("%d calls", calls)
		}
	})
}

func TestLoopEndsAfterTheCallThatCancels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		calls := 0
		Loop(ctx, time.Second, func() {
			calls++
			cancel()
			time.Sleep(2 * time.Second) // A tick is due when the call returns.
		})
		if calls != 1 {
			t.Errorf("%d calls", calls)
		}
	})
}

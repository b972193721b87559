package node

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"leasehold/internal/supervise"
)

func TestDelaysGrowUntilARunLasts(t *testing.T) {
	var delay time.Duration
	for _, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		if delay = nextDelay(delay, time.Second); delay != want*time.Second {
			t.Errorf("delay %v, want %vs", delay, int(want))
		}
	}
	if delay = nextDelay(delay, time.Hour); delay != firstDelay {
		t.Errorf("after a long run: %v", delay)
	}
}

func TestOnlyAnOrderlyEndOfARunIsFollowedByAnother(t *testing.T) {
	restart := &supervise.RestartError{Reason: "full"}
	if supervise.AsRestart(fmt.Errorf("stop: %w", restart)) != restart {
		t.Error("the reason to restart is not found")
	}
	stuck, other := errors.New("still not stopped"), errors.New("something else")
	for _, c := range []struct {
		name               string
		cause, came, stuck error
		restart            bool
		want               error // In the chain; nil: no error.
	}{
		{"told to stop", context.Canceled, nil, nil, false, nil},
		{"told to stop, badly", context.Canceled, other, nil, false, other},
		{"full", restart, other, nil, true, restart},
		{"full, and the broker does not stop", restart, nil, stuck, false, stuck},
		{"full, and a part does not end", restart, fmt.Errorf("disk: %w", supervise.ErrStuck), nil, false,
			supervise.ErrStuck},
		{"failed", other, nil, stuck, false, other},
	} {
		got := exitCause(c.cause, c.came, c.stuck)
		if !errors.Is(got, c.want) || (supervise.AsRestart(got) != nil) != c.restart {
			t.Errorf("%s: ends with %v", c.name, got)
		}
	}
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"leasehold/internal/api"
)

// idleLooks good looks in a row make a cluster idle, idleEvery apart: a node counts lag for itself and learns of the
// other nodes' progress with some delay, so a single look just after a publish could come too early.
const (
	idleLooks = 4
	idleEvery = 400 * time.Millisecond
)

// waitIdle asks until nothing is left to do. On a timeout it returns the last status too.
func (a *App) waitIdle(ctx context.Context, client *api.Client, timeout time.Duration) (*api.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	line := newNotice(a.Err)
	defer line.clear()
	tick := time.NewTicker(idleEvery)
	defer tick.Stop()
	var last *api.Status
	var seqs string // What was stored at the last good look: a publish between two looks restarts the count.
	for good := 0; ; {
		s, err := client.Status(ctx)
		waiting := ""
		switch {
		case err == nil:
			last, waiting = s, busy(s)
		case ctx.Err() == nil && !errors.Is(err, api.ErrUnreachable) && !errors.Is(err, api.ErrNotYet):
			return last, err
		default:
			waiting = err.Error()
		}
		if now := stored(last); waiting != "" || now != seqs {
			good, seqs = 0, now
		}
		if waiting == "" {
			good++
		}
		if good >= idleLooks {
			return s, nil
		}
		line.show("waiting: " + waitingText(waiting))
		select {
		case <-ctx.Done():
			return last, idleTimeout(ctx, timeout, waiting)
		case <-tick.C:
		}
	}
}

func waitingText(waiting string) string {
	if waiting == "" {
		return "making sure that nothing more comes"
	}
	return waiting
}

func idleTimeout(ctx context.Context, timeout time.Duration, waiting string) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return failure(exitTimeout, "`leasehold status --partitions` shows where it stands; --timeout waits longer",
			"not idle after %s: %s", timeout, waitingText(waiting))
	}
	return failure(exitInterrupted, "", "interrupted while waiting: %s", waitingText(waiting))
}

// busy says what is left to do, empty if nothing is.
func busy(s *api.Status) string {
	if !s.Quorum && s.NoQuorum != "" { // Nothing else is known, and nothing else helps.
		return s.NoQuorum
	}
	var parts []string
	if !s.Ready {
		parts = append(parts, s.Node+" is not ready")
	}
	for _, g := range s.Groups {
		if g.Unowned > 0 {
			parts = append(parts, fmt.Sprintf("%s: %s without an owner", g.Name, count(g.Unowned, "partition")))
		}
		if g.Lag == nil || *g.Lag != 0 {
			parts = append(parts, g.Name+": lag "+lagText(g.Lag))
		}
	}
	return strings.Join(parts, ", ")
}

func stored(s *api.Status) string {
	if s == nil {
		return ""
	}
	var b strings.Builder
	for _, t := range s.Topics {
		fmt.Fprintf(&b, "%s %d,", t.Name, t.LastSeq)
	}
	return b.String()
}

package node

import (
	"context"
	"time"

	"leasehold/internal/supervise"
)

// Delays between runs that end with a fault. They grow until a run has lasted for a while.
const (
	firstDelay = time.Second
	maxDelay   = time.Minute
	goodRun    = 10 * time.Minute
)

// nextDelay is how long to wait after a run that ended with a fault.
func nextDelay(last, lasted time.Duration) time.Duration {
	if last == 0 || lasted >= goodRun {
		return firstDelay
	}
	return min(2*last, maxDelay)
}

// Run runs a node until ctx ends, then stops it in order: no more claims, lanes drained and handed over, session ended,
// HTTP closed, broker shut down. It returns nil after a clean stop. A node whose storage an error of the disk has
// switched off restarts in the process once there is disk space.
func Run(ctx context.Context, o Options) error {
	var before supervise.RestartError
	var delay time.Duration // After the last fault.
	for {
		begun := time.Now()
		err := newRun(o, before, delay).run(ctx)
		restart := supervise.AsRestart(err)
		switch {
		case restart == nil:
			return err
		case ctx.Err() != nil:
			return nil
		case restart.Fault:
			delay = nextDelay(delay, time.Since(begun))
		}
		before = *restart
	}
}

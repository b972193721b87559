package admin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"leasehold/internal/api"
	"leasehold/internal/brokererr"
	"leasehold/internal/status"
	"leasehold/server"
)

// How long a question waits without a majority, or without a leader, before it is answered with what is missing.
// Together with what it takes to notice, that is less than three seconds.
const (
	lostPatience   = 250 * time.Millisecond
	leaderPatience = 2 * time.Second
	quorumEvery    = 250 * time.Millisecond
)

// gate keeps questions that need a quorum from waiting for answers that cannot come.
type gate struct{ *status.View }

func noQuorum(q server.Quorum) error { return api.Mark(api.ErrNoQuorum, q.Text()) }

// whileQuorum asks what needs a quorum. Without one it does not wait for answers that cannot come, and says which nodes
// are missing.
func whileQuorum[T any](ctx context.Context, g gate, ask func(context.Context) (T, error)) (T, error) {
	if q := g.Quorum(); q.Lost() {
		var none T
		return none, noQuorum(q)
	}
	ctx, stop := g.untilQuorumIsLost(ctx)
	defer stop()
	v, err := ask(ctx)
	return v, g.explain(ctx, err)
}

// untilQuorumIsLost ends its context, with what is missing as the cause, once there has been no quorum for a moment.
// The goroutine ends with the context, which stop ends.
func (g gate) untilQuorumIsLost(ctx context.Context) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		tick := time.NewTicker(quorumEvery)
		defer tick.Stop()
		var since time.Time
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			q := g.Quorum()
			switch {
			case q.Working():
				since = time.Time{}
			case since.IsZero():
				since = time.Now()
			case time.Since(since) >= leaderPatience, q.Lost() && time.Since(since) >= lostPatience:
				cancel(noQuorum(q))
				return
			}
		}
	}()
	return ctx, func() { cancel(nil) }
}

// explain says in our words why nobody answered.
func (g gate) explain(ctx context.Context, err error) error {
	switch cause := context.Cause(ctx); {
	case err == nil:
		return nil
	case errors.Is(cause, api.ErrNoQuorum):
		return cause
	case errors.Is(err, api.ErrNoQuorum):
		return err
	case !brokererr.Unavailable(err) && !errors.Is(err, api.ErrNotYet):
		return err
	}
	if q := g.Quorum(); !q.Working() {
		return noQuorum(q)
	}
	if errors.Is(err, api.ErrNotYet) {
		return err
	}
	return api.Mark(api.ErrNotYet, fmt.Sprintf("%s: its replicas may be electing a leader, try again in a moment",
		brokererr.Text(err)))
}

package readiness

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// A node whose session cannot be renewed although the cluster works is not alive: a new process may be better. One that
// has lost its majority is alive and not ready, however long that lasts: to start it again would not bring the others
// back.
const (
	deadAfter     = time.Minute
	livenessEvery = time.Second
	livenessLimit = time.Second
)

// Liveness remembers since when this node's session cannot be renewed for a reason of its own. The zero value is alive.
type Liveness struct {
	mu    sync.Mutex
	since time.Time // Zero if it can be, or if nobody could renew one.
	why   string
}

// note takes in a check. why is empty if the session is live, or if that the session is not live is no fault of this
// node.
func (l *Liveness) note(why string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case why == "":
		l.since = time.Time{}
	case l.since.IsZero():
		l.since = now
	}
	l.why = why
}

// fault says why the node is not alive, nil if it is.
func (l *Liveness) fault(now time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if silent := now.Sub(l.since); !l.since.IsZero() && silent >= deadAfter {
		return fmt.Errorf("the session of this node has not been renewed for %s although the cluster works (%s): restart "+
			"the node, and "+
			"send its log with a report if that happens again", silent.Round(time.Second), l.why)
	}
	return nil
}

// Alive says why a new process should take the place of this one, nil if nothing suggests it.
func (l *Liveness) Alive() error { return l.fault(time.Now()) }

// Renewal is how a node finds out whether it could renew its session.
type Renewal struct {
	Broker Broker
	Driver Driver
	Bucket func(ctx context.Context) error // Asks the bucket's leader, over another connection than the leases'.
}

// Watch checks the session until ctx ends.
func (l *Liveness) Watch(ctx context.Context, r Renewal) error {
	tick := time.NewTicker(livenessEvery)
	defer tick.Stop()
	defer l.note("", time.Now()) // A node that stops is judged by how long that takes.
	for {
		l.note(r.ownFault(ctx), time.Now())
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// ownFault says why the session is not live, "" if it is or if the cluster cannot take a renewal: the broker must be
// ready, and the bucket's leader must answer over another connection.
func (r Renewal) ownFault(ctx context.Context) string {
	if len(r.Broker.Ready()) > 0 {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, livenessLimit)
	defer cancel()
	view, err := r.Driver.Snapshot(ctx)
	if err == nil && !view.Renewing {
		return ""
	}
	if err != nil {
		return err.Error()
	}
	if err := r.Bucket(ctx); err != nil {
		return ""
	}
	return view.State
}

// Package readiness decides whether a node is ready, which /readyz says, and whether it is alive, which /livez says.
package readiness

import (
	"context"
	"time"

	"github.com/hashicorp/go-hclog"

	"leasehold/cluster/lease"
	"leasehold/internal/supervise"
	"leasehold/server"
)

const readyEvery = 200 * time.Millisecond

// Broker is this node's broker.
type Broker interface {
	Ready() []string
	ReadyStreams(names ...string) []string
}

// Driver is the lease protocol of this node.
type Driver interface {
	Snapshot(ctx context.Context) (lease.View, error)
}

// Options are what a Readiness needs.
type Options struct {
	Single  bool
	Streams []string // That this node works with.
	Broker  Broker
	Quorum  func() server.Quorum
	Driver  Driver
	Probes  *Probes
	Waiting *supervise.Waiting
	Logger  hclog.Logger
}

// Readiness keeps Waiting true while a node serves: replicas current, session live, topics taking messages.
type Readiness struct{ Options }

// Run does so until ctx ends.
func (r Readiness) Run(ctx context.Context) error {
	tick := time.NewTicker(readyEvery)
	defer tick.Stop()
	var ready bool
	var replicas currency
	var missed missedQuorum
	for {
		reasons := r.notReady(ctx)
		switch {
		case len(reasons) == 0:
			reasons = replicas.reasons(r.Broker.ReadyStreams(r.Streams...), ready, time.Now())
		case !r.Single:
			replicas.unknown(time.Now())
		}
		if ctx.Err() != nil {
			return nil
		}
		reasons = missed.before(r.Quorum, reasons)
		r.Waiting.For(reasons...)
		if now := len(reasons) == 0; now != ready {
			ready = now
			r.log(reasons)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (r Readiness) log(reasons []string) {
	if len(reasons) == 0 {
		r.Logger.Info("node is ready")
		return
	}
	r.Logger.Info("node is no longer ready", "waiting_for", reasons)
}

// notReady is what the node waits for, but for its replicas.
func (r Readiness) notReady(ctx context.Context) []string {
	if reasons := r.Broker.Ready(); len(reasons) > 0 {
		return reasons
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	view, err := r.Driver.Snapshot(ctx)
	switch {
	case err != nil:
		return []string{err.Error()}
	case !view.Live:
		return []string{"the session: " + view.State}
	}
	return r.Probes.reasons()
}

// behindGrace is how long a ready node's replica of a stream must be behind to end readiness: under load it is a few
// messages behind at one check or other, and nothing is wrong.
const behindGrace = 2 * time.Second

// currentFor is how long the replicas of a node that is not ready must all have been current: the broker calls a
// replica current between two tries to catch up, of which neither gets anywhere.
const currentFor = time.Second

// currency remembers when all replicas were last current, and when one was last behind, or may have been.
type currency struct{ last, behind time.Time }

// unknown notes that nobody could tell: a broker that has just found its leaders again calls every replica current.
func (c *currency) unknown(now time.Time) { c.behind = now }

// reasons are those of the replicas that are behind, as far as they count: to a node that is ready, not at once.
func (c *currency) reasons(behind []string, ready bool, now time.Time) []string {
	if len(behind) > 0 {
		c.behind = now
		if ready && now.Sub(c.last) < behindGrace {
			return nil
		}
		return behind
	}
	if !ready && now.Sub(c.behind) < currentFor {
		return []string{"making sure that its replicas stay current"}
	}
	c.last = now
	return nil
}

// missedEvery is how often a node checks for its readiness which nodes answer.
const missedEvery = time.Second

// missedQuorum remembers the last check.
type missedQuorum struct {
	at   time.Time
	text string // which nodes are missing, "" while a majority answers
}

// before puts which nodes are missing before the other reasons of a node that is not ready. It belongs to one
// goroutine.
func (m *missedQuorum) before(quorum func() server.Quorum, reasons []string) []string {
	if now := time.Now(); now.Sub(m.at) >= missedEvery {
		m.at, m.text = now, ""
		if q := quorum(); q.Lost() {
			m.text = q.Text()
		}
	}
	if m.text == "" {
		return reasons
	}
	return append([]string{m.text}, reasons...)
}

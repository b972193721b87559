// Package deathwatch finds out, together with the other nodes, that a node's process is gone before its session
// expires. A node whose every route was ended by the process, and whose port refuses connections, is evidence; if every
// other live node has the same evidence, the lease protocol is told. cluster/DESIGN.md says why that is safe.
package deathwatch

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"

	"leasehold/cluster/lease"
	"leasehold/internal/every"
	"leasehold/internal/peers"
	"leasehold/server"
)

// How a death is confirmed.
const (
	refusalGap = 100 * time.Millisecond // between two refused connections, and after the second
	dialLimit  = 500 * time.Millisecond
	dyingLimit = time.Second            // from a process's first connection that its kernel closes to its last socket
	peersWait  = 300 * time.Millisecond // for what the other nodes reply
	retryGap   = 100 * time.Millisecond // between two attempts to have them agree
)

// Routes are the broker's connections to the other nodes.
type Routes interface {
	Endings() <-chan server.Ending
	HasRoute(serverID string) bool
}

// Leases reads the records of the lease protocol.
type Leases interface {
	Read(ctx context.Context, k lease.Key) (lease.Observed, error)
}

// Driver is the lease protocol of this node.
type Driver interface {
	Snapshot(ctx context.Context) (lease.View, error)
	Witness(saw lease.Observed, by []string)
}

// Options are what a Watch needs.
type Options struct {
	Node string
	// False in single mode, and without fast takeover: then it neither looks nor replies that it has seen a death.
	Enabled bool

	TTL, Renew, Margin time.Duration // Of sessions.

	Routes Routes
	Leases Leases
	Driver Driver
	Peers  *nats.Conn
	Logger hclog.Logger
}

// Watch confirms deaths.
type Watch struct {
	Options
	log  hclog.Logger
	seen deaths
}

// New returns a Watch at rest.
func New(o Options) *Watch { return &Watch{Options: o, log: o.Logger.Named("deathwatch")} }

// death is the end of one process, as a broker's id names it.
type death struct {
	Node     string `json:"node"`
	ServerID string `json:"server_id"`
}

// reply is what a node says of a death.
type reply struct {
	Node string `json:"node"`
	// Its own routes were ended by the process, and the process's port has refused connections twice.
	Seen bool `json:"seen"`
}

// deaths are those that this node itself has seen. They are forgotten when a session cannot last any longer.
type deaths struct {
	mu   sync.Mutex
	seen map[death]bool
}

func (d *deaths) set(x death, seen bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.seen == nil {
		d.seen = map[death]bool{}
	}
	delete(d.seen, x)
	if seen {
		d.seen[x] = true
	}
}

func (d *deaths) has(x death) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.seen[x]
}

// Run tries to confirm each death that the node's routes suggest, until ctx ends.
func (w *Watch) Run(ctx context.Context) error {
	if !w.Enabled {
		<-ctx.Done()
		return nil
	}
	var all sync.WaitGroup
	defer all.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-w.Routes.Endings():
			all.Go(func() { w.confirm(ctx, e) })
		}
	}
}

// confirm collects the evidence that a process is gone and reports it to the lease protocol, or finds that the process
// may live. It gives up after two ttl: by then the others have declared the node dead for its silence.
func (w *Watch) confirm(ctx context.Context, e server.Ending) {
	ctx, cancel := context.WithDeadline(ctx, e.At.Add(2*w.TTL))
	defer cancel()
	d := death{Node: e.Node, ServerID: e.ServerID}
	w.log.Debug("lost all routes to a node", "node", d.Node, "server_id", d.ServerID)
	saw, ok := w.liveRecord(ctx, d)
	// A process that lives and was cut off has stopped its lanes, or ended, within half a margin and a tick of its
	// watchdog of noticing that (cluster/DESIGN.md); it may notice a little later than we did.
	ripe := e.At.Add(w.Margin/2 + w.Margin/10 + refusalGap)
	if !ok || !refusesTwice(ctx, saw.Session.Address, e.At, ripe) || w.Routes.HasRoute(d.ServerID) {
		w.log.Debug("node may be alive: its death is not confirmed", "node", d.Node, "server_id", d.ServerID,
			"session_matches", ok)
		return
	}
	w.seen.set(d, true)
	defer w.seen.set(d, false)
	for logged := false; ctx.Err() == nil; {
		// The record is read first: whatever is found out is about what it says, and void if it moves.
		if saw, ok = w.liveRecord(ctx, d); !ok || w.Routes.HasRoute(d.ServerID) || !refused(ctx, saw.Session.Address) {
			return
		}
		if by := w.agreed(ctx, d); len(by) > 0 {
			if !logged {
				logged = true
				w.log.Info("a node's process is gone", "node", d.Node, "boot", saw.Session.Boot, "server_id", d.ServerID, "agreed",
					by)
			}
			w.Driver.Witness(saw, by)
		}
		if !every.Sleep(ctx, retryGap) {
			return
		}
	}
}

// liveRecord reads the session of the node, and reports whether it is live and that of the process.
func (w *Watch) liveRecord(ctx context.Context, d death) (lease.Observed, bool) {
	for {
		try, cancel := context.WithTimeout(ctx, w.Renew/2)
		saw, err := w.Leases.Read(try, lease.SessionKey(d.Node))
		cancel()
		if err == nil {
			s := saw.Session
			return saw, s != nil && s.State == lease.Live && s.ServerID == d.ServerID && s.Provable
		}
		if !every.Sleep(ctx, retryGap) {
			return lease.Observed{}, false
		}
	}
}

// agreed asks the other nodes, and returns their names if every one whose session is live has seen the death too. One
// that still has a route to the process, or does not answer, is reason enough to wait for the ttl.
func (w *Watch) agreed(ctx context.Context, d death) []string {
	var others []string
	view, err := w.Driver.Snapshot(ctx)
	if err != nil || !view.Live {
		return nil
	}
	for _, name := range peers.Live(view) {
		if name != d.Node && name != w.Node {
			others = append(others, name)
		}
	}
	data, err := json.Marshal(d)
	if err != nil {
		return nil
	}
	seen := map[string]bool{}
	// This node answers its own question, too.
	q := peers.Question{Subject: peers.DeathSubject, Data: data, Answers: len(others) + 1, Wait: peersWait}
	for _, r := range peers.Ask[reply](ctx, w.Peers, q) {
		seen[r.Node] = r.Seen
	}
	for _, name := range others {
		if !seen[name] {
			return nil
		}
	}
	return others
}

// Answer is a part that replies to the other nodes whether this one has seen a death, until ctx ends. It outlives Run:
// a node that stops is still asked, and one that does not reply is not a witness. Nor is one that cannot write, which
// may be the one that is cut off.
func (w *Watch) Answer(ctx context.Context) error {
	return peers.Answer(w.Peers, peers.DeathSubject, func(ctx context.Context, data []byte) any {
		r := reply{Node: w.Node}
		var d death
		if json.Unmarshal(data, &d) != nil || !w.seen.has(d) {
			return r
		}
		ctx, cancel := context.WithTimeout(ctx, peersWait)
		defer cancel()
		view, err := w.Driver.Snapshot(ctx)
		r.Seen = err == nil && view.Live && !w.Routes.HasRoute(d.ServerID)
		return r
	})(ctx)
}

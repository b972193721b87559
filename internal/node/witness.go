package node

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sys/unix"

	"leasehold/cluster/lease"
	"leasehold/server"
	"leasehold/server/datadir"
)

// deathSubject is where nodes ask each other whether they have seen a process die.
const deathSubject = "leasehold.internal.death"

// How a death is made sure of.
const (
	refusalGap = 100 * time.Millisecond // between two refused connections, and after the second
	dialLimit  = 500 * time.Millisecond
	dyingLimit = time.Second            // from a process's first connection that its kernel closes to its last socket
	deathWait  = 300 * time.Millisecond // for what the others say
	deathAgain = 100 * time.Millisecond // between two tries to have them say the same
)

// death is the end of one process, as a broker's id names it.
type death struct {
	Node     string `json:"node"`
	ServerID string `json:"server_id"`
}

// deathAnswer is what a node says of a death.
type deathAnswer struct {
	Node string `json:"node"`
	Seen bool   `json:"seen"` // Its own routes were ended by the process, and its port has refused connections twice.
}

// deaths are those that this node has seen with its own eyes. They are forgotten when a session cannot last any longer.
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

// watchDeaths makes sure of each end of a process that its routes tell of, until ctx ends.
func (n *Node) watchDeaths(ctx context.Context) error {
	if !n.Config.Cluster.FastTakeover || n.Config.Mode() == datadir.Single {
		<-ctx.Done()
		return nil
	}
	var all sync.WaitGroup
	defer all.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-n.broker.Endings():
			all.Go(func() { n.investigate(ctx, e) })
		}
	}
}

// investigate collects the proof that a process is gone and has its node buried, or finds out that it is not. After a ttl
// the process would have been buried for its silence.
func (n *Node) investigate(ctx context.Context, e server.Ending) {
	c := n.Config.Cluster
	ctx, cancel := context.WithDeadline(ctx, e.At.Add(2*c.SessionTTL))
	defer cancel()
	d := death{Node: e.Node, ServerID: e.ServerID}
	n.log.Debug("every route to a process has ended", "node", d.Node, "server_id", d.ServerID)
	saw, ok := n.liveRecord(ctx, d)
	// A process that lives and was cut off has stopped its lanes, or ended, within half a margin and a tick of its watchdog
	// of noticing that (cluster/DESIGN.md); it may notice a little later than we did.
	ripe := e.At.Add(c.Margin/2 + c.Margin/10 + refusalGap)
	if !ok || !refusesTwice(ctx, saw.Session.Address, e.At, ripe) || n.broker.HasRoute(d.ServerID) {
		n.log.Debug("a process whose routes have ended may not be gone", "node", d.Node, "server_id", d.ServerID, "its session", ok)
		return
	}
	n.deaths.set(d, true)
	defer n.deaths.set(d, false)
	for said := false; pause(ctx, 0); {
		// The record is read first: whatever is found out is about what it says, and void if it moves.
		if saw, ok = n.liveRecord(ctx, d); !ok || n.broker.HasRoute(d.ServerID) || !refused(ctx, saw.Session.Address) {
			return
		}
		if by := n.agreed(ctx, d); len(by) > 0 {
			if !said {
				said = true
				n.log.Info("a node's process is gone", "node", d.Node, "boot", saw.Session.Boot, "server_id", d.ServerID, "agreed", by)
			}
			n.driver.Witness(saw, by)
		}
		if !pause(ctx, deathAgain) {
			return
		}
	}
}

// liveRecord reads the session of the node, and reports whether it is live and that of the process.
func (n *Node) liveRecord(ctx context.Context, d death) (lease.Observed, bool) {
	for {
		try, cancel := context.WithTimeout(ctx, n.Config.Cluster.Renew/2)
		saw, err := n.conns.leases.Read(try, lease.SessionKey(d.Node))
		cancel()
		if err == nil {
			return saw, saw.Session != nil && saw.Session.State == lease.Live && saw.Session.ServerID == d.ServerID && saw.Session.Provable
		}
		if !pause(ctx, deathAgain) {
			return lease.Observed{}, false
		}
	}
}

// refusesTwice reports whether a dead process's port refuses two connections, at least a gap apart, the second a gap before
// the proof is ripe. A kernel that ends a process closes one socket after the other: the port may still take connections
// when the last route has ended.
func refusesTwice(ctx context.Context, address string, ended, ripe time.Time) bool {
	for !refused(ctx, address) {
		if time.Since(ended) > dyingLimit || !pause(ctx, refusalGap) {
			return false
		}
	}
	return pause(ctx, max(refusalGap, time.Until(ripe)-refusalGap)) && refused(ctx, address) && pause(ctx, refusalGap)
}

// refused reports whether the kernel at the address says that nobody listens there. A connection that is not answered
// says nothing. A name may stand for several addresses: each of them has to refuse.
func refused(ctx context.Context, address string) bool {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil || len(ips) == 0 {
		return false
	}
	for _, ip := range ips {
		nc, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(ip.String(), port))
		if err == nil {
			_ = nc.Close()
		}
		// At an unspecified address a node would ask itself.
		if !errors.Is(err, unix.ECONNREFUSED) || ip.IsUnspecified() {
			return false
		}
	}
	return true
}

// agreed asks the others, and returns their names if every one whose session is live has seen the death too. One that
// still has a route to the process, or does not answer, is reason enough to wait for the ttl.
func (n *Node) agreed(ctx context.Context, d death) []string {
	var others []string
	view, err := n.driver.Snapshot(ctx)
	if err != nil || !view.Live {
		return nil
	}
	for _, s := range view.Sessions {
		if s.State == lease.Live && s.Node != d.Node && s.Node != n.Config.Node.Name {
			others = append(others, s.Node)
		}
	}
	data, err := json.Marshal(d)
	if err != nil {
		return nil
	}
	seen := map[string]bool{}
	// This node answers its own question, too.
	for _, a := range askNodes[deathAnswer](ctx, n.conns.peers, question{subject: deathSubject, data: data, answers: len(others) + 1, wait: deathWait}) {
		seen[a.Node] = a.Seen
	}
	for _, name := range others {
		if !seen[name] {
			return nil
		}
	}
	return others
}

// sayDeath answers another node. Who cannot write may be the one that is cut off, and is no witness.
func (n *Node) sayDeath(m *nats.Msg) any {
	a := deathAnswer{Node: n.Config.Node.Name}
	var d death
	if json.Unmarshal(m.Data, &d) != nil || !n.deaths.has(d) {
		return a
	}
	ctx, cancel := context.WithTimeout(context.Background(), deathWait)
	defer cancel()
	view, err := n.driver.Snapshot(ctx)
	a.Seen = err == nil && view.Live && !n.broker.HasRoute(d.ServerID)
	return a
}

// pause waits and reports whether ctx is still on.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return ctx.Err() == nil
	}
}

package membership

import (
	"context"
	"errors"
	"fmt"
	"time"

	"leasehold/cluster"
	"leasehold/cluster/lease"
	"leasehold/internal/registry"
	"leasehold/internal/supervise"
	"leasehold/server"
)

// errRemoved is for an identity that was taken out of the cluster and comes back: its disk holds votes and replicas
// that the others have continued without.
func (m *Membership) errRemoved() error {
	return fmt.Errorf("%w: this node's identity (%s) was removed from the cluster: to join again, move %s away and "+
		"start with "+
		"an empty data directory", supervise.ErrConfig, m.Self.Server, m.Self.DataDir)
}

// record is that of this identity.
func (m *Membership) record() registry.Record[registry.Peer] { return m.Registry.Peer(m.Self.peerID()) }

// checkRemoved returns an error if this identity was removed. A node that the others do not count can still read.
func (m *Membership) checkRemoved(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, LeaderWait)
	defer cancel()
	if rec, _, err := m.record().Read(ctx); err == nil && rec.Removed {
		return m.errRemoved()
	}
	return nil
}

// AwaitBroker waits until the broker is ready. That of a node that was removed never would be, so it returns an error.
func (m *Membership) AwaitBroker(ctx context.Context) error {
	var removed error
	var checked time.Time
	err := m.Waiting.Until(ctx, 50*time.Millisecond, func() []string {
		reasons := m.Broker.Ready()
		if len(reasons) == 0 || m.Single || time.Since(checked) < time.Second {
			return reasons
		}
		if removed = m.checkRemoved(ctx); removed != nil {
			return nil
		}
		checked = time.Now()
		return reasons
	})
	return errors.Join(removed, err)
}

// Run returns an error when this node was removed while it was cut off or stopped: what it stores is what the others
// had then. Otherwise it runs until ctx ends.
func (m *Membership) Run(ctx context.Context) error {
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if m.Single || len(m.Broker.Ready()) == 0 {
			continue
		}
		if err := m.checkRemoved(ctx); err != nil {
			return err
		}
	}
}

// TakeIdentity makes this identity the one of its node. The first time it waits until no other of that name is left: a
// dead one has to be removed by an operator, for it still votes and holds replicas; a live one is another machine.
func (m *Membership) TakeIdentity(ctx context.Context) error {
	if m.Single {
		return nil
	}
	var other duplicate
	err := m.Waiting.Until(ctx, 300*time.Millisecond, func() []string {
		_, rev, err := m.record().Read(ctx)
		switch {
		// The others count this identity, or it would not be here: it was not removed.
		case errors.Is(err, cluster.ErrNotARecord):
			return nil
		case err != nil:
			return []string{err.Error()}
		case rev > 0:
			return nil
		}
		reasons := m.othersOfOurName(ctx, &other)
		if other.alive() {
			return nil
		}
		return reasons
	})
	if err != nil {
		return err
	}
	if other.alive() {
		m.leave(ctx)
		return fmt.Errorf("%w: %w: another node %s is alive at %s; give each node a name of its own",
			supervise.ErrConfig, lease.ErrNameTaken, m.Self.Node, other.seen.Address)
	}
	return m.defineIdentity(ctx)
}

func (m *Membership) defineIdentity(ctx context.Context) error {
	want := registry.Peer{Version: registry.Version, Node: m.Self.Node, Server: m.Self.Server, DirID: m.Self.DirID}
	rec, err := m.record().Define(ctx, want)
	if errors.Is(err, cluster.ErrNotARecord) {
		rec, err = m.record().Redefine(ctx, m.log, err, want, nil)
	}
	if err != nil {
		return err
	}
	if rec.Removed {
		return m.errRemoved()
	}
	return nil
}

// duplicate watches a session of our name that is not ours. A live one moves; that of a node that died a moment ago
// does not, and a stale read or a last renewal on its way can make it seem to move once.
type duplicate struct {
	seen  lease.Session
	moves int
}

func (d *duplicate) observe(rec lease.Session) {
	if d.seen.State == lease.Live && rec.State == lease.Live && d.seen.Nonce != rec.Nonce {
		d.moves++
	}
	d.seen = rec
}

func (d *duplicate) alive() bool { return d.moves >= 2 }

// othersOfOurName returns what to wait for, and observes the session of our name.
func (m *Membership) othersOfOurName(ctx context.Context, other *duplicate) (reasons []string) {
	ctx, cancel := context.WithTimeout(ctx, 2*LeaderWait)
	defer cancel()
	v, err := m.Voters(ctx)
	if err != nil {
		return []string{"the cluster's members: " + err.Error()}
	}
	name := m.Self.Node
	for _, p := range v.All {
		if p.Name() == name && p.ID != m.Self.peerID() {
			reasons = append(reasons,
				fmt.Sprintf("the removal of this node's earlier identity %s, which still is one of %d voters: "+
					"if its disk is gone for good, run `leasehold node remove %s` on another node", p.ServerName(), len(v.All), name))
		}
	}
	known, err := registry.Sessions(ctx, m.KV)
	if err != nil {
		return append(reasons, err.Error())
	}
	if rec, ok := known[name]; ok && rec.DirID != m.Self.DirID && len(reasons) > 0 {
		other.observe(rec)
	}
	return reasons
}

// leave takes this identity out of the voters again, which was let in a moment ago and turned out to be a mistake. No
// other is ever removed without an operator; but this one has never been of use, and left behind it would count as a
// dead voter.
func (m *Membership) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, supervise.SetupLimit)
	defer cancel()
	self := Voter{ClusterPeer: server.ClusterPeer{ID: m.Self.peerID(), Server: m.Self.Server}}
	self.DirID = m.Self.DirID
	if err := m.removeVoter(ctx, self); err != nil {
		m.log.Warn("could not remove this node's identity from the voters", "server", m.Self.Server, "error", err)
	}
}

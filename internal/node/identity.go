package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"leasehold/cluster"
	"leasehold/cluster/lease"
	"leasehold/internal/api"
	"leasehold/server"
	"leasehold/server/datadir"
)

// errRemoved is for an identity that was taken out of the cluster and comes back: its disk holds votes and copies that
// the others have gone on without.
func (n *Node) errRemoved() error {
	return fmt.Errorf("%w: this node's identity (%s) was removed from the cluster: to join again, move %s away and start with "+
		"an empty data directory", ErrConfig, n.dir.ServerName(), n.dir.Path())
}

// ownPeer is the key of this identity.
func (n *Node) ownPeer() string { return peerKey(server.PeerID(n.dir.ServerName())) }

// checkRemoved looks whether a node that the others do not count was removed. Reads work without being counted.
func (n *Node) checkRemoved(ctx context.Context, kv *cluster.KV) error {
	ctx, cancel := context.WithTimeout(ctx, leaderWait)
	defer cancel()
	var rec peerRecord
	if _, err := kv.ReadDefinition(ctx, n.ownPeer(), &rec); err == nil && rec.Removed {
		return n.errRemoved()
	}
	return nil
}

// brokerReady waits until the broker is ready; a node that was removed would wait for ever.
func (n *Node) brokerReady(ctx context.Context) error {
	kv, err := cluster.AttachKV(n.conns.operator.Conn())
	if err != nil {
		return err
	}
	var removed error
	var looked time.Time
	err = n.until(ctx, 50*time.Millisecond, func() []string {
		reasons := n.broker.Ready()
		if len(reasons) == 0 || n.Config.Mode() == datadir.Single || time.Since(looked) < time.Second {
			return reasons
		}
		if removed = n.checkRemoved(ctx, kv); removed != nil {
			return nil
		}
		looked = time.Now()
		return reasons
	})
	return errors.Join(removed, err)
}

// watchRemoval ends a node that was removed while it was cut off or stopped: what it has is what the others had then.
func (n *Node) watchRemoval(ctx context.Context) error {
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if n.Config.Mode() == datadir.Single || len(n.broker.Ready()) == 0 {
			continue
		}
		if err := n.checkRemoved(ctx, n.kv); err != nil {
			return err
		}
	}
}

// takeIdentity makes this identity the one of its node. The first time it waits until no other of that name is left: a
// dead one has to be removed by a person, for it still votes and holds copies; a live one is another machine.
func (n *Node) takeIdentity(ctx context.Context) error {
	if n.Config.Mode() == datadir.Single {
		return nil
	}
	var rec peerRecord
	var other twin
	err := n.until(ctx, 300*time.Millisecond, func() []string {
		rev, err := n.kv.ReadDefinition(ctx, n.ownPeer(), &rec)
		switch {
		case errors.Is(err, cluster.ErrNotARecord): // The others count this identity, or it would not be here: it was not removed.
			return nil
		case err != nil:
			return []string{err.Error()}
		case rev > 0:
			return nil
		}
		reasons := n.othersOfOurName(ctx, &other)
		if other.alive() {
			return nil
		}
		return reasons
	})
	if err != nil {
		return err
	}
	if other.alive() {
		n.leave(ctx)
		return fmt.Errorf("%w: %w: another node %s is alive at %s; give each node a name of its own",
			ErrConfig, lease.ErrNameTaken, n.Config.Node.Name, other.seen.Address)
	}
	want := peerRecord{Version: 1, Node: n.Config.Node.Name, Server: n.dir.ServerName(), DirID: n.dir.DirID()}
	err = n.kv.Define(ctx, n.ownPeer(), want, &rec)
	if errors.Is(err, cluster.ErrNotARecord) {
		err = n.redefine(ctx, rebuilt{key: n.ownPeer(), fault: err, want: want, have: &rec}, nil)
	}
	if err != nil {
		return err
	}
	if rec.Removed {
		return n.errRemoved()
	}
	return nil
}

// twin watches a session of our name that is not ours. A live one moves; that of a node that died a moment ago does not,
// and a stale read or a last renewal on its way can make it seem to move once.
type twin struct {
	seen  lease.Session
	moves int
}

func (t *twin) look(rec lease.Session) {
	if t.seen.State == lease.Live && rec.State == lease.Live && t.seen.Nonce != rec.Nonce {
		t.moves++
	}
	t.seen = rec
}

func (t *twin) alive() bool { return t.moves >= 2 }

// othersOfOurName says what to wait for, and looks at the session of our name.
func (n *Node) othersOfOurName(ctx context.Context, other *twin) (reasons []string) {
	ctx, cancel := context.WithTimeout(ctx, 2*leaderWait)
	defer cancel()
	v, err := n.voters(ctx, n.kv)
	if err != nil {
		return []string{"the cluster's members: " + err.Error()}
	}
	name := n.Config.Node.Name
	for _, p := range v.peers {
		if p.name() == name && p.ID != server.PeerID(n.dir.ServerName()) {
			reasons = append(reasons, fmt.Sprintf("the removal of this node's earlier identity %s, which still is one of %d voters: "+
				"if its disk is gone for good, run `leasehold node remove %s` on another node", p.server(), len(v.peers), name))
		}
	}
	known, err := sessions(ctx, n.kv)
	if err != nil {
		return append(reasons, err.Error())
	}
	if rec, ok := known[name]; ok && rec.DirID != n.dir.DirID() && len(reasons) > 0 {
		other.look(rec)
	}
	return reasons
}

// leave takes an identity out of the voters again that was let in a moment ago and turned out to be a mistake. Nobody
// else may be removed by itself; but this one has never been of use, and left behind it would count as a dead voter.
func (n *Node) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, setupLimit)
	defer cancel()
	self := peer{ClusterPeer: server.ClusterPeer{ID: server.PeerID(n.dir.ServerName()), Server: n.dir.ServerName()}}
	self.DirID = n.dir.DirID()
	if err := n.removePeer(ctx, n.kv, self); err != nil {
		n.log.Warn("this node's identity is left among the voters", "server", n.dir.ServerName(), "error", err)
	}
}

var _ api.Membership = (*Node)(nil)

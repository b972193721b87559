package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"leasehold/cluster"
	"leasehold/cluster/lease"
	"leasehold/internal/api"
	"leasehold/server"
	"leasehold/server/datadir"
)

const (
	removalLimit = 12 * time.Second // For a whole removal: less than the caller waits for it.
	secondLook   = time.Second      // Between the two looks that find a peer dead; longer than a heartbeat.
)

// removal is one node's removal as it was decided.
type removal struct {
	targets []peer
	session bool // There is one to end.
	before  voters
}

// RemoveNode takes a dead node's identities out of the voters and ends its session, or says why not.
func (n *Node) RemoveNode(ctx context.Context, name string, dryRun bool) (*api.NodeRemoval, error) {
	ctx, cancel := context.WithTimeout(ctx, removalLimit)
	defer cancel()
	kv, err := n.opened()
	if err != nil {
		return nil, err
	}
	if n.Config.Mode() == datadir.Single {
		return nil, api.Mark(api.ErrRefused, "this node stands alone: there is no cluster to remove a node from")
	}
	r, err := n.decideRemoval(ctx, kv, name)
	if err != nil {
		return nil, err
	}
	out := &api.NodeRemoval{V: api.Version, Name: name, DryRun: dryRun, SessionEnded: r.session, Before: r.before.summary(), Removed: []string{}}
	for _, p := range r.targets {
		out.Removed = append(out.Removed, p.server())
	}
	out.After = r.after()
	out.Warnings = removalWarnings(out.After)
	if dryRun {
		return out, nil
	}
	for _, p := range r.targets {
		if err := n.removePeer(ctx, kv, p); err != nil {
			return nil, err
		}
	}
	if r.session {
		if err := endSession(ctx, kv, name); err != nil {
			return nil, fmt.Errorf("the voter is removed; end the session of %s: %w", name, err)
		}
	}
	if v, err := n.voters(ctx, kv); err == nil {
		out.After = v.summary()
	}
	n.log.Info("node removed", "by", api.By(ctx), "node", name, "servers", out.Removed, "voters", out.After.Count, "quorum", out.After.Quorum)
	return out, nil
}

// decideRemoval looks twice, a moment apart: right after an election the leader has heard nobody.
func (n *Node) decideRemoval(ctx context.Context, kv *cluster.KV, name string) (removal, error) {
	if r, err := n.judgeRemoval(ctx, kv, name); err != nil && !errors.Is(err, api.ErrRefused) {
		return r, err
	}
	select {
	case <-ctx.Done():
		return removal{}, ctx.Err()
	case <-time.After(secondLook):
	}
	return n.judgeRemoval(ctx, kv, name)
}

// judgeRemoval refuses to remove a node that may be alive, and while any other voter has not got everything: the cluster
// would then hang on fewer copies than it seems to have.
func (n *Node) judgeRemoval(ctx context.Context, kv *cluster.KV, name string) (removal, error) {
	known, err := sessions(ctx, kv)
	if err != nil {
		return removal{}, err
	}
	v, err := n.voters(ctx, kv)
	if err != nil {
		return removal{}, err
	}
	rec, there := known[name]
	r := removal{before: v, session: there && rec.State == lease.Dead}
	var alive *peer
	for _, p := range v.peers {
		switch {
		case p.isNamed(name) && p.Alive():
			alive = &p
		case p.isNamed(name):
			r.targets = append(r.targets, p)
		}
	}
	// A node that came back with an empty disk is a second voter of its name. Its session, if it has one already, is its own.
	replaced := alive != nil && len(r.targets) > 0
	if replaced && there && rec.DirID == alive.DirID {
		r.session = false
	} else if there && rec.State == lease.Live {
		return r, refuse("node %s is alive at %s (its session is live): stop it first; of a node that just died the session ends within %s",
			name, rec.Address, rec.TTL)
	}
	switch {
	case alive != nil && !replaced:
		return r, refuse("node %s is alive (its broker %s is connected): stop it first", name, alive.server())
	case len(r.targets) == 0 && !there:
		return r, api.Mark(api.ErrNotFound, fmt.Sprintf("the cluster knows no node %s%s", name, n.inConfig(name)))
	}
	return r, r.checkOthers()
}

func (n *Node) inConfig(name string) string {
	if n.configures(name) {
		return ": it is in cluster.nodes and has never joined, so there is nothing to remove"
	}
	return ""
}

func refuse(format string, args ...any) error {
	return api.Mark(api.ErrRefused, fmt.Sprintf(format, args...))
}

func (r removal) isTarget(p peer) bool {
	return slices.ContainsFunc(r.targets, func(t peer) bool { return t.ID == p.ID })
}

func (r removal) checkOthers() error {
	if len(r.targets) == 0 {
		return nil
	}
	var behind []string
	for _, p := range r.before.peers {
		switch {
		case r.isTarget(p):
		case !p.Alive():
			behind = append(behind, p.server()+" is not connected")
		case !p.Current:
			behind = append(behind, p.server()+" has not got everything yet")
		}
	}
	if len(behind) > 0 {
		return refuse("the others must be whole first: %s", strings.Join(behind, "; "))
	}
	return nil
}

// after is what the voters will be.
func (r removal) after() api.Voters {
	a := r.before.summary()
	a.Count -= len(r.targets)
	a.Quorum = a.Count/2 + 1
	return a
}

func removalWarnings(after api.Voters) []string {
	w := []string{}
	if after.Alive <= after.Quorum {
		w = append(w, fmt.Sprintf("with %d of %d voters needed, none may fail until another node joins", after.Quorum, after.Count))
	} else if after.Count%2 == 0 {
		w = append(w, fmt.Sprintf("%d voters survive the loss of no more than %d do: add or remove one", after.Count, after.Count-1))
	}
	return w
}

// removePeer marks an identity removed, then takes it out of the voters. In this order it cannot come back unnoticed; if
// the second step fails, doing all again is safe.
func (n *Node) removePeer(ctx context.Context, kv *cluster.KV, p peer) error {
	err := again(ctx, func() error {
		var rec peerRecord
		removed := peerRecord{Version: 1, Node: p.name(), Server: p.server(), DirID: p.DirID, Removed: true, By: api.By(ctx)}
		err := kv.Update(ctx, peerKey(p.ID), &rec, func() error {
			rec = removed
			return nil
		})
		if errors.Is(err, cluster.ErrNotARecord) {
			err = kv.Replace(ctx, peerKey(p.ID), removed, &rec)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("note that %s is removed: %w", p.server(), err)
	}
	err = again(ctx, func() error { return n.broker.RemovePeer(ctx, p.ID) })
	if errors.Is(err, server.ErrNotMember) {
		return nil
	}
	return err
}

func endSession(ctx context.Context, kv *cluster.KV, node string) error {
	return again(ctx, func() error {
		err := kv.EndSession(ctx, node)
		if errors.Is(err, cluster.ErrUnknown) {
			return nil
		}
		return err
	})
}

// again tries a few times what may lose against another write or an election.
func again(ctx context.Context, try func() error) (err error) {
	for range 5 {
		if err = try(); err == nil || errors.Is(err, cluster.ErrAlive) || errors.Is(err, server.ErrNotMember) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(200 * time.Millisecond):
		}
	}
	return err
}

package membership

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
	"leasehold/internal/every"
	"leasehold/internal/registry"
	"leasehold/server"
)

const (
	removalLimit = 12 * time.Second // For a whole removal: less than the caller waits for it.
	confirmAfter = time.Second      // Between the two checks that find a peer dead; longer than a heartbeat.
)

// removal is one node's removal as it was decided.
type removal struct {
	targets []Voter
	session bool // There is one to end.
	before  Voters
}

// RemoveNode takes a dead node's identities out of the voters and ends its session, or says why not.
func (m *Membership) RemoveNode(ctx context.Context, name string, dryRun bool) (*api.NodeRemoval, error) {
	ctx, cancel := context.WithTimeout(ctx, removalLimit)
	defer cancel()
	if m.Single {
		return nil, api.Mark(api.ErrRefused, "this node is on its own: there is no cluster to remove a node from")
	}
	r, err := m.decideRemoval(ctx, name)
	if err != nil {
		return nil, err
	}
	out := &api.NodeRemoval{V: api.Version, Name: name, DryRun: dryRun, SessionEnded: r.session,
		Before: r.before.Summary(), Removed: []string{}}
	for _, p := range r.targets {
		out.Removed = append(out.Removed, p.ServerName())
	}
	out.After = r.after()
	out.Warnings = removalWarnings(out.After)
	if dryRun {
		return out, nil
	}
	for _, p := range r.targets {
		if err := m.removeVoter(ctx, p); err != nil {
			return nil, err
		}
	}
	if r.session {
		if err := m.endSession(ctx, name); err != nil {
			return nil, fmt.Errorf("the voter is removed; end the session of %s: %w", name, err)
		}
	}
	if v, err := m.Voters(ctx); err == nil {
		out.After = v.Summary()
	}
	m.log.Info("node removed", "by", api.By(ctx), "node", name, "servers", out.Removed, "voters", out.After.Count,
		"quorum", out.After.Quorum)
	return out, nil
}

// decideRemoval checks twice, a moment apart: right after an election the leader has heard nobody.
func (m *Membership) decideRemoval(ctx context.Context, name string) (removal, error) {
	if r, err := m.judgeRemoval(ctx, name); err != nil && !errors.Is(err, api.ErrRefused) {
		return r, err
	}
	if !every.Sleep(ctx, confirmAfter) {
		return removal{}, ctx.Err()
	}
	return m.judgeRemoval(ctx, name)
}

// judgeRemoval refuses to remove a node that may be alive, and while any other voter is not current: the cluster would
// then depend on fewer replicas than it seems to have.
func (m *Membership) judgeRemoval(ctx context.Context, name string) (removal, error) {
	known, err := registry.Sessions(ctx, m.KV)
	if err != nil {
		return removal{}, err
	}
	v, err := m.Voters(ctx)
	if err != nil {
		return removal{}, err
	}
	rec, there := known[name]
	r := removal{before: v, session: there && rec.State == lease.Dead}
	var alive *Voter
	for _, p := range v.All {
		switch {
		case p.isNamed(name) && p.Alive():
			alive = &p
		case p.isNamed(name):
			r.targets = append(r.targets, p)
		}
	}
	// A node that came back with an empty disk is a second voter of its name. Its session, if it has one already, is its
	// own.
	replaced := alive != nil && len(r.targets) > 0
	if replaced && there && rec.DirID == alive.DirID {
		r.session = false
	} else if there && rec.State == lease.Live {
		return r, refuse("node %s is alive at %s (its session is live): stop it first; of a node that just died the "+
			"session ends within %s",
			name, rec.Address, rec.TTL)
	}
	switch {
	case alive != nil && !replaced:
		return r, refuse("node %s is alive (its broker %s is connected): stop it first", name, alive.ServerName())
	case len(r.targets) == 0 && !there:
		return r, api.Mark(api.ErrNotFound, fmt.Sprintf("the cluster knows no node %s%s", name, m.inConfig(name)))
	}
	return r, r.checkOthers()
}

func (m *Membership) inConfig(name string) string {
	if m.Configures(name) {
		return ": it is in cluster.nodes and has never joined, so there is nothing to remove"
	}
	return ""
}

func (r removal) isTarget(p Voter) bool {
	return slices.ContainsFunc(r.targets, func(t Voter) bool { return t.ID == p.ID })
}

func (r removal) checkOthers() error {
	if len(r.targets) == 0 {
		return nil
	}
	var behind []string
	for _, p := range r.before.All {
		switch {
		case r.isTarget(p):
		case !p.Alive():
			behind = append(behind, p.ServerName()+" is not connected")
		case !p.Current:
			behind = append(behind, p.ServerName()+" is not current yet")
		}
	}
	if len(behind) > 0 {
		return refuse("the other voters must be current first: %s", strings.Join(behind, "; "))
	}
	return nil
}

// after is what the voters will be.
func (r removal) after() api.Voters {
	a := r.before.Summary()
	a.Count -= len(r.targets)
	a.Quorum = a.Count/2 + 1
	return a
}

func removalWarnings(after api.Voters) []string {
	w := []string{}
	if after.Alive <= after.Quorum {
		w = append(w, fmt.Sprintf("with %d of %d voters needed, none may fail until another node joins", after.Quorum,
			after.Count))
	} else if after.Count%2 == 0 {
		w = append(w, fmt.Sprintf("%d voters tolerate no more failures than %d do: add or remove one", after.Count,
			after.Count-1))
	}
	return w
}

// removeVoter marks an identity removed, then takes it out of the voters. In this order it cannot come back unnoticed;
// if the second step fails, doing all again is safe.
func (m *Membership) removeVoter(ctx context.Context, p Voter) error {
	removed := registry.Peer{Version: registry.Version, Node: p.Name(), Server: p.ServerName(), DirID: p.DirID,
		Removed: true, By: api.By(ctx)}
	record := m.Registry.Peer(p.ID)
	err := retry(ctx, func() error {
		err := record.Update(ctx, func(rec *registry.Peer) error {
			*rec = removed
			return nil
		})
		if errors.Is(err, cluster.ErrNotARecord) {
			_, err = record.Replace(ctx, removed)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("record that %s is removed: %w", p.ServerName(), err)
	}
	err = retry(ctx, func() error { return m.Broker.RemovePeer(ctx, p.ID) })
	if errors.Is(err, server.ErrNotMember) {
		return nil
	}
	return err
}

func (m *Membership) endSession(ctx context.Context, node string) error {
	return retry(ctx, func() error {
		err := m.KV.EndSession(ctx, node)
		if errors.Is(err, cluster.ErrUnknown) {
			return nil
		}
		return err
	})
}

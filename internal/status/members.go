package status

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"leasehold/cluster/lease"
	"leasehold/internal/api"
	"leasehold/internal/brokererr"
	"leasehold/internal/membership"
	"leasehold/internal/registry"
	"leasehold/server"
)

// Members lists every identity that is a voter, has had a session, or is in the config.
func (r *Reader) Members(ctx context.Context) (*api.NodeList, error) {
	if q := r.Quorum(); !q.Working() {
		return r.membersLastKnown(r.lastView(ctx), q), nil
	}
	store, err := r.Store()
	if err != nil {
		return nil, err
	}
	known, err := registry.Sessions(ctx, store.KV)
	if err != nil {
		return nil, err
	}
	out := &api.NodeList{V: api.Version, Cluster: r.Config.Identity().Cluster, Node: r.node(), Warnings: []string{}}
	asking, cancel := context.WithTimeout(ctx, 2*membership.LeaderWait)
	v, leaderErr := store.Membership.Voters(asking)
	cancel()
	if leaderErr != nil {
		out.Warnings = append(out.Warnings, "who votes is not known: "+brokererr.Text(leaderErr))
	}
	out.Voters = v.Summary()
	out.Nodes = r.members(v, known)
	r.reach(r.Quorum(), true).applyMembers(out.Nodes)
	r.addReports(ctx, out.Nodes)
	for i := range out.Nodes {
		out.Nodes[i].Note = r.note(out.Nodes[i], out.Nodes, leaderErr == nil)
	}
	return out, nil
}

// members puts voters, sessions and configured nodes together, by name.
func (r *Reader) members(v membership.Voters, known map[string]lease.Session) []api.Member {
	all, shown := voterMembers(v, known)
	for name, rec := range known {
		if shown[name] {
			continue
		}
		m := api.Member{Name: name}
		addSession(&m, rec)
		if v.Removed(rec) {
			m.State = "removed"
		}
		all = append(all, m)
	}
	for _, p := range r.Config.Peers() {
		if !slices.ContainsFunc(all, func(m api.Member) bool { return m.Name == p.Name }) {
			all = append(all, api.Member{Name: p.Name, State: "absent", Address: p.Address})
		}
	}
	for i := range all {
		if all[i].Groups == nil {
			all[i].Groups = []string{}
		}
	}
	slices.SortFunc(all, func(a, b api.Member) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(b.Boot, a.Boot), cmp.Compare(a.Server, b.Server))
	})
	return all
}

// voterMembers are the voters, each with the session that is its own. shown are the nodes of those sessions.
func voterMembers(v membership.Voters, known map[string]lease.Session) (all []api.Member, shown map[string]bool) {
	shown = map[string]bool{}
	for _, p := range v.All {
		m := api.Member{
			Name: cmp.Or(p.Name(), "?"), Server: p.ServerName(), State: "absent", Peer: true, Current: p.Current && p.Alive(),
			Leader: p.Leader,
		}
		if rec, ok := known[p.Name()]; ok && (p.DirID == rec.DirID || p.DirID == "" && v.Named(p.Name()) == 1) {
			addSession(&m, rec)
			shown[rec.Node] = true
		}
		switch {
		case !p.Alive() && v.AliveNamed(p.Name()):
			m.State = "former"
		case p.Alive() && m.State != string(lease.Live):
			m.State = "joining"
		}
		all = append(all, m)
	}
	return all, shown
}

// addSession fills in what a node's session says of it.
func addSession(m *api.Member, rec lease.Session) {
	m.State, m.Boot, m.ServerID, m.Address, m.Version = state(rec), rec.Boot, rec.ServerID, rec.Address, rec.Release
	for _, g := range rec.Groups {
		if !registry.IsHousekeeping(g) {
			m.Groups = append(m.Groups, g)
		}
	}
}

// addReports fills in what live nodes report of themselves, and what they own.
func (r *Reader) addReports(ctx context.Context, all []api.Member) {
	s, err := r.Status(ctx)
	if err != nil {
		return
	}
	for i := range all {
		for _, other := range s.Nodes {
			if all[i].State == api.NodeLive && other.Name == all[i].Name {
				all[i].Ready, all[i].Partitions = other.Ready, other.Partitions
			}
		}
	}
}

// configures reports whether a node is in this node's config.
func (r *Reader) configures(name string) bool {
	return slices.ContainsFunc(r.Config.Peers(), func(p server.Peer) bool { return p.Name == name })
}

// memberWarnings says what an operator should do about the voters.
func (r *Reader) memberWarnings(view lease.View, v membership.Voters) (out []string) {
	if len(v.All) == 0 { // no leader, or a node on its own
		for _, rec := range view.Sessions {
			if rec.State != lease.Live {
				out = append(out, fmt.Sprintf("node %s is %s", rec.Node,
					map[lease.State]string{lease.Dead: "dead", lease.Ended: "stopped"}[rec.State]))
			}
		}
		return out
	}
	all := r.members(v, sessionsOf(view))
	for _, m := range all {
		if note := r.note(m, all, true); note != "" {
			out = append(out, fmt.Sprintf("node %s: %s", m.Name, note))
		}
	}
	s := v.Summary()
	if s.Alive < s.Count && s.Alive <= s.Quorum {
		out = append(out, fmt.Sprintf("%d of %d voters are alive and %d are needed: no other may fail", s.Alive, s.Count,
			s.Quorum))
	}
	if s.Count%2 == 0 {
		out = append(out, fmt.Sprintf("the cluster has %d voters, which survive the loss of no more nodes than %d do: "+
			"add a node, or remove one that is gone", s.Count, s.Count-1))
	}
	return out
}

// note says what an operator should do about a member, "" if nothing.
func (r *Reader) note(m api.Member, all []api.Member, votersKnown bool) string {
	configured := r.configures(m.Name)
	returned := slices.ContainsFunc(all, func(o api.Member) bool {
		return o.Name == m.Name && o.Server != m.Server && o.State == "former"
	})
	removal := fmt.Sprintf("`leasehold node remove %s`", m.Name)
	switch {
	case !votersKnown || r.single():
		return ""
	case m.State == "former":
		return "an earlier identity, still a voter: " + removal
	case m.State == "joining" && returned:
		return "waits until its earlier identity is removed: " + removal
	case m.State == "removed" && configured:
		return "removed: start its replacement with an empty data directory, or take it out of cluster.nodes"
	case m.Peer && (m.State == api.NodeDead || m.State == string(lease.Ended) || m.State == "absent"):
		return "down, still a voter: start it, or if it does not come back: " + removal
	case m.State == api.NodeLive && !m.Peer:
		return "not a voter: was it removed while it was cut off?"
	case m.State == api.NodeLive && !configured:
		return "not in this node's cluster.nodes: add it at this node's next restart"
	}
	return ""
}

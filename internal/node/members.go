package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"leasehold/cluster"
	"leasehold/cluster/lease"
	"leasehold/internal/api"
	"leasehold/internal/brokererr"
	"leasehold/server"
	"leasehold/server/datadir"
)

// leaderWait bounds a question to the meta leader for a status: without one there is nothing to wait for.
const leaderWait = 700 * time.Millisecond

// peerRecord remembers which node a voter of the cluster was, under "peer.<id>". The broker forgets the name of a peer
// that none of the running nodes has met, and a removed identity must be known when it comes back.
type peerRecord struct {
	Version int    `json:"v"`
	Node    string `json:"node"`
	Server  string `json:"server"`
	DirID   string `json:"dir_id"`
	Removed bool   `json:"removed,omitempty"`
	By      string `json:"by,omitempty"` // Who had it removed, for people.
}

// Valid says what is missing.
func (r peerRecord) Valid() error {
	if r.Node == "" && !r.Removed || r.Server == "" {
		return errors.New("it names no node or no server")
	}
	return nil
}

func peerKey(id string) string { return "peer." + id }

// peer is a voter and what is remembered of it.
type peer struct {
	server.ClusterPeer
	peerRecord
}

func (p peer) name() string { return cmp.Or(p.peerRecord.Node, p.ClusterPeer.Node()) }

func (p peer) server() string { return cmp.Or(p.ClusterPeer.Server, p.peerRecord.Server, p.ID) }

// isNamed reports whether a person may mean this peer.
func (p peer) isNamed(name string) bool {
	return name != "" && (p.name() == name || p.ClusterPeer.Server == name || p.peerRecord.Server == name || p.ID == name)
}

// voters is who the cluster counts.
type voters struct {
	peers  []peer
	quorum int
}

func (v voters) summary() api.Voters {
	s := api.Voters{Count: len(v.peers), Quorum: v.quorum}
	for _, p := range v.peers {
		if p.Alive() {
			s.Alive++
		}
	}
	return s
}

// store is the bucket, nil until it is open.
func (n *Node) store() *cluster.KV {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.kv
}

// opened is the bucket, or what the node waits for.
func (n *Node) opened() (*cluster.KV, error) {
	if kv := n.store(); kv != nil {
		return kv, nil
	}
	return nil, api.Mark(api.ErrNotYet, "the node is starting")
}

// voters asks the meta leader who votes, and completes it by what is remembered. In single mode there are none.
func (n *Node) voters(ctx context.Context, kv *cluster.KV) (voters, error) {
	if n.Config.Mode() == datadir.Single {
		return voters{}, nil
	}
	m, err := n.broker.Membership(ctx)
	if err != nil {
		return voters{}, api.Mark(api.ErrNotYet, err.Error())
	}
	defs, err := kv.Definitions(ctx, "peer")
	if err != nil {
		return voters{}, err
	}
	known := map[string]peerRecord{}
	for _, d := range defs {
		var rec peerRecord
		if err := cluster.Decode("peer."+d.Name, d.Revision, d.Data, &rec); err == nil { // one that is not a record names no node
			known[d.Name] = rec
		}
	}
	v := voters{quorum: m.Quorum}
	for _, p := range m.Peers {
		v.peers = append(v.peers, peer{ClusterPeer: p, peerRecord: known[p.ID]})
	}
	return v, nil
}

// sessions reads the session records by node.
func sessions(ctx context.Context, kv *cluster.KV) (map[string]lease.Session, error) {
	saws, err := kv.Sessions(ctx)
	if err != nil {
		return nil, err
	}
	all := map[string]lease.Session{}
	for _, s := range saws {
		if s.Session != nil {
			all[s.Key.Node] = *s.Session
		}
	}
	return all, nil
}

// Members lists every identity that is a voter, has had a session, or is in the config.
func (n *Node) Members(ctx context.Context) (*api.NodeList, error) {
	if q := n.quorum(); !q.Working() {
		return n.membersLastKnown(n.lastView(ctx), q), nil
	}
	kv, err := n.opened()
	if err != nil {
		return nil, err
	}
	known, err := sessions(ctx, kv)
	if err != nil {
		return nil, err
	}
	out := &api.NodeList{V: api.Version, Cluster: n.Config.Identity().Cluster, Node: n.Config.Node.Name, Warnings: []string{}}
	asking, cancel := context.WithTimeout(ctx, 2*leaderWait)
	v, leaderErr := n.voters(asking, kv)
	cancel()
	if leaderErr != nil {
		out.Warnings = append(out.Warnings, "who votes is not known: "+brokererr.Text(leaderErr))
	}
	out.Voters = v.summary()
	out.Nodes = n.members(v, known)
	n.reach(n.quorum(), true).applyMembers(out.Nodes)
	n.fillLive(ctx, out.Nodes)
	for i := range out.Nodes {
		out.Nodes[i].Note = n.note(out.Nodes[i], out.Nodes, leaderErr == nil)
	}
	return out, nil
}

// members puts voters, sessions and configured nodes together, by name.
func (n *Node) members(v voters, known map[string]lease.Session) []api.Member {
	var all []api.Member
	told := map[string]bool{} // Sessions that are shown.
	for _, p := range v.peers {
		m := api.Member{
			Name: cmp.Or(p.name(), "?"), Server: p.server(), State: "absent", Peer: true, Current: p.Current && p.Alive(), Leader: p.Leader,
		}
		rec, ok := known[p.name()]
		switch {
		case ok && (p.DirID == rec.DirID || p.DirID == "" && v.named(p.name()) == 1):
			fromSession(&m, rec)
			told[rec.Node] = true
		}
		switch {
		case !p.Alive() && v.aliveNamed(p.name()):
			m.State = "former"
		case p.Alive() && m.State != string(lease.Live):
			m.State = "joining"
		}
		all = append(all, m)
	}
	for name, rec := range known {
		if told[name] {
			continue
		}
		m := api.Member{Name: name}
		fromSession(&m, rec)
		if v.removed(rec) {
			m.State = "removed"
		}
		all = append(all, m)
	}
	for _, p := range n.Config.Peers() {
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

// removed reports whether a session is what is left of a node that was taken out of the cluster.
func (v voters) removed(rec lease.Session) bool {
	return len(v.peers) > 0 && rec.State != lease.Live && v.named(rec.Node) == 0
}

// configures reports whether a node is in this node's list.
func (n *Node) configures(name string) bool {
	return slices.ContainsFunc(n.Config.Peers(), func(p server.Peer) bool { return p.Name == name })
}

// memberWarnings says what a person should do about the voters.
func (n *Node) memberWarnings(view lease.View, v voters) (out []string) {
	known := map[string]lease.Session{}
	for _, rec := range view.Sessions {
		known[rec.Node] = rec
	}
	if len(v.peers) == 0 { // no leader, or a node on its own
		for _, rec := range view.Sessions {
			if rec.State != lease.Live {
				out = append(out, fmt.Sprintf("node %s is %s", rec.Node, map[lease.State]string{lease.Dead: "dead", lease.Ended: "stopped"}[rec.State]))
			}
		}
		return out
	}
	all := n.members(v, known)
	for _, m := range all {
		if note := n.note(m, all, true); note != "" {
			out = append(out, fmt.Sprintf("node %s: %s", m.Name, note))
		}
	}
	s := v.summary()
	if s.Alive < s.Count && s.Alive <= s.Quorum {
		out = append(out, fmt.Sprintf("%d of %d voters are alive and %d are needed: no other may fail", s.Alive, s.Count, s.Quorum))
	}
	if s.Count%2 == 0 {
		out = append(out, fmt.Sprintf("the cluster has %d voters, which survive the loss of no more nodes than %d do: "+
			"add a node, or remove one that is gone", s.Count, s.Count-1))
	}
	return out
}

// named counts the voters of a node's name.
func (v voters) named(name string) (count int) {
	for _, p := range v.peers {
		if p.name() == name {
			count++
		}
	}
	return count
}

func (v voters) aliveNamed(name string) bool {
	return slices.ContainsFunc(v.peers, func(p peer) bool { return p.name() == name && p.Alive() })
}

func fromSession(m *api.Member, rec lease.Session) {
	m.State, m.Boot, m.ServerID, m.Address, m.Version = nodeState(rec), rec.Boot, rec.ServerID, rec.Address, rec.Release
	for _, g := range rec.Groups {
		if !isChore(g) {
			m.Groups = append(m.Groups, g)
		}
	}
}

// fillLive adds what live nodes say of themselves, and what they own.
func (n *Node) fillLive(ctx context.Context, all []api.Member) {
	s, err := n.Status(ctx)
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

// note says what a person should do about a member.
func (n *Node) note(m api.Member, all []api.Member, votersKnown bool) string {
	configured := n.configures(m.Name)
	again := slices.ContainsFunc(all, func(o api.Member) bool { return o.Name == m.Name && o.Server != m.Server && o.State == "former" })
	removal := fmt.Sprintf("`leasehold node remove %s`", m.Name)
	switch {
	case !votersKnown || n.Config.Mode() == datadir.Single:
		return ""
	case m.State == "former":
		return "an earlier identity, still a voter: " + removal
	case m.State == "joining" && again:
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

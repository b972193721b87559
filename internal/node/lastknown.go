package node

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"leasehold/cluster/lease"
	"leasehold/internal/api"
	"leasehold/partitioner"
	"leasehold/server"
)

// snapshotLimit bounds the question to the lease protocol of this node, which answers at once unless it is stuck.
const snapshotLimit = 2 * time.Second

// stuck is what an operator is told when it does not answer.
const stuck = "this node's lease protocol does not answer, so it cannot say who owns what: see the node's log, and restart it if that lasts"

// staleness says why what this node knows of the cluster is the last it knew, "" if it is up to date.
func (n *Node) staleness(view lease.View, quorum bool) string {
	if !quorum {
		return "there is no quorum: owners, lags and sizes are those that node " + n.Config.Node.Name + " knew last"
	}
	if view.Live {
		return ""
	}
	why := "is not live (" + view.State + ")"
	for _, rec := range view.Sessions {
		if rec.Node == n.Config.Node.Name && rec.Boot == view.Boot && rec.State == lease.Dead {
			why = "was declared dead by the others"
		}
	}
	return fmt.Sprintf("node %s %s: owners, lags and sizes are those that it knew last; ask another node", n.Config.Node.Name, why)
}

// reach is who answers this node.
type reach struct {
	self    string
	working bool
	silent  map[string]server.SilentPeer
}

func (n *Node) reach(q server.Quorum, working bool) reach {
	r := reach{self: n.Config.Node.Name, working: working, silent: map[string]server.SilentPeer{}}
	for _, p := range q.Silent {
		if !p.Replaced { // the one that has its name answers
			r.silent[p.Node] = p
		}
	}
	return r
}

// state is a node's state, given that of its session: a session is believed to be alive for its ttl after the last sign of
// it, and for ever without a quorum.
func (r reach) state(node, session string) (state, lastSeen string) {
	p, silent := r.silent[node]
	if silent && p.Heard {
		lastSeen = p.Since.UTC().Format(time.RFC3339)
	}
	gone := session != string(lease.Live) && (session != "absent" || r.working)
	switch {
	case gone:
		return session, lastSeen
	case silent && node != r.self:
		return api.NodeUnreachable, lastSeen
	case !r.working:
		return api.NodeWaiting, ""
	}
	return session, ""
}

// answering counts the nodes that can be expected to answer.
func (r reach) answering(view lease.View) (count int) {
	for _, node := range liveNodes(view) {
		if _, silent := r.silent[node]; !silent {
			count++
		}
	}
	return count
}

// apply corrects the states of nodes that were put together from sessions.
func (r reach) apply(nodes []api.Node) {
	for i := range nodes {
		m := &nodes[i]
		m.State, m.LastSeen = r.state(m.Name, m.State)
		m.Ready = m.Ready && m.State == api.NodeLive
	}
}

// applyMembers is apply for identities. A former one stays what it is.
func (r reach) applyMembers(all []api.Member) {
	for i := range all {
		m := &all[i]
		m.State, m.LastSeen = r.state(m.Name, m.State)
	}
}

// memberWarnings are those about voters and dead nodes. Without a quorum nothing can be done about them.
func (r reach) memberWarnings(n *Node, view lease.View, v voters) []string {
	if !r.working {
		return nil
	}
	return n.memberWarnings(view, v)
}

// lastKnownTopics are the topics as this node's own replicas hold them.
func (n *Node) lastKnownTopics() (topics []api.Topic) {
	for _, c := range n.Config.Topics {
		t := api.Topic{Name: c.Name, Partitions: c.Partitions}
		if r, err := n.broker.Replica(c.Name); err == nil {
			state := r.State()
			t.Messages, t.Bytes, t.LastSeq = state.Messages, state.Bytes, state.Last
		}
		topics = append(topics, t)
	}
	return topics
}

// lastKnownLetters counts the dead letters in this node's own replica, -1 if it has none.
func (n *Node) lastKnownLetters(group string) int64 {
	r, err := n.broker.Replica(partitioner.DeadLetterStream(group))
	if err != nil {
		return -1
	}
	return int64(r.State().Messages)
}

// startingNodes are the configured nodes, for a node that has not come far enough to know sessions: who is missing is the
// reason for that.
func (n *Node) startingNodes(q server.Quorum) (nodes []api.Node) {
	if q.Working() {
		return nil
	}
	for _, p := range n.Config.Peers() {
		nodes = append(nodes, api.Node{Name: p.Name, State: "absent", Address: p.Address})
	}
	n.reach(q, false).apply(nodes)
	return nodes
}

// lastView is what the lease protocol knew last, nothing if it has not begun or does not answer.
func (n *Node) lastView(ctx context.Context) lease.View {
	n.mu.Lock()
	served := n.served
	n.mu.Unlock()
	if !served {
		return lease.View{}
	}
	view, err := n.snapshot(ctx)
	if err != nil {
		return lease.View{}
	}
	return view
}

// membersLastKnown lists the nodes without asking anybody.
func (n *Node) membersLastKnown(view lease.View, q server.Quorum) *api.NodeList {
	known := map[string]lease.Session{}
	for _, rec := range view.Sessions {
		known[rec.Node] = rec
	}
	out := &api.NodeList{
		V: api.Version, Cluster: n.Config.Identity().Cluster, Node: n.Config.Node.Name, NoQuorum: q.Text(), Nodes: n.members(voters{}, known),
		Warnings: []string{"who votes is not known without a quorum; what is listed is what node " + n.Config.Node.Name + " knew last"},
	}
	n.reach(q, false).applyMembers(out.Nodes)
	for i, m := range out.Nodes {
		out.Nodes[i].Partitions = 0 // nobody owns one without a quorum
		if m.State == api.NodeUnreachable {
			out.Nodes[i].Note = fmt.Sprintf("does not answer at %s: start it, or see to its network", cmp.Or(m.Address, "its address"))
		}
	}
	return out
}

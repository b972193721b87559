package status

import (
	"cmp"
	"context"
	"fmt"

	"leasehold/cluster/lease"
	"leasehold/internal/api"
	"leasehold/internal/membership"
	"leasehold/partitioner"
	"leasehold/server"
)

// staleness says why what this node knows of the cluster is the last it knew, "" if it is up to date.
func (r *Reader) staleness(view lease.View, quorum bool) string {
	if !quorum {
		return "there is no quorum: owners, lags and sizes are those that node " + r.node() + " knew last"
	}
	if view.Live {
		return ""
	}
	why := "is not live (" + view.State + ")"
	for _, rec := range view.Sessions {
		if rec.Node == r.node() && rec.Boot == view.Boot && rec.State == lease.Dead {
			why = "was declared dead by the others"
		}
	}
	return fmt.Sprintf("node %s %s: owners, lags and sizes are those that it knew last; ask another node", r.node(), why)
}

// lastKnownTopics are the topics as this node's own replicas hold them.
func (r *Reader) lastKnownTopics() (topics []api.Topic) {
	for _, c := range r.Config.Topics {
		t := api.Topic{Name: c.Name, Partitions: c.Partitions}
		if replica, err := r.Broker.Replica(c.Name); err == nil {
			state := replica.State()
			t.Messages, t.Bytes, t.LastSeq = state.Messages, state.Bytes, state.Last
		}
		topics = append(topics, t)
	}
	return topics
}

// lastKnownDeadLetters counts the dead letters in this node's own replica, -1 if it has none.
func (r *Reader) lastKnownDeadLetters(group string) int64 {
	replica, err := r.Broker.Replica(partitioner.DeadLetterStream(group))
	if err != nil {
		return -1
	}
	return int64(replica.State().Messages)
}

// startingNodes are the configured nodes, for a node that has not come far enough to know sessions: one that is missing
// is the reason for that.
func (r *Reader) startingNodes(q server.Quorum) (nodes []api.Node) {
	if q.Working() {
		return nil
	}
	for _, p := range r.Config.Peers() {
		nodes = append(nodes, api.Node{Name: p.Name, State: "absent", Address: p.Address})
	}
	r.reach(q, false).apply(nodes)
	return nodes
}

// lastView is what the lease protocol knew last, the zero View if it has not begun or does not answer.
func (r *Reader) lastView(ctx context.Context) lease.View {
	serving := r.Serving()
	if serving == nil {
		return lease.View{}
	}
	view, err := Snapshot(ctx, serving.Driver)
	if err != nil {
		return lease.View{}
	}
	return view
}

// membersLastKnown lists the nodes without asking anybody.
func (r *Reader) membersLastKnown(view lease.View, q server.Quorum) *api.NodeList {
	out := &api.NodeList{
		V: api.Version, Cluster: r.Config.Identity().Cluster, Node: r.node(), NoQuorum: q.Text(),
		Nodes:    r.members(membership.Voters{}, sessionsOf(view)),
		Warnings: []string{"who votes is not known without a quorum; what is listed is what node " + r.node() + " knew last"},
	}
	r.reach(q, false).applyMembers(out.Nodes)
	for i, m := range out.Nodes {
		out.Nodes[i].Partitions = 0 // nobody owns one without a quorum
		if m.State == api.NodeUnreachable {
			out.Nodes[i].Note = fmt.Sprintf("does not answer at %s: start it, or check its network",
				cmp.Or(m.Address, "its address"))
		}
	}
	return out
}

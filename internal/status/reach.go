package status

import (
	"time"

	"leasehold/cluster/lease"
	"leasehold/internal/api"
	"leasehold/internal/membership"
	"leasehold/internal/peers"
	"leasehold/server"
)

// reach is which nodes answer this one.
type reach struct {
	self    string
	working bool // There is a quorum.
	silent  map[string]server.SilentPeer
}

func (r *Reader) reach(q server.Quorum, working bool) reach {
	out := reach{self: r.node(), working: working, silent: map[string]server.SilentPeer{}}
	for _, p := range q.Silent {
		if !p.Replaced { // the one that has its name answers
			out.silent[p.Node] = p
		}
	}
	return out
}

// state is a node's state, given that of its session: a session is believed to be alive for its ttl after the last sign
// of it, and for ever without a quorum.
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
	for _, node := range peers.Live(view) {
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
func (r reach) memberWarnings(reader *Reader, view lease.View, v membership.Voters) []string {
	if !r.working {
		return nil
	}
	return reader.memberWarnings(view, v)
}

package status

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
	"leasehold/internal/membership"
	"leasehold/internal/peers"
	"leasehold/internal/registry"
	"leasehold/internal/supervise"
	"leasehold/partitioner/stream"
)

// listWait is how long a status waits for the list of all streams.
const listWait = time.Second

// Reader answers what a node can see of its cluster.
type Reader struct{ *View }

// NewReader returns a Reader.
func NewReader(v *View) *Reader { return &Reader{v} }

// Ready lists what the node waits for; nothing means that it is ready.
func (r *Reader) Ready() []string { return r.View.Ready() }

// Topic is the status of one of the node's topics.
func (r *Reader) Topic(name string) (api.TopicInfo, bool) {
	t, ok := r.Config.Topic(name)
	if !ok {
		return api.TopicInfo{}, false
	}
	return api.TopicInfo{
		Name: t.Name, Partitions: t.Partitions, Subject: t.Subject, Key: t.Key, DedupWindowMS: t.DedupWindow.Milliseconds(),
		MaxPayload: int64(r.Config.Server.MaxPayload), Server: r.Broker.ClientAddr(),
		CA: r.ClientCA, NoQuorum: r.Quorum().Text(),
	}, true
}

// Status puts together what this node knows, what is stored, and what the other nodes report of their lanes.
func (r *Reader) Status(ctx context.Context) (*api.Status, error) {
	reasons, q, serving := r.Ready(), r.Quorum(), r.Serving()
	s := &api.Status{
		Cluster: r.Config.Identity().Cluster, Node: r.node(), Ready: len(reasons) == 0, Leader: q.Leader, NoQuorum: q.Text(),
		Listen: r.Config.Listeners(),
	}
	s.Warnings = append(s.Warnings, r.Config.Warnings()...)
	if serving == nil {
		for _, text := range reasons {
			s.Warnings = append(s.Warnings, "this node waits for "+supervise.Plain(text))
		}
		s.Nodes = r.startingNodes(q)
		return s, nil
	}
	view, err := Snapshot(ctx, serving.Driver)
	if err != nil {
		return nil, err
	}
	if s.Quorum = !q.Lost() && (q.Leader != "" || view.Live); s.Quorum {
		s.NoQuorum = ""
	}
	s.Stale = r.staleness(view, s.Quorum)
	reach := r.reach(q, s.Quorum)
	store := r.Opened()
	asked, listed := askVoters(ctx, store.Membership), askReservations(ctx, store)
	// Before the lanes are asked: what is stored now, they have passed then.
	topics, full := r.topicStatus(ctx, serving, s.Quorum)
	reports := peers.Reports(ctx, store.Peers, reach.answering(view))
	remote := r.remote(ctx, store, &view, listed)
	voters := <-asked
	s.Nodes = r.nodes(view, reports, voters)
	reach.apply(s.Nodes)
	s.Topics = topics
	s.Groups = r.groupStatus(ctx, slices.Concat(serving.Groups, remote.groups), observed{
		view: view, reports: reports, topics: topics, stale: s.Stale != "", quorum: s.Quorum,
	})
	s.Warnings = slices.Concat(s.Warnings, diskWarnings(r.timing(), reports, topics), logWarnings(reports),
		corruptionWarnings(remote.corrupt, s.Nodes), full, r.viewWarnings(view), reach.memberWarnings(r, view, voters),
		remote.warnings,
		deadLetterWarnings(s.Groups))
	return s, nil
}

// timing is how this node's cluster is timed, "" for a node on its own, which has no elections.
func (r *Reader) timing() string {
	if r.single() {
		return ""
	}
	return r.Config.Cluster.Timing
}

// askVoters asks beside the rest. Without a leader there are none.
func askVoters(ctx context.Context, m *membership.Membership) <-chan membership.Voters {
	answer := make(chan membership.Voters, 1)
	go func() { // ends within LeaderWait
		ctx, cancel := context.WithTimeout(ctx, membership.LeaderWait)
		defer cancel()
		v, err := m.Voters(ctx)
		if err != nil {
			v = membership.Voters{}
		}
		answer <- v
	}()
	return answer
}

// askReservations lists the streams beside the rest of a status; none if that takes too long.
func askReservations(ctx context.Context, store *Store) <-chan []stream.Reservation {
	answer := make(chan []stream.Reservation, 1)
	go func() { // ends within listWait
		all, err := store.Capacity.Reservations(ctx, listWait)
		if err != nil {
			all = nil
		}
		answer <- all
	}()
	return answer
}

// remote is what other nodes serve and report, and this one only reads.
type remote struct {
	groups   []Group
	corrupt  map[string]registry.Corruption // By node.
	warnings []string
}

// remote reads it and adds the leases of the groups to the view.
func (r *Reader) remote(ctx context.Context, store *Store, view *lease.View,
	listed <-chan []stream.Reservation) (out remote) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	c, err := store.Registry.Catalog(ctx, sessionsOf(*view))
	if err != nil {
		if errors.Is(err, cluster.ErrNotARecord) {
			err = fmt.Errorf("%w; restart a node that has it in its config, which writes it again", err)
		}
		out.warnings = append(out.warnings, fmt.Sprintf("groups that only other nodes serve are not shown: %v", err))
		return out
	}
	out.warnings = append(CatalogWarnings(c), usage{maxStore: r.Config.Server.MaxStore, all: <-listed,
		catalog: c}.warnings()...)
	if out.corrupt, err = store.Registry.Corruptions(ctx); err != nil {
		out.warnings = append(out.warnings, fmt.Sprintf("corrupt replicas are not shown: %v", err))
	}
	for _, g := range r.remoteGroups(c) {
		all, err := registry.Leases(ctx, store.KV, g.Name, g.Partitions, g.StartAfter)
		if err != nil {
			out.warnings = append(out.warnings, fmt.Sprintf("group %s is not shown: %v", g.Name, err))
			continue
		}
		out.groups = append(out.groups, g)
		view.Groups = append(view.Groups, lease.GroupView{Name: g.Name, Leases: all})
	}
	return out
}

// remoteGroups finds the groups that only other live nodes serve, so that every node's status shows the whole cluster.
func (r *Reader) remoteGroups(c registry.Catalog) (out []Group) {
	own := map[string]bool{}
	for _, g := range r.Serving().Groups {
		own[g.Name] = true
	}
	for name, def := range c.Groups {
		if !own[name] && len(c.Servers(name)) > 0 {
			out = append(out, Group{name, def.Topic, c.Topics[def.Topic].Partitions, def.StartAfter})
		}
	}
	slices.SortFunc(out, func(a, b Group) int { return strings.Compare(a.Name, b.Name) })
	return out
}

package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"leasehold/cluster"
	"leasehold/cluster/lease"
	"leasehold/internal/api"
	"leasehold/internal/brokererr"
	"leasehold/partitioner"
	"leasehold/partitioner/stream"
	"leasehold/server/datadir"
	"leasehold/worker"
)

// catalog is what was ever defined, and which live nodes take part in it.
type catalog struct {
	topics map[string]topicDefinition
	groups map[string]groupDefinition
	live   map[string][]string // Live nodes by group, those of chores too.
}

func (n *Node) catalog(ctx context.Context, kv *cluster.KV, known map[string]lease.Session) (catalog, error) {
	c := catalog{live: map[string][]string{}}
	var err1, err2 error
	c.topics, err1 = definitions[topicDefinition](ctx, kv, "topic")
	c.groups, err2 = definitions[groupDefinition](ctx, kv, "group")
	c.addUndefined()
	for _, rec := range known {
		if rec.State == lease.Live {
			for _, g := range rec.Groups {
				c.live[g] = append(c.live[g], rec.Node)
			}
		}
	}
	for _, nodes := range c.live {
		slices.Sort(nodes)
	}
	return c, errors.Join(err1, err2)
}

// addUndefined adds the groups that a topic's record names and that have no definition: the node that was to define them died
// in between. They hold messages back all the same.
func (c catalog) addUndefined() {
	for topic, def := range c.topics {
		for _, g := range def.Groups {
			if _, ok := c.groups[g]; !ok && c.groups != nil {
				c.groups[g] = groupDefinition{Version: 1, Topic: topic, Start: worker.StartEarliest, Done: def.Floor, undefined: true}
			}
		}
	}
}

// liveNodes counts the live nodes that take part in anything.
func (c catalog) liveNodes() int {
	all := map[string]bool{}
	for _, nodes := range c.live {
		for _, node := range nodes {
			all[node] = true
		}
	}
	return len(all)
}

// nodes lists who takes part in a group, never null.
func (c catalog) nodes(group string) []string { return append([]string{}, c.live[group]...) }

func definitions[T any](ctx context.Context, kv *cluster.KV, kind string) (map[string]T, error) {
	defs, err := kv.Definitions(ctx, kind)
	if err != nil {
		return nil, err
	}
	all := map[string]T{}
	for _, d := range defs {
		var def T
		if err := cluster.Decode(kind+"."+d.Name, d.Revision, d.Data, &def); err != nil {
			return nil, err
		}
		all[d.Name] = def
	}
	return all, nil
}

// look reads the sessions and the catalog.
func (n *Node) look(ctx context.Context) (*cluster.KV, catalog, error) {
	kv, err := n.opened()
	if err != nil {
		return nil, catalog{}, err
	}
	known, err := sessions(ctx, kv)
	if err != nil {
		return nil, catalog{}, err
	}
	c, err := n.catalog(ctx, kv, known)
	return kv, c, err
}

// leases reads a group's leases by partition; those never written are free and begin at the group's start. With an error
// about leases that are not valid records, the others are there.
func leases(ctx context.Context, kv *cluster.KV, group string, partitions int, start uint64) ([]lease.Lease, error) {
	all := make([]lease.Lease, partitions)
	for p := range all {
		all[p].Checkpoint = start
	}
	saws, err := kv.Leases(ctx, group, partitions)
	for _, s := range saws {
		switch {
		case s.Invalid != "":
			err = errors.Join(err, fmt.Errorf("%w: %s", cluster.ErrNotARecord, s.Invalid))
		case s.Lease != nil && s.Key.Partition < partitions:
			all[s.Key.Partition] = *s.Lease
		}
	}
	return all, err
}

// finished is the sequence up to which every partition has finished everything.
func finished(all []lease.Lease, start uint64) uint64 {
	if len(all) == 0 {
		return start
	}
	return slices.MinFunc(all, func(a, b lease.Lease) int { return cmp.Compare(a.Checkpoint, b.Checkpoint) }).Checkpoint
}

// GroupList lists every group that was ever defined.
func (n *Node) GroupList(ctx context.Context) (*api.GroupList, error) {
	kv, c, err := n.look(ctx)
	if err != nil {
		return nil, err
	}
	lags := map[string]api.Group{}
	if s, err := n.Status(ctx); err == nil {
		for _, g := range s.Groups {
			lags[g.Name] = g
		}
	}
	letters := n.lettersByGroup(ctx)
	for name := range letters {
		if _, ok := c.groups[name]; !ok {
			c.groups[name] = neverDefined
		}
	}
	out := &api.GroupList{V: api.Version, Groups: []api.GroupInfo{}}
	for name := range c.groups {
		info, err := c.groupInfo(ctx, kv, name)
		if err != nil {
			return nil, err
		}
		if r, ok := letters[name]; ok {
			info.DeadLetters, info.DLQMaxBytes = int64(r.Messages), int64(r.Bytes)
		}
		if g, ok := lags[name]; ok {
			info.Unowned, info.Lag = g.Unowned, g.Lag
		}
		out.Groups = append(out.Groups, info)
	}
	slices.SortFunc(out.Groups, func(a, b api.GroupInfo) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

// groupInfo is what the definition of a group and its leases say.
func (c catalog) groupInfo(ctx context.Context, kv *cluster.KV, name string) (api.GroupInfo, error) {
	def := c.groups[name]
	partitions := c.topics[def.Topic].Partitions
	all, err := leases(ctx, kv, name, partitions, def.Done)
	if err != nil && !errors.Is(err, cluster.ErrNotARecord) { // status warns of those
		return api.GroupInfo{}, err
	}
	info := api.GroupInfo{
		Name: name, Topic: def.Topic, State: "served", Start: def.Start, StartAfter: def.Done, Nodes: c.nodes(name),
		Partitions: partitions, Unowned: partitions, Done: finished(all, def.Done), DeadLetters: -1,
	}
	switch {
	case def.Removed:
		info.State = "removed"
	case def.undefined:
		info.State = "unfinished"
	case len(info.Nodes) == 0:
		info.State = "idle"
	}
	return info, nil
}

// lettersByGroup are the streams of dead letters, none if the broker does not answer.
func (n *Node) lettersByGroup(ctx context.Context) map[string]stream.Reservation {
	all, err := n.reservations(ctx, statusList)
	if err != nil {
		return nil
	}
	letters := map[string]stream.Reservation{}
	for _, r := range all {
		if group, ok := r.Group(); ok {
			letters[group] = r
		}
	}
	return letters
}

func (n *Node) lastSeq(ctx context.Context, topic string) (uint64, bool) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	stream, err := n.conns.operator.Stream(ctx, topic)
	if err != nil {
		return 0, false
	}
	return stream.CachedInfo().State.LastSeq, true
}

// TopicList lists every topic that was ever defined.
func (n *Node) TopicList(ctx context.Context) (*api.TopicList, error) {
	_, c, err := n.look(ctx)
	if err != nil {
		return nil, err
	}
	out := &api.TopicList{V: api.Version, Topics: []api.TopicDetail{}, MaxStore: int64(n.Config.Server.MaxStore)}
	if all, err := n.reservations(ctx, statusList); err == nil {
		out.Reserved = int64(stream.Reserved(all))
	}
	for name, def := range c.topics {
		out.Topics = append(out.Topics, n.topicDetail(ctx, name, def, c))
	}
	slices.SortFunc(out.Topics, func(a, b api.TopicDetail) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

func (n *Node) topicDetail(ctx context.Context, name string, def topicDefinition, c catalog) api.TopicDetail {
	d := api.TopicDetail{
		Topic: api.Topic{Name: name, Partitions: def.Partitions}, Subject: def.Subject, Key: def.Key, Floor: def.Floor,
		Nodes: c.nodes(choreGroup(name)), Groups: append([]string{}, c.readers(name)...), Replicas: []string{}, State: c.topicState(name),
		RetainMS: def.Retain.Milliseconds(),
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	have, err := n.conns.operator.Stream(ctx, name)
	if def.Removed && errors.Is(err, jetstream.ErrStreamNotFound) {
		return d
	}
	if err != nil {
		d.Error = brokererr.Text(err)
		return d
	}
	info := have.CachedInfo()
	d.Messages, d.Bytes, d.LastSeq = info.State.Msgs, info.State.Bytes, info.State.LastSeq
	d.FirstSeq, d.MaxBytes, d.Replicas = info.State.FirstSeq, info.Config.MaxBytes, n.replicas(ctx, info)
	d.WantedBytes = int64(stream.WantedBytes(info.Config))
	return d
}

// topicState says whether a topic is needed.
func (c catalog) topicState(name string) string {
	switch {
	case c.topics[name].Removed:
		return "removed"
	case len(c.live[choreGroup(name)]) == 0:
		return "unused"
	}
	return "used"
}

// replicas names the nodes that hold a copy of a stream, its leader first.
func (n *Node) replicas(ctx context.Context, info *jetstream.StreamInfo) []string {
	if info.Cluster == nil || n.Config.Mode() == datadir.Single {
		return []string{n.Config.Node.Name}
	}
	nodes := []string{}
	if info.Cluster.Leader != "" {
		nodes = append(nodes, n.broker.ServerNodeName(info.Cluster.Leader))
	}
	for _, r := range info.Cluster.Replicas {
		nodes = append(nodes, n.peerNode(ctx, r.Name))
	}
	return nodes
}

// unnamedPeer is what the broker calls a peer that it has not met since its start (nats-server v2.15.2, server/jetstream_cluster.go).
var unnamedPeer = regexp.MustCompile(`\(peerID: (\w+)\)`)

// peerNode is the node of a peer, by what is remembered of it if the broker knows no name.
func (n *Node) peerNode(ctx context.Context, server string) string {
	id := unnamedPeer.FindStringSubmatch(server)
	if id == nil {
		return n.broker.ServerNodeName(server)
	}
	known, err := definitions[peerRecord](ctx, n.kv, "peer")
	if err != nil || known[id[1]].Node == "" {
		return "unknown (peer " + id[1] + ")"
	}
	return known[id[1]].Node
}

// foreign finds the groups that only other live nodes serve, so that every node's status shows the whole cluster.
func (n *Node) foreign(c catalog) []*group {
	var out []*group
	for name, def := range c.groups {
		own := slices.ContainsFunc(n.groups, func(g *group) bool { return g.name == name })
		if own || len(c.live[name]) == 0 {
			continue
		}
		t := partitioner.Topic{Name: def.Topic, Partitions: c.topics[def.Topic].Partitions}
		out = append(out, &group{name: name, topic: &topic{Topic: t}, start: def.Done})
	}
	slices.SortFunc(out, func(a, b *group) int { return cmp.Compare(a.name, b.name) })
	return out
}

// warnings says what an operator should look at in the catalog.
func (c catalog) warnings() (out []string) {
	for name, def := range c.groups {
		switch live := len(c.live[name]); {
		case def.Removed && live > 0:
			out = append(out, fmt.Sprintf("group %s was removed, and %s still serves it", name, strings.Join(c.live[name], ", ")))
		case def.undefined && live == 0:
			out = append(out, fmt.Sprintf("group %s was not made to its end and holds back the messages of topic %s: "+
				"start a node that serves it, or `leasehold group remove %s`", name, def.Topic, name))
		case !def.Removed && live == 0:
			out = append(out, fmt.Sprintf("group %s is in no live node's config and holds back the messages of topic %s: "+
				"start a node that serves it, or `leasehold group remove %s`", name, def.Topic, name))
		}
	}
	for name, def := range c.topics {
		if live := c.live[choreGroup(name)]; def.Removed && len(live) > 0 {
			out = append(out, fmt.Sprintf("topic %s was removed, and the config of %s still has it: take it out and restart", name, strings.Join(live, ", ")))
		}
	}
	slices.Sort(out)
	return out
}

package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"leasehold/cluster"
	"leasehold/cluster/lease"
	"leasehold/internal/api"
	"leasehold/partitioner"
	"leasehold/server"
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
		all[p].Done = start
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
	return slices.MinFunc(all, func(a, b lease.Lease) int { return cmp.Compare(a.Done, b.Done) }).Done
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
	out := &api.GroupList{V: api.Version, Groups: []api.GroupInfo{}}
	for name, def := range c.groups {
		partitions := c.topics[def.Topic].Partitions
		all, err := leases(ctx, kv, name, partitions, def.Done)
		if err != nil && !errors.Is(err, cluster.ErrNotARecord) { // status warns of those
			return nil, err
		}
		info := api.GroupInfo{
			Name: name, Topic: def.Topic, State: "served", Start: def.Start, StartAfter: def.Done, Nodes: c.nodes(name),
			Partitions: partitions, Unowned: partitions, Done: finished(all, def.Done),
		}
		if g, ok := lags[name]; ok {
			info.Unowned, info.Lag = g.Unowned, g.Lag
		}
		switch {
		case def.Removed:
			info.State = "removed"
		case len(info.Nodes) == 0:
			info.State = "idle"
		}
		out.Groups = append(out.Groups, info)
	}
	slices.SortFunc(out.Groups, func(a, b api.GroupInfo) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

// RemoveGroup removes a group for good: it holds back no messages any more, and its name is used up.
func (n *Node) RemoveGroup(ctx context.Context, name string, dryRun bool) (*api.GroupRemoval, error) {
	ctx, cancel := context.WithTimeout(ctx, removalLimit)
	defer cancel()
	kv, c, err := n.look(ctx)
	if err != nil {
		return nil, err
	}
	def, ok := c.groups[name]
	if !ok || isChore(name) {
		return nil, api.Mark(api.ErrNotFound, fmt.Sprintf("there is no group %q", name))
	}
	all, err := leases(ctx, kv, name, c.topics[def.Topic].Partitions, def.Done)
	if err != nil {
		return nil, err
	}
	out := &api.GroupRemoval{V: api.Version, Name: name, DryRun: dryRun, Topic: def.Topic, Done: finished(all, def.Done), Released: !dryRun}
	if last, ok := n.lastSeq(ctx, def.Topic); ok && last > out.Done {
		out.Unread = last - out.Done
	}
	err = retryConflict(ctx, func() error {
		servers, err := kv.RemoveGroup(ctx, name, dryRun)
		if errors.Is(err, cluster.ErrAlive) {
			return refuse("group %q is served by %s: take it out of their configs and restart them first", name, strings.Join(servers, ", "))
		}
		return err
	})
	if err == nil && !dryRun {
		n.log.Info("group removed", "group", name, "topic", def.Topic, "done", out.Done, "unread", out.Unread)
	}
	return out, err
}

// retryConflict tries again what lost against another write to the same record.
func retryConflict(ctx context.Context, try func() error) (err error) {
	for range 5 {
		if err = try(); !errors.Is(err, cluster.ErrConflict) || ctx.Err() != nil {
			return err
		}
	}
	return err
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
	out := &api.TopicList{V: api.Version, Topics: []api.TopicDetail{}}
	for name, def := range c.topics {
		out.Topics = append(out.Topics, n.topicDetail(ctx, name, def, c))
	}
	slices.SortFunc(out.Topics, func(a, b api.TopicDetail) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

func (n *Node) topicDetail(ctx context.Context, name string, def topicDefinition, c catalog) api.TopicDetail {
	d := api.TopicDetail{
		Topic: api.Topic{Name: name, Partitions: def.Partitions}, Subject: def.Subject, Key: def.Key, Floor: def.Floor,
		Nodes: c.nodes(choreGroup(name)), Groups: []string{}, Replicas: []string{},
	}
	for g, gd := range c.groups {
		if gd.Topic == name && !gd.Removed {
			d.Groups = append(d.Groups, g)
		}
	}
	slices.Sort(d.Groups)
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	stream, err := n.conns.operator.Stream(ctx, name)
	if err != nil {
		d.Error = err.Error()
		return d
	}
	info := stream.CachedInfo()
	d.Messages, d.Bytes, d.LastSeq = info.State.Msgs, info.State.Bytes, info.State.LastSeq
	d.FirstSeq, d.MaxBytes, d.Replicas = info.State.FirstSeq, info.Config.MaxBytes, n.replicas(info)
	return d
}

// replicas names the nodes that hold a copy of a stream, its leader first.
func (n *Node) replicas(info *jetstream.StreamInfo) []string {
	if info.Cluster == nil || n.Config.Mode() == server.Single {
		return []string{n.Config.Node.Name}
	}
	nodes := []string{}
	if info.Cluster.Leader != "" {
		nodes = append(nodes, n.broker.ServerNodeName(info.Cluster.Leader))
	}
	for _, r := range info.Cluster.Replicas {
		nodes = append(nodes, n.broker.ServerNodeName(r.Name))
	}
	return nodes
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

// warnings says what a person should look at in the catalog.
func (c catalog) warnings() (out []string) {
	for name, def := range c.groups {
		switch live := len(c.live[name]); {
		case def.Removed && live > 0:
			out = append(out, fmt.Sprintf("group %s was removed, and %s still serves it", name, strings.Join(c.live[name], ", ")))
		case !def.Removed && live == 0:
			out = append(out, fmt.Sprintf("group %s is in no live node's config and holds back the messages of topic %s: "+
				"start a node that serves it, or `leasehold group remove %s`", name, def.Topic, name))
		}
	}
	slices.Sort(out)
	return out
}

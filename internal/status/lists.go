package status

import (
	"cmp"
	"context"
	"errors"
	"regexp"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"leasehold/cluster"
	"leasehold/internal/api"
	"leasehold/internal/brokererr"
	"leasehold/internal/registry"
	"leasehold/partitioner/stream"
)

// GroupList lists every group that was ever defined.
func (r *Reader) GroupList(ctx context.Context) (*api.GroupList, error) {
	store, c, err := r.storeAndCatalog(ctx)
	if err != nil {
		return nil, err
	}
	lags := map[string]api.Group{}
	if s, err := r.Status(ctx); err == nil {
		for _, g := range s.Groups {
			lags[g.Name] = g
		}
	}
	letters := deadLettersByGroup(ctx, store)
	for name := range letters {
		if _, ok := c.Groups[name]; !ok {
			c.Groups[name] = registry.NeverDefined()
		}
	}
	out := &api.GroupList{V: api.Version, Groups: []api.GroupInfo{}}
	for name := range c.Groups {
		info, err := groupInfo(ctx, store, c, name)
		if err != nil {
			return nil, err
		}
		if d, ok := letters[name]; ok {
			info.DeadLetters, info.DLQMaxBytes = int64(d.Messages), int64(d.Bytes)
		}
		if g, ok := lags[name]; ok {
			info.Unowned, info.Lag = g.Unowned, g.Lag
		}
		out.Groups = append(out.Groups, info)
	}
	slices.SortFunc(out.Groups, func(a, b api.GroupInfo) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

func (r *Reader) storeAndCatalog(ctx context.Context) (*Store, registry.Catalog, error) {
	store, err := r.Store()
	if err != nil {
		return nil, registry.Catalog{}, err
	}
	c, err := store.Catalog(ctx)
	return store, c, err
}

// groupInfo is what the definition of a group and its leases say.
func groupInfo(ctx context.Context, store *Store, c registry.Catalog, name string) (api.GroupInfo, error) {
	def := c.Groups[name]
	partitions := c.Topics[def.Topic].Partitions
	all, err := registry.Leases(ctx, store.KV, name, partitions, def.StartAfter)
	if err != nil && !errors.Is(err, cluster.ErrNotARecord) { // status warns of those
		return api.GroupInfo{}, err
	}
	info := api.GroupInfo{
		Name: name, Topic: def.Topic, State: "served", Start: def.Start, StartAfter: def.StartAfter, Nodes: c.Servers(name),
		Partitions: partitions, Unowned: partitions, Done: registry.FinishedAll(all, def.StartAfter), DeadLetters: -1,
	}
	switch {
	case def.Removed:
		info.State = "removed"
	case def.Undefined:
		info.State = "unfinished"
	case len(info.Nodes) == 0:
		info.State = "idle"
	}
	return info, nil
}

// deadLettersByGroup are the streams of dead letters, none if the broker does not answer.
func deadLettersByGroup(ctx context.Context, store *Store) map[string]stream.Reservation {
	all, err := store.Capacity.Reservations(ctx, listWait)
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

// TopicList lists every topic that was ever defined.
func (r *Reader) TopicList(ctx context.Context) (*api.TopicList, error) {
	store, c, err := r.storeAndCatalog(ctx)
	if err != nil {
		return nil, err
	}
	out := &api.TopicList{V: api.Version, Topics: []api.TopicDetail{}, MaxStore: int64(r.Config.Server.MaxStore)}
	if all, err := store.Capacity.Reservations(ctx, listWait); err == nil {
		out.Reserved = int64(stream.Reserved(all))
	}
	for name := range c.Topics {
		out.Topics = append(out.Topics, r.topicDetail(ctx, store, c, name))
	}
	slices.SortFunc(out.Topics, func(a, b api.TopicDetail) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

func (r *Reader) topicDetail(ctx context.Context, store *Store, c registry.Catalog, name string) api.TopicDetail {
	def := c.Topics[name]
	d := api.TopicDetail{
		Topic: api.Topic{Name: name, Partitions: def.Partitions}, Subject: def.Subject, Key: def.Key, Floor: def.Floor,
		Nodes: c.TopicNodes(name), Groups: append([]string{}, c.GroupsOf(name)...), Replicas: []string{},
		State:    topicState(c, name),
		RetainMS: def.Retain.Milliseconds(),
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	found, err := store.JS.Stream(ctx, name)
	if def.Removed && errors.Is(err, jetstream.ErrStreamNotFound) {
		return d
	}
	if err != nil {
		d.Error = brokererr.Text(err)
		return d
	}
	info := found.CachedInfo()
	d.Messages, d.Bytes, d.LastSeq = info.State.Msgs, info.State.Bytes, info.State.LastSeq
	d.FirstSeq, d.MaxBytes, d.Replicas = info.State.FirstSeq, info.Config.MaxBytes, r.replicas(ctx, store, info)
	d.WantedBytes = int64(stream.WantedBytes(info.Config))
	return d
}

// topicState says whether a topic is needed.
func topicState(c registry.Catalog, name string) string {
	switch {
	case c.Topics[name].Removed:
		return "removed"
	case len(c.TopicNodes(name)) == 0:
		return "unused"
	}
	return "used"
}

// replicas names the nodes that hold a replica of a stream, its leader first.
func (r *Reader) replicas(ctx context.Context, store *Store, info *jetstream.StreamInfo) []string {
	if info.Cluster == nil || r.single() {
		return []string{r.node()}
	}
	nodes := []string{}
	if info.Cluster.Leader != "" {
		nodes = append(nodes, r.Broker.ServerNodeName(info.Cluster.Leader))
	}
	for _, replica := range info.Cluster.Replicas {
		nodes = append(nodes, r.peerNode(ctx, store, replica.Name))
	}
	return nodes
}

// unnamedPeer is what the broker calls a peer that it has not met since its start (nats-server v2.15.2,
// server/jetstream_cluster.go).
var unnamedPeer = regexp.MustCompile(`\(peerID: (\w+)\)`)

// peerNode is the node of a peer, by what is remembered of it if the broker knows no name.
func (r *Reader) peerNode(ctx context.Context, store *Store, server string) string {
	id := unnamedPeer.FindStringSubmatch(server)
	if id == nil {
		return r.Broker.ServerNodeName(server)
	}
	known, err := store.Registry.Peers(ctx)
	if err != nil || known[id[1]].Node == "" {
		return "unknown (peer " + id[1] + ")"
	}
	return known[id[1]].Node
}

package admin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"leasehold/cluster"
	"leasehold/cluster/lease"
	"leasehold/internal/api"
	"leasehold/internal/peers"
	"leasehold/internal/registry"
	"leasehold/internal/status"
	"leasehold/partitioner"
)

// commandLimit bounds one question of an operator about commands or dead letters.
const commandLimit = 10 * time.Second

// groupRef is a group that an operator names.
type groupRef struct {
	name       string
	store      *status.Store
	topic      partitioner.Topic // What of it can never change.
	startAfter uint64
	live       int // Nodes that may answer for its partitions.

	// known is what this node's lease protocol knows of the group; nil if this node does not serve it, or its session is
	// not live.
	known *lease.GroupView
}

// findGroup finds a group that was defined and not removed. One that this node serves is found in memory: as long as
// its session is live, nobody can remove it.
func findGroup(ctx context.Context, v *status.View, name string) (groupRef, error) {
	store, err := v.Store()
	if err != nil {
		return groupRef{}, err
	}
	if g, ok := servedGroup(ctx, v, name); ok {
		g.store = store
		return g, nil
	}
	c, err := store.Catalog(ctx)
	if err != nil {
		return groupRef{}, err
	}
	def, ok := c.Groups[name]
	if !ok || def.Removed || registry.IsHousekeeping(name) {
		return groupRef{}, api.Mark(api.ErrNotFound, fmt.Sprintf("there is no group %q", name))
	}
	topic := c.Topics[def.Topic].Fixed(def.Topic)
	return groupRef{name: name, store: store, topic: topic, startAfter: def.StartAfter, live: c.LiveNodes()}, nil
}

// servedGroup finds a group that this node serves.
func servedGroup(ctx context.Context, v *status.View, name string) (groupRef, bool) {
	serving := v.Serving()
	if serving == nil {
		return groupRef{}, false
	}
	for _, g := range serving.Groups {
		if g.Name != name {
			continue
		}
		view, err := status.Snapshot(ctx, serving.Driver)
		if err != nil || !view.Live {
			return groupRef{}, false
		}
		for i := range view.Groups {
			if view.Groups[i].Name == name {
				return groupRef{
					name: name, topic: serving.Topics[g.Topic].Topic, startAfter: g.StartAfter,
					live: len(peers.Live(view)), known: &view.Groups[i],
				}, true
			}
		}
	}
	return groupRef{}, false
}

// leases reads the group's leases. A command is how a lease gets well that is not a valid record, so that one counts as
// a lease to which nothing was applied yet.
func (g groupRef) leases(ctx context.Context) ([]lease.Lease, error) {
	all, err := registry.Leases(ctx, g.store.KV, g.name, g.topic.Partitions, g.startAfter)
	if errors.Is(err, cluster.ErrNotARecord) {
		err = nil
	}
	return all, err
}

// knownLeases are the leases as this node knows them, which is at once what their owners have announced: claims and
// applied commands. Checkpoints may be some seconds old. If the node does not serve the group they are read.
func (g groupRef) knownLeases(ctx context.Context) ([]lease.Lease, error) {
	if g.known != nil {
		return g.known.Leases, nil
	}
	return g.leases(ctx)
}

func (g groupRef) checkPartition(p int) error {
	if p < 0 || p >= g.topic.Partitions {
		return api.Mark(api.ErrNotFound, fmt.Sprintf("there is no partition %d: group %q has 0 to %d", p, g.name,
			g.topic.Partitions-1))
	}
	return nil
}

// errNotServed is for what a node is asked about a topic that its config does not have.
func errNotServed(topic string) error {
	return errors.New("topic " + topic + " is not in this node's config: ask a node that has it")
}

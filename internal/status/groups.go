package status

import (
	"context"
	"time"

	"leasehold/cluster/lease"
	"leasehold/internal/api"
	"leasehold/internal/peers"
	"leasehold/partitioner"
)

// observed is what the lease protocol knows, what the nodes report of their lanes, and what was stored before they were
// asked.
type observed struct {
	view    lease.View
	reports map[string]peers.Report // By node.
	topics  []api.Topic
	stale   bool // The leases are the last that this node knew.
	quorum  bool
}

// lastSeq is the last sequence of a topic, 0 if that is not known.
func (o observed) lastSeq(topic string) uint64 {
	for _, known := range o.topics {
		if known.Name == topic {
			return known.LastSeq
		}
	}
	return 0
}

// leases are those of each group.
func (o observed) leases() map[string][]lease.Lease {
	leases := map[string][]lease.Lease{}
	for _, g := range o.view.Groups {
		leases[g.Name] = g.Leases
	}
	return leases
}

// boots are those of the live nodes.
func (o observed) boots() map[string]uint64 {
	boots := map[string]uint64{}
	for _, rec := range o.view.Sessions {
		if rec.State == lease.Live {
			boots[rec.Node] = rec.Boot
		}
	}
	return boots
}

// groupStatus tells about groups, partition by partition.
func (r *Reader) groupStatus(ctx context.Context, groups []Group, o observed) (out []api.Group) {
	leases, boots := o.leases(), o.boots()
	for _, g := range groups {
		shown := api.Group{Name: g.Name, Topic: g.Topic, DeadLetters: r.countDeadLetters(ctx, g.Name, o.quorum)}
		last := o.lastSeq(g.Topic)
		for p, l := range leases[g.Name] {
			part := partitionStatus(p, l, o.reports[l.Owner].Lanes[g.Name], last)
			if boot, ok := boots[l.Owner]; !ok || boot != l.Boot {
				part.State, part.Lag = "unowned", nil
				shown.Unowned++
			}
			if o.stale && part.State == "unknown" {
				part.State = "last_known"
			}
			shown.Partitions = append(shown.Partitions, part)
		}
		shown.Lag = lagOf(shown.Partitions)
		out = append(out, shown)
	}
	return out
}

// partitionStatus is what the lease says, and what its owner adds if it speaks of the same epoch. last is the topic's
// last sequence before the owner was asked.
func partitionStatus(p int, l lease.Lease, lanes []peers.Lane, last uint64) api.Partition {
	part := api.Partition{
		Partition: p, Owner: l.Owner, Boot: l.Boot, Epoch: l.Epoch, Done: l.Checkpoint, Attempt: l.Attempt, State: "unknown",
		Paused: l.Paused,
	}
	for _, s := range lanes {
		if s.Partition == p && s.Epoch == l.Epoch {
			part.Done, part.Lag, part.State, part.Attempt, part.Error = s.Done, s.LagOf(last), s.State, s.Attempt, s.Error
			part.RetryAt, part.Parked, part.Release = s.RetryAt, s.Parked, s.Release
		}
	}
	return part
}

// lagOf is the lag of all partitions together, nil if that of one is unknown.
func lagOf(partitions []api.Partition) *int64 {
	sum := int64(0)
	for _, p := range partitions {
		if p.Lag == nil {
			return nil
		}
		sum += *p.Lag
	}
	return &sum
}

// countDeadLetters counts a group's dead letters, -1 if nobody answers.
func (r *Reader) countDeadLetters(ctx context.Context, group string, quorum bool) int64 {
	if !quorum {
		return r.lastKnownDeadLetters(group)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	stream, err := r.Opened().JS.Stream(ctx, partitioner.DeadLetterStream(group))
	if err != nil {
		return -1
	}
	return int64(stream.CachedInfo().State.Msgs)
}

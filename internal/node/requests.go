package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"leasehold/cluster"
	"leasehold/cluster/lease"
	"leasehold/internal/api"
	"leasehold/internal/duration"
	"leasehold/partitioner"
	"leasehold/worker/lane"
	"leasehold/worker/stream"
)

const (
	askLimit  = 10 * time.Second // For one question of a person about requests or dead letters.
	maxOpen   = 1000             // Requests that may wait to be applied.
	maxReason = 1000             // Bytes of a reason that a person gives.
)

// about is a group that a person asks something of.
type about struct {
	name       string
	kv         *cluster.KV
	def        groupDefinition
	topic      partitioner.Topic // What of it can never change.
	partitions int
	live       int // Nodes that may answer for its partitions.
}

// about finds a group that was defined and not removed.
func (n *Node) about(ctx context.Context, group string) (about, error) {
	kv, c, err := n.look(ctx)
	if err != nil {
		return about{}, err
	}
	def, ok := c.groups[group]
	if !ok || def.Removed || isChore(group) {
		return about{}, api.Mark(api.ErrNotFound, fmt.Sprintf("there is no group %q", group))
	}
	t := c.topics[def.Topic]
	return about{name: group, kv: kv, def: def, topic: t.topic(def.Topic), partitions: t.Partitions, live: c.liveNodes()}, nil
}

// leases are the group's. What an operator asks is how a lease gets well that is not a valid record, so that one counts as a
// lease to which nothing was applied yet.
func (g about) leases(ctx context.Context) ([]lease.Lease, error) {
	all, err := leases(ctx, g.kv, g.name, g.partitions, g.def.Done)
	if errors.Is(err, cluster.ErrNotARecord) {
		err = nil
	}
	return all, err
}

func (g about) checkPartition(p int) error {
	if p < 0 || p >= g.partitions {
		return api.Mark(api.ErrNotFound, fmt.Sprintf("there is no partition %d: group %q has 0 to %d", p, g.name, g.partitions-1))
	}
	return nil
}

// Ask records what a person asks of a group. Its owners find it there, within a poll at the latest, and apply it.
func (n *Node) Ask(ctx context.Context, group string, a api.Ask) (*api.Asked, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	g, err := n.about(ctx, group)
	if err != nil {
		return nil, err
	}
	r, err := n.request(ctx, g, a)
	if err != nil {
		return nil, err
	}
	out := &api.Asked{V: api.Version, Group: group, Kind: r.Kind, DryRun: a.DryRun, Seq: r.Seq, Again: -1, Skipped: -1, Waiting: []int{}}
	out.Partitions = len(r.Partitions)
	if out.Partitions == 0 {
		out.Partitions = g.partitions
	}
	if r.Kind == lease.Resume {
		if out.Changed, err = n.resumable(ctx, g, r); err != nil {
			return nil, err
		}
	}
	if a.DryRun {
		return out, n.foresee(ctx, g, r, out)
	}
	if err := n.foresee(ctx, g, r, out); err != nil { // it is asked for all the same
		n.log.Debug("what a seek skips is not known", "group", group, "error", err)
		out.Again, out.Skipped = -1, -1
	}
	if out.ID, err = n.record(ctx, g, r); err != nil {
		return nil, err
	}
	n.log.Info("operator command accepted", "by", r.By, "group", group, "id", out.ID, "kind", r.Kind, "partitions", r.Partitions, "seq", r.Seq, "keys", r.Keys, "reason", r.Reason)
	return out, nil
}

// request makes a request of what a person wants.
func (n *Node) request(ctx context.Context, g about, a api.Ask) (r lease.Command, err error) {
	r = lease.Command{Kind: a.Kind, Partitions: slices.Compact(slices.Sorted(slices.Values(a.Partitions))), At: time.Now().UTC().Format(time.RFC3339), By: api.By(ctx)}
	for _, p := range r.Partitions {
		if err := g.checkPartition(p); err != nil {
			return r, err
		}
	}
	switch a.Kind {
	case lease.Pause:
		r.Reason = a.Reason
		if strings.TrimSpace(r.Reason) == "" {
			return r, api.Mark(api.ErrBadRequest, "reason: say why, for whoever finds it paused")
		}
		if len(r.Reason) > maxReason {
			return r, api.Mark(api.ErrBadRequest, fmt.Sprintf("reason: is longer than %d bytes", maxReason))
		}
	case lease.Resume, lease.Restart:
	case lease.Seek:
		r.Seq, err = n.seekTarget(ctx, g.def.Topic, a.To)
	case lease.Release:
		r.Keys, err = n.releaseKeys(ctx, g, a.Keys)
	default:
		err = api.Mark(api.ErrBadRequest, fmt.Sprintf("kind: %q is none of pause, resume, seek, release, restart", a.Kind))
	}
	return r, err
}

// record adds a request to those of its group, and forgets those that every lease shows as applied.
func (n *Node) record(ctx context.Context, g about, r lease.Command) (id uint64, err error) {
	err = retryConflict(ctx, func() error {
		saw, err := g.kv.Read(ctx, lease.CommandsKey(g.name))
		if err != nil {
			return err
		}
		all, err := g.leases(ctx)
		if err != nil {
			return err
		}
		next := n.knownRequests(ctx, g.name, saw, all)
		next.Open = slices.DeleteFunc(slices.Clone(next.Open), func(q lease.Command) bool { return len(waiting(q.ID, q, all)) == 0 })
		if len(next.Open) >= maxOpen {
			return refuse("%d requests to group %q have not been applied yet: is it served by a live node? `leasehold group list` says so", len(next.Open), g.name)
		}
		next.LastID++
		r.ID = next.LastID
		next.Open = append(next.Open, r)
		rev, err := g.kv.Write(ctx, lease.Write{Key: saw.Key, Revision: saw.Revision, Commands: &next})
		if err != nil {
			return err
		}
		n.spread(g.kv, lease.Observed{Key: saw.Key, Revision: rev, Commands: &next})
		return nil
	})
	return r.ID, err
}

// knownRequests are the requests that a new one is added to. If their record is gone or not valid, they are what this node
// remembers of it, and no id is used again that a lease names: it would pass for applied.
func (n *Node) knownRequests(ctx context.Context, group string, saw lease.Observed, all []lease.Lease) lease.Commands {
	known := lease.Commands{Version: lease.RecordVersion}
	if saw.Commands != nil {
		known = *saw.Commands
	}
	n.mu.Lock()
	driver := n.driver
	n.mu.Unlock()
	if saw.Commands == nil && saw.Revision > 0 && driver != nil {
		if view, err := driver.Snapshot(ctx); err == nil {
			for _, g := range view.Groups {
				if g.Name == group {
					known.LastID, known.Open = g.Commands.LastID, g.Commands.Open
				}
			}
		}
	}
	for _, l := range all {
		known.LastID = max(known.LastID, l.Applied)
	}
	return known
}

// spread tells every node of a record, this one too.
func (n *Node) spread(kv *cluster.KV, saw lease.Observed) {
	kv.Announce(saw)
	n.mu.Lock()
	driver := n.driver
	n.mu.Unlock()
	if driver != nil {
		driver.Observe(saw)
	}
}

// waiting lists the partitions that a request is for and whose lease does not show it as applied.
func waiting(id uint64, r lease.Command, all []lease.Lease) []int {
	left := []int{}
	for p, l := range all {
		if r.Covers(p) && l.Applied < id {
			left = append(left, p)
		}
	}
	return left
}

// Asked says how far a request is. One that is not among the open ones any more was applied everywhere.
func (n *Node) Asked(ctx context.Context, group string, id uint64) (*api.Asked, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	g, err := n.about(ctx, group)
	if err != nil {
		return nil, err
	}
	saw, err := g.kv.Read(ctx, lease.CommandsKey(group))
	if err != nil {
		return nil, err
	}
	if saw.Invalid != "" {
		return nil, errors.New(saw.Invalid)
	}
	if saw.Commands == nil || id == 0 || id > saw.Commands.LastID {
		return nil, api.Mark(api.ErrNotFound, fmt.Sprintf("nobody asked for a request %d of group %q", id, group))
	}
	out := &api.Asked{V: api.Version, ID: id, Group: group, Again: -1, Skipped: -1, Waiting: []int{}}
	all, err := g.leases(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range saw.Commands.Open {
		if r.ID == id {
			out.Kind, out.Seq, out.Waiting = r.Kind, r.Seq, waiting(id, r, all)
			for p := range all {
				if r.Covers(p) {
					out.Partitions++
				}
			}
		}
	}
	out.Applied = out.Partitions - len(out.Waiting)
	for p, l := range all {
		if l.Release != "" {
			out.Releasing = append(out.Releasing, p)
		}
	}
	return out, nil
}

// resumable counts the partitions for which a resume changes something: they are paused, or a pause is on its way to them, or
// their head message has failed, or its handler is unavailable. One whose owner does not answer may be any of it.
func (n *Node) resumable(ctx context.Context, g about, r lease.Command) (*int, error) {
	all, err := g.leases(ctx)
	if err != nil {
		return nil, err
	}
	saw, err := g.kv.Read(ctx, lease.CommandsKey(g.name))
	if err != nil {
		return nil, err
	}
	lanes := map[int]laneState{}
	for _, node := range n.reports(ctx, g.live) {
		for _, lane := range node.Lanes[g.name] {
			if lane.Partition < len(all) && lane.Epoch == all[lane.Partition].Epoch {
				lanes[lane.Partition] = lane
			}
		}
	}
	count := 0
	for p, l := range all {
		lane, known := lanes[p]
		if !r.Covers(p) || known && lane.goesOn() && l.Paused == "" && !pausing(saw.Commands, p, l) {
			continue
		}
		count++
	}
	return &count, nil
}

// goesOn reports whether there is nothing about a lane that a resume would change.
func (s laneState) goesOn() bool {
	return s.Attempt == 0 && (s.State == lane.StateHeld || s.State == lane.StateStarting || s.State == lane.StateReleasing)
}

// pausing reports whether a pause that was asked for has not been applied to a partition.
func pausing(open *lease.Commands, p int, l lease.Lease) bool {
	return open != nil && slices.ContainsFunc(open.Open, func(q lease.Command) bool {
		return q.Kind == lease.Pause && q.Covers(p) && l.Applied < q.ID
	})
}

// seekTarget turns what a person wrote into the sequence after which to go on.
func (n *Node) seekTarget(ctx context.Context, topic, to string) (uint64, error) {
	stream, err := n.conns.operator.Stream(ctx, topic)
	if err != nil {
		return 0, fmt.Errorf("look at topic %s: %w", topic, err)
	}
	state := stream.CachedInfo().State
	before := max(state.FirstSeq, 1) - 1
	switch {
	case to == "earliest":
		return before, nil
	case to == "latest":
		return state.LastSeq, nil
	case strings.HasPrefix(to, "seq:"):
		var seq uint64
		if _, err := fmt.Sscanf(to, "seq:%d", &seq); err != nil || seq == 0 || fmt.Sprintf("seq:%d", seq) != to {
			return 0, badTarget(to)
		}
		if seq > state.LastSeq+1 {
			return 0, api.Mark(api.ErrBadRequest, fmt.Sprintf("to: the topic's newest message is %d; a group cannot skip what is not there yet", state.LastSeq))
		}
		return max(seq-1, before), nil
	}
	at, err := seekTime(to)
	if err != nil {
		return 0, err
	}
	return n.lastBefore(ctx, topic, at, state)
}

func badTarget(to string) error {
	return api.Mark(api.ErrBadRequest, fmt.Sprintf("to: %q is none of earliest, latest, seq:1234, time:2026-01-02T15:04:05Z, -2h, -7d", to))
}

// seekTime reads a moment, absolute or counted back from now.
func seekTime(to string) (time.Time, error) {
	if text, ok := strings.CutPrefix(to, "time:"); ok {
		if at, err := time.Parse(time.RFC3339, text); err == nil {
			return at, nil
		}
		return time.Time{}, badTarget(to)
	}
	d, err := duration.Parse(to)
	if err != nil || d >= 0 {
		return time.Time{}, badTarget(to)
	}
	return time.Now().Add(d), nil
}

// lastBefore is the sequence of the last message stored before a moment.
func (n *Node) lastBefore(ctx context.Context, topic string, at time.Time, state jetstream.StreamState) (uint64, error) {
	msgs, err := jetstreamext.GetBatch(ctx, n.conns.operator, topic, 1, jetstreamext.GetBatchStartTime(at))
	if err != nil {
		return 0, fmt.Errorf("find the first message at %v of topic %s: %w", at, topic, err)
	}
	for m, err := range msgs {
		switch {
		case errors.Is(err, jetstreamext.ErrNoMessages):
		case err != nil:
			return 0, fmt.Errorf("find the first message at %v of topic %s: %w", at, topic, err)
		default:
			return m.Sequence - 1, nil
		}
	}
	return state.LastSeq, nil
}

// foresee counts what a seek would handle again, and what it would skip.
func (n *Node) foresee(ctx context.Context, g about, r lease.Command, out *api.Asked) error {
	if r.Kind != lease.Seek {
		return nil
	}
	all, err := g.leases(ctx)
	if err != nil {
		return err
	}
	out.Again, out.Skipped = 0, 0
	t, ok := n.topics[g.def.Topic]
	if !ok {
		return api.Mark(api.ErrNotFound, errNotServed(g.def.Topic).Error())
	}
	var skipping []int
	for p, l := range all {
		if !r.Covers(p) || l.Checkpoint == r.Seq {
			continue
		}
		from, err := stream.CountPartition(ctx, n.conns.operator, t.Topic, p, min(l.Checkpoint, r.Seq)+1)
		if err != nil {
			return err
		}
		rest, err := stream.CountPartition(ctx, n.conns.operator, t.Topic, p, max(l.Checkpoint, r.Seq)+1)
		if err != nil {
			return err
		}
		if count := int64(from - min(from, rest)); r.Seq < l.Checkpoint {
			out.Again += count
		} else if count > 0 {
			out.Skipped += count
			skipping = append(skipping, p)
		}
	}
	out.Skips = skipsText(out.Skipped, skipping)
	return nil
}

// skipsText says what a seek skips, "" if nothing. A seek by time skips what a group that lags or is paused has not handled yet.
func skipsText(count int64, partitions []int) string {
	if count == 0 {
		return ""
	}
	return fmt.Sprintf("skips %d messages that the group has not handled, in partitions %s; to handle them, leave these partitions out",
		count, strings.Trim(strings.ReplaceAll(fmt.Sprint(partitions), " ", ", "), "[]"))
}

package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"leasehold/cluster"
	"leasehold/cluster/lease"
	"leasehold/internal/api"
	"leasehold/internal/every"
	"leasehold/internal/peers"
	"leasehold/internal/status"
)

const (
	maxOpen   = 1000                   // Commands that may wait to be applied.
	maxReason = 1000                   // Bytes of a reason that an operator gives.
	pollEvery = 100 * time.Millisecond // How often a command is checked that a caller waits for; it is in memory.
	readEvery = 500 * time.Millisecond // The same where the leases have to be read.
)

const restartKind = lease.Restart

// commands records what operators command a group's owners to do, and says how far that is.
type commands struct {
	*status.View
	letters deadLetters
	log     hclog.Logger
}

// submit records a command. The owners find it, within a poll at the latest, and apply it.
func (c commands) submit(ctx context.Context, group string, a api.Ask) (*api.Asked, error) {
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	g, err := findGroup(ctx, c.View, group)
	if err != nil {
		return nil, err
	}
	r, err := c.request(ctx, g, a)
	if err != nil {
		return nil, err
	}
	out := &api.Asked{V: api.Version, Group: group, Kind: r.Kind, DryRun: a.DryRun, Seq: r.Seq, Again: -1, Skipped: -1,
		Waiting: []int{}}
	out.Partitions = len(r.Partitions)
	if out.Partitions == 0 {
		out.Partitions = g.topic.Partitions
	}
	if r.Kind == lease.Resume {
		if out.Changed, err = c.resumable(ctx, g, r); err != nil {
			return nil, err
		}
	}
	if a.DryRun {
		return out, c.previewSeek(ctx, g, r, out)
	}
	if err := c.previewSeek(ctx, g, r, out); err != nil { // it is carried out all the same
		c.log.Debug("cannot count what a seek skips", "group", group, "error", err)
		out.Again, out.Skipped = -1, -1
	}
	if out.ID, err = c.record(ctx, g, r); err != nil {
		return nil, err
	}
	c.log.Info("operator command accepted", "by", r.By, "group", group, "id", out.ID, "kind", r.Kind, "partitions",
		r.Partitions, "seq", r.Seq, "keys", r.Keys, "reason", r.Reason)
	return out, nil
}

// request makes a request to the lease protocol of what an operator wants.
func (c commands) request(ctx context.Context, g groupRef, a api.Ask) (r lease.Command, err error) {
	r = lease.Command{
		Kind: a.Kind, Partitions: slices.Compact(slices.Sorted(slices.Values(a.Partitions))),
		At: time.Now().UTC().Format(time.RFC3339), By: api.By(ctx),
	}
	for _, p := range r.Partitions {
		if err := g.checkPartition(p); err != nil {
			return r, err
		}
	}
	switch a.Kind {
	case lease.Pause:
		r.Reason = a.Reason
		if strings.TrimSpace(r.Reason) == "" {
			return r, api.Mark(api.ErrBadRequest, "reason: say why, for the operator who finds it paused")
		}
		if len(r.Reason) > maxReason {
			return r, api.Mark(api.ErrBadRequest, fmt.Sprintf("reason: is longer than %d bytes", maxReason))
		}
	case lease.Resume, lease.Restart:
	case lease.Seek:
		r.Seq, err = seekTarget(ctx, g, a.To)
	case lease.Release:
		r.Keys, err = c.letters.releaseKeys(ctx, g, a.Keys)
	default:
		err = api.Mark(api.ErrBadRequest, fmt.Sprintf("kind: %q is not one of pause, resume, seek, release, restart", a.Kind))
	}
	return r, err
}

// record adds a request to those of its group, and forgets those that every lease shows as applied.
func (c commands) record(ctx context.Context, g groupRef, r lease.Command) (id uint64, err error) {
	err = retryConflict(ctx, func() error {
		saw, err := g.store.KV.Read(ctx, lease.CommandsKey(g.name))
		if err != nil {
			return err
		}
		all, err := g.leases(ctx)
		if err != nil {
			return err
		}
		next := g.knownRequests(saw, all)
		next.Open = slices.DeleteFunc(slices.Clone(next.Open), func(q lease.Command) bool {
			return len(pendingOn(q.ID, q, all)) == 0
		})
		if len(next.Open) >= maxOpen {
			return refuse("%d requests to group %q have not been applied yet: is it served by a live node? `leasehold group "+
				"list` says so", len(next.Open), g.name)
		}
		next.LastID++
		r.ID = next.LastID
		next.Open = append(next.Open, r)
		rev, err := g.store.KV.Write(ctx, lease.Write{Key: saw.Key, Revision: saw.Revision, Commands: &next})
		if err != nil {
			return err
		}
		c.announce(g.store.KV, lease.Observed{Key: saw.Key, Revision: rev, Commands: &next})
		return nil
	})
	return r.ID, err
}

// knownRequests are the requests that a new one is added to. If their record is gone or not valid, they are what this
// node remembers of it, and no id is used again that a lease names: it would pass for applied.
func (g groupRef) knownRequests(saw lease.Observed, all []lease.Lease) lease.Commands {
	known := lease.Commands{Version: lease.RecordVersion}
	if saw.Commands != nil {
		known = *saw.Commands
	}
	if saw.Commands == nil && saw.Revision > 0 && g.known != nil {
		known.LastID, known.Open = g.known.Commands.LastID, g.known.Commands.Open
	}
	for _, l := range all {
		known.LastID = max(known.LastID, l.Applied)
	}
	return known
}

// announce tells every node of a record, this one too.
func (c commands) announce(kv *cluster.KV, saw lease.Observed) {
	kv.Announce(saw)
	if s := c.Serving(); s != nil {
		s.Driver.Observe(saw)
	}
}

// pendingOn lists the partitions that a request is for and whose lease does not show it as applied.
func pendingOn(id uint64, r lease.Command, all []lease.Lease) []int {
	left := []int{}
	for p, l := range all {
		if r.Covers(p) && l.Applied < id {
			left = append(left, p)
		}
	}
	return left
}

// await says how far a command is, once it is applied to every partition or wait is over.
func (c commands) await(ctx context.Context, group string, id uint64, wait time.Duration) (*api.Asked, error) {
	for limit := time.Now().Add(wait); ; {
		out, interval, err := c.status(ctx, group, id)
		left := time.Until(limit)
		if err != nil || len(out.Waiting) == 0 || left <= 0 {
			return out, err
		}
		if !every.Sleep(ctx, min(interval, left)) {
			return nil, context.Cause(ctx)
		}
	}
}

// status says how far a command is. One that is not among the open ones any more was applied everywhere. interval is
// how often it is worth asking.
func (c commands) status(ctx context.Context, group string,
	id uint64) (out *api.Asked, interval time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	g, err := findGroup(ctx, c.View, group)
	if err != nil {
		return nil, 0, err
	}
	requests, interval, err := g.requests(ctx, id)
	if err != nil {
		return nil, 0, err
	}
	out = &api.Asked{V: api.Version, ID: id, Group: group, Again: -1, Skipped: -1, Waiting: []int{}}
	all, err := g.knownLeases(ctx)
	if err != nil {
		return nil, 0, err
	}
	for _, r := range requests.Open {
		if r.ID == id {
			out.Kind, out.Seq, out.Waiting = r.Kind, r.Seq, pendingOn(id, r, all)
			for p := range all {
				if r.Covers(p) {
					out.Partitions++
				}
			}
		}
	}
	out.Applied = out.Partitions - len(out.Waiting)
	if len(out.Waiting) == 0 && g.known != nil { // That something was handled is a checkpoint, which is not announced.
		if all, err = g.leases(ctx); err != nil {
			return nil, 0, err
		}
	}
	for p, l := range all {
		if l.Release != "" {
			out.Releasing = append(out.Releasing, p)
		}
	}
	return out, interval, nil
}

// requests are those of the group, among which the id must have been given. They are read unless this node knows of it.
func (g groupRef) requests(ctx context.Context, id uint64) (requests lease.Commands, interval time.Duration,
	err error) {
	if g.known != nil && id > 0 && id <= g.known.Commands.LastID {
		return g.known.Commands, pollEvery, nil
	}
	saw, err := g.store.KV.Read(ctx, lease.CommandsKey(g.name))
	switch {
	case err != nil:
		return requests, 0, err
	case saw.Invalid != "":
		return requests, 0, errors.New(saw.Invalid)
	case saw.Commands == nil || id == 0 || id > saw.Commands.LastID:
		return requests, 0, api.Mark(api.ErrNotFound, fmt.Sprintf("group %q was never given a request %d", g.name, id))
	}
	return *saw.Commands, readEvery, nil
}

// resumable counts the partitions for which a resume changes something: they are paused, or a pause is on its way to
// them, or their head message has failed, or its handler is unavailable. One whose owner does not answer may be any of
// it.
func (c commands) resumable(ctx context.Context, g groupRef, r lease.Command) (*int, error) {
	all, err := g.leases(ctx)
	if err != nil {
		return nil, err
	}
	saw, err := g.store.KV.Read(ctx, lease.CommandsKey(g.name))
	if err != nil {
		return nil, err
	}
	lanes := map[int]peers.Lane{}
	for _, node := range peers.Reports(ctx, g.store.Peers, g.live) {
		for _, lane := range node.Lanes[g.name] {
			if lane.Partition < len(all) && lane.Epoch == all[lane.Partition].Epoch {
				lanes[lane.Partition] = lane
			}
		}
	}
	count := 0
	for p, l := range all {
		lane, known := lanes[p]
		if !r.Covers(p) || known && lane.Undisturbed() && l.Paused == "" && !pausePending(saw.Commands, p, l) {
			continue
		}
		count++
	}
	return &count, nil
}

// pausePending reports whether a pause that was commanded has not been applied to a partition.
func pausePending(open *lease.Commands, p int, l lease.Lease) bool {
	return open != nil && slices.ContainsFunc(open.Open, func(q lease.Command) bool {
		return q.Kind == lease.Pause && q.Covers(p) && l.Applied < q.ID
	})
}

func refuse(format string, args ...any) error {
	return api.Mark(api.ErrRefused, fmt.Sprintf(format, args...))
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

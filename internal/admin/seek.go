package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"leasehold/cluster/lease"
	"leasehold/internal/api"
	"leasehold/internal/duration"
	"leasehold/worker/stream"
)

// seekTarget turns what an operator wrote into the sequence after which to go on.
func seekTarget(ctx context.Context, g groupRef, to string) (uint64, error) {
	stream, err := g.store.JS.Stream(ctx, g.topic.Name)
	if err != nil {
		return 0, fmt.Errorf("look at topic %s: %w", g.topic.Name, err)
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
			return 0, api.Mark(api.ErrBadRequest,
				fmt.Sprintf("to: the topic's newest message is %d; a group cannot skip what is not there yet", state.LastSeq))
		}
		return max(seq-1, before), nil
	}
	at, err := seekTime(to)
	if err != nil {
		return 0, err
	}
	return lastBefore(ctx, g, at, state)
}

func badTarget(to string) error {
	return api.Mark(api.ErrBadRequest,
		fmt.Sprintf("to: %q is not one of earliest, latest, seq:1234, time:2026-01-02T15:04:05Z, -2h, -7d", to))
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
func lastBefore(ctx context.Context, g groupRef, at time.Time, state jetstream.StreamState) (uint64, error) {
	msgs, err := jetstreamext.GetBatch(ctx, g.store.JS, g.topic.Name, 1, jetstreamext.GetBatchStartTime(at))
	if err != nil {
		return 0, fmt.Errorf("find the first message at %v of topic %s: %w", at, g.topic.Name, err)
	}
	for m, err := range msgs {
		switch {
		case errors.Is(err, jetstreamext.ErrNoMessages):
		case err != nil:
			return 0, fmt.Errorf("find the first message at %v of topic %s: %w", at, g.topic.Name, err)
		default:
			return m.Sequence - 1, nil
		}
	}
	return state.LastSeq, nil
}

// previewSeek counts what a seek would handle again, and what it would skip.
func (c commands) previewSeek(ctx context.Context, g groupRef, r lease.Command, out *api.Asked) error {
	if r.Kind != lease.Seek {
		return nil
	}
	all, err := g.leases(ctx)
	if err != nil {
		return err
	}
	out.Again, out.Skipped = 0, 0
	t, err := c.OpenTopic(g.topic.Name)
	if err != nil {
		return api.Mark(api.ErrNotFound, errNotServed(g.topic.Name).Error())
	}
	var skipping []int
	for p, l := range all {
		if !r.Covers(p) || l.Checkpoint == r.Seq {
			continue
		}
		from, err := stream.CountPartition(ctx, g.store.JS, t.Topic, p, min(l.Checkpoint, r.Seq)+1)
		if err != nil {
			return err
		}
		rest, err := stream.CountPartition(ctx, g.store.JS, t.Topic, p, max(l.Checkpoint, r.Seq)+1)
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

// skipsText says what a seek skips, "" if nothing. A seek by time skips what a group that lags or is paused has not
// handled yet.
func skipsText(count int64, partitions []int) string {
	if count == 0 {
		return ""
	}
	return fmt.Sprintf("skips %d messages that the group has not handled, in partitions %s; to handle them, leave these "+
		"partitions out",
		count, strings.Trim(strings.ReplaceAll(fmt.Sprint(partitions), " ", ", "), "[]"))
}

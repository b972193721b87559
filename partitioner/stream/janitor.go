package stream

import (
	"context"
	"fmt"
	"leasehold/partitioner"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

// Janitor gives the room of finished messages back. It deletes only ever by prefix, so that a hole in a topic's
// sequences is always damage and never house-keeping. One node at a time runs it, the holder of the topic's chore
// lease; if two did, the higher floor would win, and nothing unfinished would be lost.
type Janitor struct {
	Topic  partitioner.Topic
	JS     jetstream.JetStream
	Every  time.Duration // How often to look.
	Logger hclog.Logger
	Now    func() time.Time // For tests; nil is time.Now.

	// Finished returns what every group has finished. ok is false if some group's progress is unknown.
	Finished func(ctx context.Context) (f Finished, ok bool, err error)
	// Record stores the floor before anything below it is deleted, on condition that the topic's groups are still those
	// that f was found for.
	Record func(ctx context.Context, f Finished, floor uint64) error
}

// Finished is the sequence up to which every group of a topic has finished every message, and the revision of the
// topic's record that named those groups and says how long messages stay. It may lag behind, and never runs ahead.
type Finished struct {
	Seq      uint64
	Revision uint64
	Retain   time.Duration
}

// Run looks until ctx ends.
func (j *Janitor) Run(ctx context.Context) {
	tick := time.NewTicker(j.Every)
	defer tick.Stop()
	for {
		if err := j.purge(ctx); err != nil && ctx.Err() == nil {
			j.Logger.Warn("cannot purge finished messages", "topic", j.Topic.Name, "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// purge deletes what every group has finished and what is older than the topic's retain.
func (j *Janitor) purge(ctx context.Context) error {
	finished, ok, err := j.Finished(ctx)
	if err != nil || !ok {
		return err
	}
	stream, err := j.JS.Stream(ctx, j.Topic.Name)
	if err != nil {
		return fmt.Errorf("look up topic %s: %w", j.Topic.Name, err)
	}
	state := stream.CachedInfo().State
	floor, err := j.retained(ctx, finished, stream.CachedInfo())
	if err != nil {
		return err
	}
	if floor < state.FirstSeq || state.Msgs == 0 {
		return nil
	}
	if err := j.Record(ctx, finished, floor); err != nil {
		return fmt.Errorf("record the floor of topic %s: %w", j.Topic.Name, err)
	}
	if err := stream.Purge(ctx, jetstream.WithPurgeSequence(floor+1)); err != nil {
		return fmt.Errorf("purge topic %s up to %d: %w", j.Topic.Name, floor, err)
	}
	j.Logger.Debug("purged finished messages", "topic", j.Topic.Name, "up_to", floor, "first", state.FirstSeq)
	return nil
}

// retained lowers the floor to below the oldest message that is younger than the topic's retain. What cannot be told
// counts as young: nothing is purged then, and the next look is soon.
func (j *Janitor) retained(ctx context.Context, f Finished, info *jetstream.StreamInfo) (uint64, error) {
	floor := f.Seq
	if f.Retain <= 0 || info.State.LastSeq == 0 {
		return floor, nil
	}
	since := j.now(info.TimeStamp).Add(-f.Retain)
	if info.State.LastTime.Before(since) {
		return floor, nil // The leader says so: a replica that lags says it of younger ones too.
	}
	msgs, err := jetstreamext.GetBatch(ctx, j.JS, j.Topic.Name, 1, jetstreamext.GetBatchStartTime(since))
	if err != nil {
		return 0, fmt.Errorf("find what to retain of topic %s: %w", j.Topic.Name, err)
	}
	for m, err := range msgs {
		if err != nil {
			break
		}
		return min(floor, m.Sequence-1), nil
	}
	return 0, nil // The replica that answered has not got them yet.
}

// now is the earlier one of this node's clock and that of the stream's leader, which stamps the messages: one clock
// that is ahead makes no message old.
func (j *Janitor) now(leader time.Time) time.Time {
	own := time.Now()
	if j.Now != nil {
		own = j.Now()
	}
	if leader.IsZero() || own.Before(leader) {
		return own
	}
	return leader
}

package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"leasehold/cluster/lease"
	"leasehold/internal/api"
	"leasehold/internal/brokererr"
	"leasehold/internal/every"
	"leasehold/internal/failpoint"
	"leasehold/internal/ownership"
	"leasehold/internal/plural"
	"leasehold/partitioner"
	"leasehold/worker/deadletter"
)

// releaseKeys checks that something of each key is parked, and lists them as a command does.
func (d deadLetters) releaseKeys(ctx context.Context, g groupRef, keys []string) (string, error) {
	if len(keys) == 0 {
		return ownership.AllKeys, nil
	}
	letterKeys := make([]string, len(keys))
	for i, key := range keys {
		letterKey, err := g.letterKey(ctx, key)
		if err != nil {
			return "", err
		}
		letterKeys[i] = string(letterKey)
		found := false
		_, err = g.deadLetters().List(ctx, deadletter.Query{Partition: -1, Kind: partitioner.Parked, Key: letterKey},
			func(*deadletter.Record) bool {
				found = true
				return false
			})
		switch {
		case err != nil:
			return "", err
		case !found:
			return "", api.Mark(api.ErrNotFound, fmt.Sprintf("nothing of key %q is parked in group %q", key, g.name))
		}
	}
	return strings.Join(letterKeys, " "), nil
}

// requeue publishes dead letters to their topic once more and then removes them. A crash between the two repeats a
// message; it loses none.
func (d deadLetters) requeue(ctx context.Context, group string, o api.LetterOrder) (*api.LettersDone, error) {
	requeued := []api.Requeued{}
	done, err := d.each(ctx, group, o.Numbers, "requeued",
		func(ctx context.Context, g groupRef, l *deadletter.Record) error {
			switch {
			case l.Kind == partitioner.Parked:
				return errors.New("it is parked, with later ones of its key behind it: release the key instead")
			case o.MaxRequeues > 0 && l.Requeues >= o.MaxRequeues:
				return fmt.Errorf("it has been requeued %s", plural.Of(l.Requeues, "time"))
			}
			again, err := d.republish(ctx, g, l, o.AllGroups)
			if err == nil {
				requeued = append(requeued, again)
			}
			return err
		})
	if done != nil {
		done.Requeued = requeued
	}
	return done, err
}

// republish publishes a letter's message under an id of its own, so that a repeated requeue is stored once: the id that
// it came with is still known to the broker, which would take the message for a duplicate and drop it.
func (d deadLetters) republish(ctx context.Context, g groupRef, l *deadletter.Record,
	allGroups bool) (again api.Requeued, err error) {
	if len(l.Subject) > partitioner.MaxSubject {
		return again, fmt.Errorf("its subject has %d bytes, and a node publishes to at most %d: take it with `leasehold "+
			"dlq export %s`, then drop it",
			len(l.Subject), partitioner.MaxSubject, l.Group)
	}
	m := nats.NewMsg(l.Subject)
	m.Data = l.Data
	m.Header = l.RequeueHeaders(allGroups)
	id := fmt.Sprintf("dlq/%s/%d", l.Group, l.Stored)
	if allGroups { // It may have been published for one of them, by an attempt that was cut short.
		id += "/all"
	}
	if _, err := d.OpenTopic(l.Topic); err != nil {
		return again, errNotServed(l.Topic)
	}
	ack, err := g.store.Publish.PublishMsg(ctx, m, jetstream.WithMsgID(id))
	if err == nil && ack.Stream != l.Topic {
		err = fmt.Errorf("stream %s took it", ack.Stream)
	}
	if err != nil {
		return again, fmt.Errorf("publish to %s: %w", l.Subject, err)
	}
	failpoint.Hit(failpoint.Requeued)
	d.log.Info("dead letter requeued", "by", api.By(ctx), "group", l.Group, "all_groups", allGroups, "number", l.Stored,
		"id", fmt.Sprintf("%s/%d/%d", l.Topic, l.Partition, l.Seq), "as", ack.Sequence)
	return api.Requeued{Number: l.Stored, Key: listedKey(l), Partition: l.Partition, Seq: ack.Sequence}, nil
}

// drop deletes dead letters. It returns the partitions of which a parked one was dropped: they have to restart.
func (d deadLetters) drop(ctx context.Context, group string,
	o api.LetterOrder) (done *api.LettersDone, restart []int, err error) {
	done, err = d.each(ctx, group, o.Numbers, "dropped", func(ctx context.Context, _ groupRef,
		l *deadletter.Record) error {
		if l.Kind == partitioner.Parked {
			restart = append(restart, l.Partition)
		}
		d.log.Info("dead letter dropped", "by", api.By(ctx), "group", group, "number", l.Stored, "id",
			fmt.Sprintf("%s/%d/%d", l.Topic, l.Partition, l.Seq), "key", l.Key)
		return nil
	})
	return done, restart, err
}

// each does something with dead letters whose message is finished, and then removes them. Before that, their owner
// might still be about to write the very same one again.
func (d deadLetters) each(
	ctx context.Context, group string, numbers []uint64, what string,
	do func(context.Context, groupRef, *deadletter.Record) error,
) (*api.LettersDone, error) {
	g, err := findGroup(ctx, d.View, group)
	if err != nil {
		return nil, err
	}
	wait := &checkpointWait{groupRef: g, tries: checkpointTries}
	out := &api.LettersDone{V: api.Version, Group: group, Done: []uint64{}, Failed: []api.LetterFailure{}}
	for _, number := range slices.Compact(slices.Sorted(slices.Values(numbers))) {
		err := wait.one(ctx, number, do)
		if err == nil {
			out.Done = append(out.Done, number)
			continue
		}
		out.Failed = append(out.Failed, api.LetterFailure{Number: number, Error: brokererr.Text(err)})
	}
	d.log.Info("dead letters "+what, "by", api.By(ctx), "group", group, "done", len(out.Done), "failed", len(out.Failed))
	return out, nil
}

// How long a command on dead letters waits for the checkpoints of their partitions.
const (
	checkpointTries = 30
	checkpointPause = 100 * time.Millisecond
)

// checkpointWait waits until partitions have passed the messages of dead letters.
type checkpointWait struct {
	groupRef
	tries int // Left for the whole command.
}

// one does something with a dead letter and removes it.
func (w *checkpointWait) one(ctx context.Context, number uint64,
	do func(context.Context, groupRef, *deadletter.Record) error) error {
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	l, err := w.deadLetters().At(ctx, number)
	if err != nil {
		return err
	}
	if err := w.await(ctx, l); err != nil {
		return err
	}
	if err := do(ctx, w.groupRef, l); err != nil {
		return err
	}
	return w.deadLetters().Remove(ctx, number)
}

// await waits until a letter's partition has stored a checkpoint at or behind its message.
func (w *checkpointWait) await(ctx context.Context, l *deadletter.Record) error {
	if w.known != nil && l.Partition < len(w.known.Leases) && l.Seq <= w.known.Leases[l.Partition].Checkpoint {
		return nil
	}
	for {
		checkpoint, err := w.checkpoint(ctx, l.Partition)
		if err != nil || l.Seq <= checkpoint {
			return err
		}
		if w.tries--; w.tries < 0 {
			return errors.New("its partition has not passed it yet: try again in a moment")
		}
		if !every.Sleep(ctx, checkpointPause) {
			return context.Cause(ctx)
		}
	}
}

// checkpoint reads how far a partition is.
func (w *checkpointWait) checkpoint(ctx context.Context, partition int) (uint64, error) {
	if partition < 0 || partition >= w.topic.Partitions {
		return 0, nil
	}
	saw, err := w.store.KV.Read(ctx, lease.Key{Group: w.name, Partition: partition})
	switch {
	case err != nil || saw.Invalid != "":
		return 0, err
	case saw.Lease == nil:
		return w.startAfter, nil
	}
	return saw.Lease.Checkpoint, nil
}

package deadletter

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/synadia-io/orbit.go/jetstreamext"

	"leasehold/partitioner"
	"leasehold/worker/header"
)

// Query chooses dead letters to list.
type Query struct {
	Partition int                        // -1: of all.
	Kind      partitioner.DeadLetterKind // "": of both.
	Key       partitioner.LetterKey      // "": of all.
	After     uint64                     // Stored after this one.
}

// How much is read at a time.
const (
	listBatch = 256
	listBytes = 4 << 20
)

// List calls f with dead letters in the order they were stored, until it returns false. It returns the number after
// which to continue, 0 if that was all. It is for operators: any replica may reply, and it may be a little behind.
func (d *Store) List(ctx context.Context, q Query, f func(*Record) bool) (next uint64, err error) {
	filter := partitioner.DeadLetterFilter(d.Group, q.Partition, q.Kind, q.Key)
	for after := q.After; ; {
		n := 0
		msgs, err := jetstreamext.GetBatch(ctx, d.JS, d.stream(), listBatch, jetstreamext.GetBatchSeq(after+1),
			jetstreamext.GetBatchSubject(filter), jetstreamext.GetBatchMaxBytes(listBytes))
		if err != nil {
			return 0, fmt.Errorf("list dead letters of group %s: %w", d.Group, err)
		}
		for m, err := range msgs {
			if errors.Is(err, jetstreamext.ErrNoMessages) {
				return 0, nil
			}
			if err != nil {
				return 0, fmt.Errorf("list dead letters of group %s: %w", d.Group, err)
			}
			n, after = n+1, m.Sequence
			place, err := partitioner.ParseDeadLetter(m.Subject)
			if err != nil {
				continue
			}
			if !f(decode(place, m.Sequence, m.Header, m.Data)) {
				return after, nil
			}
		}
		switch {
		case ctx.Err() != nil:
			return 0, fmt.Errorf("list dead letters of group %s: %w", d.Group, context.Cause(ctx))
		case n == 0:
			return 0, nil
		}
	}
}

// HasKey reports whether there are dead letters of a key.
func (d *Store) HasKey(ctx context.Context, key partitioner.LetterKey) (bool, error) {
	_, err := d.read(ctx, fmt.Appendf(nil, `{"last_by_subj":%q}`, partitioner.DeadLetterFilter(d.Group, -1, "", key)))
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// RequeueHeaders returns the headers of the message when it is requeued: the publisher's, except those that the broker
// would act on. Its original message id becomes its idempotency key. Headers that cannot be sent are packed. The
// message is for the dead letter's group alone, or for all groups of its topic.
func (l *Record) RequeueHeaders(allGroups bool) map[string][]string {
	h := map[string][]string{header.Requeues: {fmt.Sprint(l.Requeues + 1)}}
	if !allGroups {
		h[header.OnlyGroup] = []string{l.Group}
	}
	for name, values := range l.Headers {
		if !header.Reserved(name) {
			h[name] = values
		}
	}
	id := header.First(l.Headers, header.OriginalMessageID)
	if id == "" {
		id = header.First(l.Headers, header.MessageID)
	}
	if id == "" {
		id = strings.Join([]string{l.Topic, fmt.Sprint(l.Partition), fmt.Sprint(l.Seq)}, "/")
	}
	h[header.OriginalMessageID] = []string{id}
	header.PackUnsendable(h)
	return h
}

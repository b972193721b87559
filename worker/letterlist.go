package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/synadia-io/orbit.go/jetstreamext"

	"leasehold/partitioner"
)

// LetterQuery chooses dead letters to list.
type LetterQuery struct {
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

// List calls f with dead letters in the order they were stored, until it returns false. It returns the number after which
// to go on, 0 if that was all. It is for people: some replica answers, which may be a little behind.
func (d *DeadLetters) List(ctx context.Context, q LetterQuery, f func(*Letter) bool) (next uint64, err error) {
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
			if !f(decodeLetter(place, m.Sequence, m.Header, m.Data)) {
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

// HasKey reports whether there are letters of a key.
func (d *DeadLetters) HasKey(ctx context.Context, key partitioner.LetterKey) (bool, error) {
	_, err := d.read(ctx, fmt.Appendf(nil, `{"last_by_subj":%q}`, partitioner.DeadLetterFilter(d.Group, -1, "", key)))
	if errors.Is(err, ErrNoLetter) {
		return false, nil
	}
	return err == nil, err
}

// RequeueHeaders are the headers of the message when it is sent to its topic again: the publisher's, less what the broker
// would act on. The message id that it came with goes on as its idempotency key. Headers that cannot be sent go packed. The
// message is for the letter's group alone, or for all of its topic.
func (l *Letter) RequeueHeaders(allGroups bool) map[string][]string {
	h := map[string][]string{hdrRequeues: {fmt.Sprint(l.Requeues + 1)}}
	if !allGroups {
		h[HeaderOnlyGroup] = []string{l.Group}
	}
	for name, values := range l.Headers {
		if !reservedHeader(name) {
			h[name] = values
		}
	}
	id := first(l.Headers, originalIDHdr)
	if id == "" {
		id = first(l.Headers, messageIDHdr)
	}
	if id == "" {
		id = strings.Join([]string{l.Topic, fmt.Sprint(l.Partition), fmt.Sprint(l.Seq)}, "/")
	}
	h[originalIDHdr] = []string{id}
	packUnsendable(h)
	return h
}

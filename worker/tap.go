package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"leasehold/partitioner"
)

// How a tap asks for messages: little at a time, because somebody looks at them one by one.
const (
	tapBatch    = 64
	tapSlack    = 256 // Messages before those wanted that a tap reads rather than asks where to begin once more.
	tapInactive = 30 * time.Second
	tapResets   = 6 // Tries at reading on after the consumer was lost, at growing distances: half a minute or more.
)

// ErrNotStored is for a message that is not in its topic. The text of the error that wraps it says why.
var ErrNotStored = errors.New("message is not stored")

// TapOptions say what a Tap shows.
type TapOptions struct {
	Topic  partitioner.Topic
	JS     jetstream.JetStream
	Filter string // Of stored subjects; empty: all.

	// One of them says where to begin: at a sequence, at a time, or at the Last messages that match.
	From  uint64
	Since time.Time
	Last  int

	Follow bool // Wait for new messages behind the newest one.
}

// Tap shows the messages of a topic as they are stored. It consumes nothing: no group's position moves.
type Tap struct {
	o     TapOptions
	in    jetstream.MessagesContext // nil: there is nothing to show.
	skip  uint64                    // Messages that come before the first to show.
	until uint64                    // Last sequence to show, unless o.Follow.
	done  bool
}

// OpenTap opens a tap. It ends with Close, or with ctx.
func OpenTap(ctx context.Context, o TapOptions) (*Tap, error) {
	if o.Filter == "" {
		o.Filter = o.Topic.StoredFilter()
	}
	look, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	stream, err := o.JS.Stream(look, o.Topic.Name)
	if err != nil {
		return nil, fmt.Errorf("look at topic %s: %w", o.Topic.Name, err)
	}
	t := &Tap{o: o, until: stream.CachedInfo().State.LastSeq}
	cfg := jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{o.Filter}, InactiveThreshold: tapInactive, MaxResetAttempts: tapResets,
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy,
	}
	switch {
	case !o.Since.IsZero():
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &o.Since
	case o.From > 0:
		cfg.OptStartSeq = o.From
	default:
		if cfg.OptStartSeq, t.skip, err = t.startOfLast(ctx, stream.CachedInfo().State); err != nil {
			return nil, err
		}
	}
	if err := t.open(look, cfg); err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, t.Close) // While the consumer is made anew, nothing else tells it to give up.
	return t, nil
}

// open makes the consumer, unless there is nothing that it could deliver.
func (t *Tap) open(ctx context.Context, cfg jetstream.OrderedConsumerConfig) error {
	consumer, err := t.o.JS.OrderedConsumer(ctx, t.o.Topic.Name, cfg)
	if err != nil {
		return fmt.Errorf("read topic %s: %w", t.o.Topic.Name, err)
	}
	if info := consumer.CachedInfo(); info.NumPending == 0 && !t.o.Follow {
		remove(t.o.JS.Conn(), t.o.Topic.Name, info.Name)
		t.done = true
		return nil
	}
	// The heartbeat finds a lost first pull in a second; the largest message must fit into one pull.
	t.in, err = consumer.Messages(jetstream.PullHeartbeat(pullHeartbeat),
		jetstream.PullMaxMessagesWithBytesLimit(tapBatch, int(max(4<<20, 2*t.o.JS.Conn().MaxPayload()))))
	if err != nil {
		return fmt.Errorf("read topic %s: %w", t.o.Topic.Name, err)
	}
	return nil
}

// startOfLast finds where to begin for the last messages that match, and how many to skip from there. Nothing is ever
// deleted between the first and the last sequence, so that without a filter it is known; else it is found by counting,
// in spans that grow.
func (t *Tap) startOfLast(ctx context.Context, state jetstream.StreamState) (from, skip uint64, err error) {
	first, end, want := max(state.FirstSeq, 1), state.LastSeq+1, uint64(t.o.Last)
	if want == 0 {
		return end, 0, nil
	}
	if t.o.Filter == t.o.Topic.StoredFilter() {
		return max(first, end-min(end, want)), 0, nil
	}
	count := func(from uint64) (uint64, error) { return countFrom(ctx, t.o.JS, t.o.Topic.Name, t.o.Filter, from) }
	return lastMatching(first, end, want, want*uint64(t.o.Topic.Partitions), count)
}

// lastMatching finds a sequence in first … end-1 from which at least want messages match, and how many more do: few, or
// as few as can be. If there are not as many, it is first. span is a guess of how far they lie apart.
func lastMatching(first, end, want, span uint64, count func(from uint64) (uint64, error)) (from, skip uint64, err error) {
	few := end // Fewer than wanted match from here.
	for {
		from = max(first, end-min(end, span))
		n, err := count(from)
		if err != nil {
			return 0, 0, err
		}
		if n >= want {
			skip = n - want
			break
		}
		if from == first {
			return first, 0, nil
		}
		few, span = from, 8*span
	}
	for skip > tapSlack && few-from > 1 {
		middle := from + (few-from)/2
		n, err := count(middle)
		if err != nil {
			return 0, 0, err
		}
		if n >= want {
			from, skip = middle, n-want
		} else {
			few = middle
		}
	}
	return from, skip, nil
}

// Next returns the next message, waiting for one if the tap follows, else io.EOF behind the newest one. The envelope says
// nothing of a group, a node, an epoch or an attempt.
func (t *Tap) Next(ctx context.Context) (*Message, error) {
	for !t.done {
		m, err := t.in.Next(jetstream.NextContext(ctx))
		if err != nil {
			return nil, fmt.Errorf("read topic %s: %w", t.o.Topic.Name, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return nil, fmt.Errorf("read topic %s: %w", t.o.Topic.Name, err)
		}
		seq := meta.Sequence.Stream
		t.done = !t.o.Follow && (seq >= t.until || meta.NumPending == 0)
		switch {
		case !t.o.Follow && seq > t.until:
		case t.skip > 0:
			t.skip--
		default:
			return stored(t.o.Topic, entry{seq: seq, published: meta.Timestamp, subject: m.Subject(), headers: m.Headers(), data: m.Data()})
		}
	}
	return nil, io.EOF
}

// Close ends the tap. It may be called while Next waits, which then returns.
func (t *Tap) Close() {
	if t.in != nil {
		t.in.Stop()
	}
}

// CountMatching counts the messages that match a filter with a sequence above after and below before.
func CountMatching(ctx context.Context, js jetstream.JetStream, topic, filter string, after, before uint64) (uint64, error) {
	all, err := countFrom(ctx, js, topic, filter, after+1)
	if err != nil || all == 0 || before <= after+1 {
		return 0, err
	}
	rest, err := countFrom(ctx, js, topic, filter, before)
	return all - min(all, rest), err
}

// Stored reads one message of a topic from its leader. The error wraps ErrNotStored if it is not there.
func Stored(ctx context.Context, js jetstream.JetStream, t partitioner.Topic, seq uint64) (*Message, error) {
	e, err := getMessage(ctx, js.Conn(), t.Name, fmt.Appendf(nil, `{"seq":%d}`, seq))
	if errors.Is(err, errMissing) {
		return nil, whyNotStored(ctx, js, t.Name, seq)
	}
	if err != nil {
		return nil, fmt.Errorf("read message %d of topic %s: %w", seq, t.Name, err)
	}
	return stored(t, *e)
}

// whyNotStored says on which side of a topic's messages a sequence lies.
func whyNotStored(ctx context.Context, js jetstream.JetStream, topic string, seq uint64) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	stream, err := js.Stream(ctx, topic)
	if err != nil {
		return fmt.Errorf("look at topic %s: %w", topic, err)
	}
	switch state := stream.CachedInfo().State; {
	case seq > state.LastSeq:
		return fmt.Errorf("%w yet: the newest one of topic %s has sequence %d", ErrNotStored, topic, state.LastSeq)
	case seq < state.FirstSeq:
		return fmt.Errorf("%w any more: topic %s begins at sequence %d; every group has finished what was before", ErrNotStored, topic, state.FirstSeq)
	}
	return fmt.Errorf("%w, though topic %s has it by its sequences: a copy may be damaged", ErrNotStored, topic)
}

// stored is the envelope of a message that is not being handled.
func stored(t partitioner.Topic, e entry) (*Message, error) {
	m, err := storedMessage(&t, &e)
	return &m, err
}

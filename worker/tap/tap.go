// Package tap shows the messages of a topic as they are stored. It consumes nothing: no group's position moves.
package tap

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"leasehold/internal/every"
	"leasehold/partitioner"
	"leasehold/worker/handler"
	"leasehold/worker/stream"
)

const (
	// How many messages before the wanted ones a tap reads rather than counting once more where to begin.
	startSlack  = 256
	giveUpAfter = 30 * time.Second // Without a consumer to read from: longer than any election.
)

// ErrNotStored is for a message that is not in its topic. The text of the error that wraps it says why.
var ErrNotStored = errors.New("message is not stored")

// Options say what a Tap shows.
type Options struct {
	Topic  partitioner.Topic
	JS     jetstream.JetStream
	Filter string // Of stored subjects; empty: all.

	// One of them says where to begin: at a sequence, at a time, or at the Last messages that match.
	From  uint64
	Since time.Time
	Last  int

	Follow bool // Wait for new messages behind the newest one.
}

// Tap shows the messages of a topic as they are stored. It consumes nothing: no group's position moves. It belongs to
// one goroutine.
type Tap struct {
	o        Options
	opener   stream.Opener
	from     jetstream.ConsumerConfig
	consumer *stream.PullConsumer
	tick     *time.Ticker
	skip     uint64 // Messages that come before the first to show.
	until    uint64 // Last sequence to show, unless o.Follow.
	left     uint64 // Messages that the consumer had before it and has not delivered; means nothing if o.Follow.
	idle     int    // Ticks since the last message.
}

// Open opens a tap. Close ends it.
func Open(ctx context.Context, o Options) (*Tap, error) {
	if o.Filter == "" {
		o.Filter = o.Topic.StoredFilter()
	}
	look, cancel := context.WithTimeout(ctx, stream.RequestTimeout)
	defer cancel()
	info, err := o.JS.Stream(look, o.Topic.Name)
	if err != nil {
		return nil, fmt.Errorf("look at topic %s: %w", o.Topic.Name, err)
	}
	t := &Tap{
		o: o, opener: stream.Opener{JS: o.JS, Stream: o.Topic.Name}, tick: time.NewTicker(stream.TickInterval),
		until: info.CachedInfo().State.LastSeq,
	}
	if err := t.begin(look, info.CachedInfo().State); err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

// begin finds where to begin, and opens the first consumer there.
func (t *Tap) begin(ctx context.Context, state jetstream.StreamState) (err error) {
	from := t.o.From
	if from == 0 && t.o.Since.IsZero() {
		if from, t.skip, err = t.startOfLast(ctx, state); err != nil {
			return err
		}
	}
	t.from = stream.ConsumerConfig(from)
	if from == 0 {
		t.from.DeliverPolicy, t.from.OptStartTime = jetstream.DeliverByStartTimePolicy, &t.o.Since
	}
	t.from.FilterSubjects = []string{t.o.Filter}
	return t.open(ctx)
}

func (t *Tap) open(ctx context.Context) (err error) {
	t.consumer, err = t.opener.Open(ctx, t.from)
	if err != nil {
		t.consumer = nil
		return err
	}
	t.left = t.consumer.Pending
	return nil
}

// startOfLast finds where to begin for the last messages that match, and how many to skip from there. Nothing is ever
// deleted between the first and the last sequence, so without a filter it is known; otherwise it is found by counting,
// in growing spans.
func (t *Tap) startOfLast(ctx context.Context, state jetstream.StreamState) (from, skip uint64, err error) {
	first, end, want := max(state.FirstSeq, 1), state.LastSeq+1, uint64(t.o.Last)
	if want == 0 {
		return end, 0, nil
	}
	if t.o.Filter == t.o.Topic.StoredFilter() {
		return max(first, end-min(end, want)), 0, nil
	}
	count := func(from uint64) (uint64, error) { return stream.Count(ctx, t.o.JS, t.o.Topic.Name, t.o.Filter, from) }
	return lastMatching(first, end, want, want*uint64(t.o.Topic.Partitions), count)
}

// lastMatching finds a sequence in first … end-1 from which at least want messages match, and how many more than that
// match: as few as possible. If fewer than want match at all, it returns first. span is a guess of how far they lie
// apart.
func lastMatching(first, end, want, span uint64,
	count func(from uint64) (uint64, error)) (from, skip uint64, err error) {
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
	for skip > startSlack && few-from > 1 {
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

// Next returns the next message. After the newest one it waits if the tap follows, otherwise it returns io.EOF. The
// envelope has no group, node, epoch or attempt.
func (t *Tap) Next(ctx context.Context) (*handler.Message, error) {
	for t.o.Follow || t.left > 0 {
		m, d, err := t.receive(ctx)
		if err != nil {
			if err = t.reopen(ctx, err); err != nil {
				return nil, err
			}
			continue
		}
		t.from = stream.ConsumerConfig(d.StreamSeq + 1)
		t.from.FilterSubjects = []string{t.o.Filter}
		t.left, t.idle = t.left-1, 0
		if d.StreamSeq >= t.until {
			t.left = 0
		}
		switch {
		case !t.o.Follow && d.StreamSeq > t.until:
			return nil, io.EOF
		case t.skip > 0:
			t.skip--
		default:
			return messageOf(t.o.Topic, stream.Entry{Seq: d.StreamSeq, Published: d.Published, Subject: m.Subject,
				Headers: m.Header, Data: m.Data})
		}
	}
	return nil, io.EOF
}

// receive waits for a message. An error other than that of ctx means that the consumer is lost.
func (t *Tap) receive(ctx context.Context) (*nats.Msg, stream.Delivery, error) {
	if t.consumer == nil {
		return nil, stream.Delivery{}, stream.ErrSilent
	}
	for {
		var err error
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case <-t.consumer.RepullTimer.C:
			err = t.consumer.Repull()
		case <-t.tick.C:
			err = t.tickOnce()
		case m := <-t.consumer.Messages:
			d, isMessage, lost := t.consumer.Receive(m)
			if isMessage && lost == nil {
				return m, d, nil
			}
			err = lost
		}
		if err != nil {
			return nil, stream.Delivery{}, err
		}
	}
}

// tickOnce is the consumer's tick. If nothing comes, it checks again what is left: it may have been purged.
func (t *Tap) tickOnce() error {
	if t.idle++; t.idle > stream.SilentTicks && !t.o.Follow {
		t.idle = 0
		return stream.ErrSilent
	}
	return t.consumer.Tick()
}

// reopen opens a new consumer after the last message, as soon as that is possible.
func (t *Tap) reopen(ctx context.Context, why error) error {
	t.closeConsumer()
	for lost := time.Now(); time.Since(lost) < giveUpAfter && ctx.Err() == nil; {
		if why = t.open(ctx); why == nil {
			return nil
		}
		every.Sleep(ctx, stream.ReopenDelay)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("read topic %s: %w", t.o.Topic.Name, why)
}

// Close ends the tap.
func (t *Tap) Close() {
	t.tick.Stop()
	t.closeConsumer()
}

func (t *Tap) closeConsumer() {
	if t.consumer != nil {
		t.consumer.Close()
		t.consumer = nil
	}
}

// Get reads one message of a topic from the stream's leader. The error wraps ErrNotStored if it is not there.
func Get(ctx context.Context, js jetstream.JetStream, t partitioner.Topic, seq uint64) (*handler.Message, error) {
	e, err := stream.GetMessage(ctx, js.Conn(), t.Name, fmt.Appendf(nil, `{"seq":%d}`, seq))
	if errors.Is(err, stream.ErrNotFound) {
		return nil, whyNotStored(ctx, js, t.Name, seq)
	}
	if err != nil {
		return nil, fmt.Errorf("read message %d of topic %s: %w", seq, t.Name, err)
	}
	return messageOf(t, *e)
}

// HasKey reports whether a topic stores a message of a key, as partitioner.Place has it.
func HasKey(ctx context.Context, js jetstream.JetStream, t partitioner.Topic, key string) (bool, error) {
	request, err := json.Marshal(map[string]string{"last_by_subj": t.KeyFilter(key)})
	if err == nil {
		_, err = stream.GetMessage(ctx, js.Conn(), t.Name, request)
	}
	if errors.Is(err, stream.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for key %s in topic %s: %w", key, t.Name, err)
	}
	return true, nil
}

// whyNotStored says on which side of a topic's messages a sequence lies.
func whyNotStored(ctx context.Context, js jetstream.JetStream, topic string, seq uint64) error {
	ctx, cancel := context.WithTimeout(ctx, stream.InfoTimeout)
	defer cancel()
	stream, err := js.Stream(ctx, topic)
	if err != nil {
		return fmt.Errorf("look at topic %s: %w", topic, err)
	}
	switch state := stream.CachedInfo().State; {
	case seq > state.LastSeq:
		return fmt.Errorf("%w yet: the newest one of topic %s has sequence %d", ErrNotStored, topic, state.LastSeq)
	case seq < state.FirstSeq:
		return fmt.Errorf("%w any more: topic %s begins at sequence %d; every group has finished what was before",
			ErrNotStored, topic, state.FirstSeq)
	}
	return fmt.Errorf("%w, though topic %s has it by its sequences: a copy may be damaged", ErrNotStored, topic)
}

// messageOf returns the envelope of a message that is not being handled.
func messageOf(t partitioner.Topic, e stream.Entry) (*handler.Message, error) {
	m, err := stream.Message(&t, &e)
	return &m, err
}

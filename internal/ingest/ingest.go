// Package ingest publishes the messages that callers send over HTTP.
package ingest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"leasehold/internal/admission"
	"leasehold/internal/api"
	"leasehold/internal/bytesize"
	"leasehold/internal/memory"
	"leasehold/partitioner"
	"leasehold/partitioner/publisher"
)

const (
	retryFor     = 15 * time.Second // How long a message is retried: longer than any election, shorter than callers wait.
	requestLimit = 30 * time.Second // For all messages of a request.
	parallelKeys = 256              // Keys of a request that are published side by side.
	flushLimit   = time.Second      // For messages under way when the node stops.
	// Messages of a topic that wait for the broker; no more than this part of the memory limit:
	windowBytes = 64 << 20
	memoryPart  = 8
)

// Options are what an Ingest needs.
type Options struct {
	// Topic finds a topic that can be published to. Its error is one of package api.
	Topic      func(name string) (partitioner.Topic, error)
	MaxPayload int64 // In bytes, with the headers.
	// Connect returns the connection to publish over. It is called once a topic was found, and the Ingest closes what it
	// returned.
	Connect func() (*nats.Conn, error)
}

// Ingest publishes what callers send over HTTP. It has a connection of its own, so that a flood of messages does not
// hold up leases, and one publisher a topic, made at its first message.
type Ingest struct {
	Options

	mu         sync.Mutex
	nc         *nats.Conn
	publishers map[string]*publisher.Publisher
	ended      bool
}

// New returns an Ingest. It takes messages at once; Run must be called for it to end.
func New(o Options) *Ingest {
	return &Ingest{Options: o, publishers: map[string]*publisher.Publisher{}}
}

// Run takes messages until ctx ends, and returns when every one that was taken has its result.
func (g *Ingest) Run(ctx context.Context) error {
	<-ctx.Done()
	g.mu.Lock()
	g.ended = true
	g.mu.Unlock()
	flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushLimit)
	defer cancel()
	for _, p := range g.publishers { // Not changed any more.
		_ = p.Flush(flush) // What has no result by then gets one from Close.
		p.Close()          //nolint:contextcheck // It has nothing to wait for but callbacks, which must not be left out.
	}
	if g.nc != nil {
		g.nc.Close()
	}
	return nil
}

func (g *Ingest) publisher(t partitioner.Topic) (*publisher.Publisher, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended {
		return nil, errStopping
	}
	if p := g.publishers[t.Name]; p != nil {
		return p, nil
	}
	if g.nc == nil {
		nc, err := g.Connect()
		if err != nil {
			return nil, api.Mark(api.ErrNotYet, err.Error())
		}
		g.nc = nc
	}
	p, err := publisher.New(g.nc, t, publisher.Options{
		RetryFor: min(retryFor, t.DedupWindow/2), MaxBytes: bytesize.Size(memory.Share(windowBytes, memoryPart)),
	})
	if err != nil {
		return nil, api.Mark(api.ErrNotYet, err.Error())
	}
	g.publishers[t.Name] = p
	return p, nil
}

const stoppingText = "the node is stopping"

var errStopping = api.Mark(api.ErrNotYet, stoppingText)

// Publish publishes messages, those of a key one after the other, and gives each a receipt.
func (g *Ingest) Publish(ctx context.Context, topic string, messages []api.NewMessage) ([]api.Receipt, error) {
	t, err := g.Topic(topic)
	if err != nil {
		return nil, err
	}
	prepared, err := prepare(t, g.MaxPayload, messages)
	if err != nil {
		return nil, err
	}
	to, err := g.publisher(t)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	b := newBatch(to, prepared)
	b.publish(ctx)
	return b.receipts, nil
}

// prepare checks every message before any is published.
func prepare(t partitioner.Topic, maxPayload int64, messages []api.NewMessage) ([]*publisher.Prepared, error) {
	all := make([]*publisher.Prepared, len(messages))
	for i, in := range messages {
		m := publisher.Message{Key: in.Key, Subject: in.Subject, ID: in.ID, Headers: in.Header, Data: in.Data}
		prepared, err := m.Prepare(t)
		if errors.Is(err, partitioner.ErrNoKey) && in.Subject == "" {
			err = admission.SubjectInvalid.Refuse("message has no key: give ?key=, the header Leasehold-Key, or an event's " +
				"partitionkey")
		}
		if r := admission.Payload(m.WireSize(), maxPayload); err == nil && r != nil {
			err = r
		}
		if err != nil {
			return nil, &api.MessageError{Index: i, Err: err}
		}
		all[i] = prepared
	}
	return all, nil
}

// batch publishes the messages of one request. The publisher has at most one message of a key of it at a time: behind
// one that may not be stored none is sent, so that a caller who sends the rest again keeps the order of the key; and a
// request with many messages of one key takes no more of the topic's window than its share.
type batch struct {
	to       *publisher.Publisher
	messages []*publisher.Prepared
	receipts []api.Receipt
	waiting  map[string][]int // By key: messages behind the one that is ready or in flight, as indexes.
	ready    []int            // Next of their keys.
	inFlight map[int]bool
	results  chan result // Holds as many as are in flight, so that no callback ever blocks.
}

// result is the outcome of a message of a batch.
type result struct {
	index int
	publisher.Result
}

func newBatch(to *publisher.Publisher, messages []*publisher.Prepared) *batch {
	b := &batch{
		to: to, messages: messages, receipts: make([]api.Receipt, len(messages)),
		waiting: map[string][]int{}, inFlight: map[int]bool{}, results: make(chan result, parallelKeys),
	}
	for i, m := range messages {
		key := m.Place().Key
		b.receipts[i] = api.Receipt{Outcome: api.OutcomeUnsent, Partition: m.Place().Partition, Key: key}
		if _, more := b.waiting[key]; more {
			b.waiting[key] = append(b.waiting[key], i)
			continue
		}
		b.waiting[key], b.ready = nil, append(b.ready, i)
	}
	return b
}

// publish returns when every message has its receipt. At the end of ctx what is in flight is unknown, though the
// publisher keeps trying.
func (b *batch) publish(ctx context.Context) {
	for len(b.ready)+len(b.inFlight) > 0 {
		for len(b.ready) > 0 && len(b.inFlight) < parallelKeys {
			i := b.ready[0]
			b.ready = b.ready[1:]
			if err := b.send(ctx, i); err != nil {
				b.finish(i, err)
			}
		}
		if len(b.inFlight) == 0 {
			continue
		}
		select {
		case r := <-b.results:
			receipt := &b.receipts[r.index]
			receipt.Outcome, receipt.Seq, receipt.Duplicate = r.Outcome.String(), r.Sequence, r.Outcome == publisher.Duplicate
			b.finish(r.index, failureOf(r.Result))
		case <-ctx.Done():
			for i := range b.inFlight {
				b.receipts[i].Outcome = api.OutcomeUnknown
				b.finish(i, &failure{api.ErrNotYet, "no answer from the broker yet: it may be stored, now or later"})
			}
		}
	}
}

// send hands a message to the publisher, or returns why it could not.
func (b *batch) send(ctx context.Context, i int) *failure {
	if ctx.Err() != nil {
		return &failure{api.ErrBusy, fmt.Sprintf("not sent, because the request took more than %v; send the rest again",
			requestLimit)}
	}
	err := b.to.PublishPrepared(ctx, b.messages[i], func(r publisher.Result) {
		if r.Outcome == publisher.Unknown {
			b.to.Resolve(r.Key) // Its caller is told; messages of others must not wait for what that one does.
		}
		b.results <- result{i, r}
	})
	switch {
	case errors.Is(err, publisher.ErrClosed):
		return &failure{api.ErrNotYet, stoppingText}
	case err != nil:
		return &failure{api.ErrBusy,
			"too many messages of this topic are waiting for the broker; send this one again in a moment"}
	}
	b.inFlight[i] = true
	return nil
}

// finish makes the next message of the key ready, or ends all of them after a failure.
func (b *batch) finish(i int, failed *failure) {
	delete(b.inFlight, i)
	key := b.receipts[i].Key
	rest := b.waiting[key]
	if failed == nil {
		if len(rest) > 0 {
			b.ready, b.waiting[key] = append(b.ready, rest[0]), rest[1:]
		}
		return
	}
	b.receipts[i].Err = api.Mark(failed.kind, failed.text)
	for _, later := range rest {
		b.receipts[later].Err = api.Mark(failed.kind,
			"not sent, because an earlier message of its key is not stored for sure")
	}
	b.waiting[key] = nil
}

// failure is why a message may not be stored, sorted by what its caller can do.
type failure struct {
	kind error // One of package api, which has a code for each.
	text string
}

// failures sorts what refuses a message; all else passes, such as a lost connection or a broker without resources. An
// empty text is the error's own.
var failures = []struct {
	cause, kind error
	text        string
}{
	{publisher.ErrTopicFull, api.ErrFull, ""},
	{publisher.ErrPublishingPaused, api.ErrFull, ""},
	{publisher.ErrTooLarge, api.ErrTooLarge, ""},
	// There is such a topic, or the message would not have come here.
	{publisher.ErrNoTopic, api.ErrNotYet, "the topic has no leader: most of the nodes with a replica of it are down"},
}

// failureOf is the failure that a result is, nil if it is none.
func failureOf(r publisher.Result) *failure {
	if r.Err == nil {
		return nil
	}
	for _, f := range failures {
		if r.Outcome != publisher.Unknown && errors.Is(r.Err, f.cause) {
			return &failure{f.kind, cmp.Or(f.text, r.Err.Error())}
		}
	}
	return &failure{api.ErrNotYet, r.Err.Error()}
}

package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"leasehold/internal/admission"
	"leasehold/internal/api"
	"leasehold/internal/bytesize"
	"leasehold/internal/memory"
	"leasehold/partitioner"
)

const (
	ingestRetry = 15 * time.Second // How long a message is retried: longer than any election, shorter than callers wait.
	ingestLimit = 30 * time.Second // For all messages of a request.
	ingestKeys  = 256              // Keys of a request that are published side by side.
	ingestFlush = time.Second      // For messages under way when the node stops.
	ingestBytes = 64 << 20         // Messages of a topic that wait for the broker; no more than this part of the memory limit:
	ingestPart  = 8
)

// ingest publishes what others bring over HTTP. It has a connection of its own, so that a flood of messages does not
// hold up leases, and one publisher a topic, made at its first message.
type ingest struct {
	connect func() (*nats.Conn, error)

	mu         sync.Mutex
	nc         *nats.Conn
	publishers map[string]*partitioner.Publisher
	ended      bool
}

func newIngest(connect func() (*nats.Conn, error)) *ingest {
	return &ingest{connect: connect, publishers: map[string]*partitioner.Publisher{}}
}

// run takes messages until ctx ends, and returns when every one that was taken has its result.
func (g *ingest) run(ctx context.Context) error {
	<-ctx.Done()
	g.mu.Lock()
	g.ended = true
	g.mu.Unlock()
	flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), ingestFlush)
	defer cancel()
	for _, p := range g.publishers { // Not changed any more.
		_ = p.Flush(flush) // What has no result by then gets one from Close.
		p.Close()
	}
	if g.nc != nil {
		g.nc.Close()
	}
	return nil
}

func (g *ingest) publisher(t partitioner.Topic) (*partitioner.Publisher, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended {
		return nil, errStopping
	}
	if p := g.publishers[t.Name]; p != nil {
		return p, nil
	}
	if g.nc == nil {
		nc, err := g.connect()
		if err != nil {
			return nil, api.Mark(api.ErrNotYet, err.Error())
		}
		g.nc = nc
	}
	p, err := partitioner.NewPublisher(g.nc, t, partitioner.PublisherOptions{
		RetryFor: min(ingestRetry, t.DedupWindow/2), MaxBytes: bytesize.Size(memory.Share(ingestBytes, ingestPart)),
	})
	if err != nil {
		return nil, api.Mark(api.ErrNotYet, err.Error())
	}
	g.publishers[t.Name] = p
	return p, nil
}

var errStopping = api.Mark(api.ErrNotYet, "the node is stopping")

// Publish publishes messages, those of a key one after the other, and gives each a receipt.
func (n *Node) Publish(ctx context.Context, topic string, messages []api.NewMessage) ([]api.Receipt, error) {
	t, err := n.view.OpenTopic(topic)
	if err != nil {
		return nil, err
	}
	queues, err := keyQueues(t.Topic, int64(n.Config.Server.MaxPayload), messages)
	if err != nil {
		return nil, err
	}
	publisher, err := n.ingest.publisher(t.Topic)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, ingestLimit)
	defer cancel()
	receipts := make([]api.Receipt, len(messages))
	var side errgroup.Group
	side.SetLimit(ingestKeys)
	for _, q := range queues {
		side.Go(func() error {
			q.publish(ctx, publisher, receipts)
			return nil
		})
	}
	_ = side.Wait() // None of them fails: what goes wrong is in the receipts.
	return receipts, nil
}

// keyQueue is a request's messages of one key, in their order.
type keyQueue struct {
	place    partitioner.Place
	index    []int // In the request.
	messages []partitioner.Message
}

// keyQueues checks every message before any is published, and sorts them by key.
func keyQueues(t partitioner.Topic, maxPayload int64, messages []api.NewMessage) ([]*keyQueue, error) {
	var queues []*keyQueue
	byKey := map[string]*keyQueue{}
	for i, in := range messages {
		m := partitioner.Message{Key: in.Key, Subject: in.Subject, ID: in.ID, Headers: in.Header, Data: in.Data}
		place, err := m.Check(t)
		if errors.Is(err, partitioner.ErrNoKey) && in.Subject == "" {
			err = admission.SubjectInvalid.Refuse("message has no key: give ?key=, the header Leasehold-Key, or an event's partitionkey")
		}
		if r := admission.Payload(m.WireSize(), maxPayload); err == nil && r != nil {
			err = r
		}
		if err != nil {
			return nil, &api.MessageError{Index: i, Err: err}
		}
		q := byKey[place.Key]
		if q == nil {
			q = &keyQueue{place: place}
			byKey[place.Key] = q
			queues = append(queues, q)
		}
		q.index, q.messages = append(q.index, i), append(q.messages, m)
	}
	return queues, nil
}

// publish publishes one message after the other. Behind one that is not stored for sure none is sent: a caller that sends
// the rest again keeps the order of the key.
func (q *keyQueue) publish(ctx context.Context, p *partitioner.Publisher, receipts []api.Receipt) {
	var failed error
	for i, m := range q.messages {
		receipt := api.Receipt{Outcome: api.OutcomeUnsent, Partition: q.place.Partition, Key: q.place.Key}
		if failed == nil {
			failed = publishOne(ctx, p, m, &receipt)
			receipt.Err = failed
		} else {
			receipt.Err = api.Mark(kindOf(failed), "not sent, because an earlier message of its key is not stored for sure")
		}
		receipts[q.index[i]] = receipt
	}
}

// publishOne publishes a message and waits for its result, or for the end of ctx: then the outcome is unknown, though the
// publisher goes on with it.
func publishOne(ctx context.Context, p *partitioner.Publisher, m partitioner.Message, receipt *api.Receipt) error {
	if ctx.Err() != nil {
		return api.Mark(api.ErrBusy, fmt.Sprintf("not sent, because the request took more than %v; send the rest again", ingestLimit))
	}
	done := make(chan partitioner.Result, 1)
	err := p.Publish(ctx, m, func(r partitioner.Result) {
		if r.Outcome == partitioner.Unknown {
			p.Resolve(r.Key) // Its caller is told; messages of others must not wait for what that one does.
		}
		done <- r
	})
	if errors.Is(err, partitioner.ErrClosed) {
		return errStopping
	}
	if err != nil {
		return api.Mark(api.ErrBusy, "too many messages of this topic are waiting for the broker; send this one again in a moment")
	}
	select {
	case r := <-done:
		receipt.Outcome, receipt.Seq, receipt.Duplicate = r.Outcome.String(), r.Sequence, r.Outcome == partitioner.Duplicate
		return refusal(r)
	case <-ctx.Done():
		receipt.Outcome = api.OutcomeUnknown
		return api.Mark(api.ErrNotYet, "no answer from the broker yet: it may be stored, now or later")
	}
}

// refusal sorts why a message is not stored by what its caller can do.
func refusal(r partitioner.Result) error {
	switch {
	case r.Err == nil:
		return nil
	case r.Outcome == partitioner.Unknown:
		return api.Mark(api.ErrNotYet, r.Err.Error())
	case errors.Is(r.Err, partitioner.ErrTopicFull), errors.Is(r.Err, partitioner.ErrDiskShort):
		return api.Mark(api.ErrFull, r.Err.Error())
	case errors.Is(r.Err, partitioner.ErrTooLarge):
		return api.Mark(api.ErrTooLarge, r.Err.Error())
	case errors.Is(r.Err, partitioner.ErrNoTopic): // There is one, or it would not have come here.
		return api.Mark(api.ErrNotYet, "the topic has no leader: most of the nodes with a copy of it are away")
	}
	return api.Mark(api.ErrNotYet, r.Err.Error()) // No connection, no room in the broker: these pass.
}

// kindOf is the kind of such an error.
func kindOf(err error) error {
	for _, kind := range []error{api.ErrFull, api.ErrTooLarge, api.ErrBusy} {
		if errors.Is(err, kind) {
			return kind
		}
	}
	return api.ErrNotYet
}

// Package publisher publishes to a topic: pipelined across keys, in order within a key, retried under the same message
// id.
package publisher

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"leasehold/internal/bytesize"
	"leasehold/partitioner"
)

// Options tune a Publisher. The zero value of each field is its default.
type Options struct {
	// Window is how many messages may be accepted and without a result: in flight, behind an earlier one of their key, or
	// blocked. Default 1024.
	Window int
	// MaxBytes bounds the memory of these messages. A larger message is accepted when it is the only one. Default 64 MiB.
	MaxBytes bytesize.Size
	// AckTimeout is how long to wait for an acknowledgement before sending again; it doubles twice. Default 2s. Short
	// enough to find a new leader soon; an unnecessary retry costs the broker one lookup of the message id.
	AckTimeout time.Duration
	// RetryFor ends the retries of a message, counted from its first send. Default half of dedup_window, at most
	// three quarters: past the window the broker has forgotten the message id and a retry would be stored again.
	RetryFor time.Duration
	// Failover reconnects to another server that the connection knows when this one has answered nothing for three
	// AckTimeouts, or only that the stream has no leader: a node that is frozen or cut off from the others keeps its
	// clients. Use it on a connection that nothing else uses.
	Failover bool
}

// unresponsiveAfter is how many AckTimeouts without any acknowledgement make a server unresponsive.
const unresponsiveAfter = 3

func (o Options) withDefaults(t partitioner.Topic) Options {
	if o.Window == 0 {
		o.Window = 1024
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 64 * bytesize.MiB
	}
	if o.AckTimeout == 0 {
		o.AckTimeout = 2 * time.Second
	}
	if o.RetryFor == 0 {
		o.RetryFor = t.DedupWindow / 2
	}
	return o
}

func (o Options) validate(t partitioner.Topic) error {
	var errs []error
	if o.Window < 1 || o.MaxBytes < 1 || o.AckTimeout < time.Millisecond {
		errs = append(errs, fmt.Errorf("window, max bytes and ack timeout must be positive"))
	}
	if most := t.DedupWindow / 4 * 3; o.RetryFor < time.Millisecond || o.RetryFor > most {
		errs = append(errs, fmt.Errorf("retry time %v is not within 1ms to %v, three quarters of dedup_window", o.RetryFor,
			most))
	}
	return errors.Join(errs...)
}

// wakePart is the part of the window, one divided by this, that must be free before calls waiting for capacity are
// woken.
const wakePart = 16

// Publisher publishes to one topic: pipelined across keys, at most one message of a key in flight, retried under the
// same message id. It needs no rights but to publish to the topic's subject and to receive on its own inbox.
//
// Callbacks run on the publisher's goroutines, one at a time for a key and in the order its messages were given to
// Publish. They must not block and must not call Publish, Flush or Close; Resolve is fine.
//
// A Publisher starts one goroutine and a subscription; Close ends both. All methods are safe for concurrent use. At any
// time every message is in exactly one place: at the head of its key's queue (in flight, or in its callback), behind
// the head, or done.
type Publisher struct {
	nc       *nats.Conn
	topic    partitioner.Topic
	opt      Options
	inbox    string // prefix of reply subjects, with its final dot
	sub      *nats.Subscription
	status   chan nats.Status
	wakePart int           // see releaseLocked
	wake     chan struct{} // holds one: the watch must read nextCheck again
	stop     chan struct{}
	done     chan struct{} // closed when the watch has returned

	mu        sync.Mutex // guards what follows, and every pending and keyQueue
	ids       *nuid.NUID
	lastNum   uint64
	keys      map[string]*keyQueue // only keys with a message, or blocked
	inFlight  map[uint64]*pending  // sent, no result yet; the one who removes an entry passes it its result
	nextCheck time.Time            // ≤ every due in inFlight; zero if nothing is in flight
	lastAck   time.Time            // when a broker last accepted or refused a message, or we left an unresponsive one
	accepted  int                  // taken by Publish, callback not yet returned; ≤ Window
	bytes     int64                // weight of the accepted; ≤ MaxBytes
	blocked   int                  // of accepted: behind a blocked head
	idle      chan struct{}        // closed when accepted == blocked; nil if nobody waits
	capacity  chan struct{}        // closed when waiting calls should check for capacity again; nil if nobody waits
	closed    bool
}

// keyQueue holds one key's messages. The head is in flight or in its callback; the others follow in order.
type keyQueue struct {
	head    *pending
	waiting []*pending
	blocked bool // the head ended as Unknown, and Resolve has not been called
}

// pending is one message between Publish and its callback.
type pending struct {
	place     partitioner.Place
	id        string
	generated bool // the id is ours
	header    nats.Header
	data      []byte
	weight    int64 // its share of Publisher.bytes
	callback  func(Result)
	refusal   error // known without the broker

	num            uint64
	first          time.Time // first send
	due            time.Time // when the watch acts on it next
	attempts       int
	unanswered     []int     // attempts without an answer: each may have stored it, or may yet
	last           error     // why it is not stored so far
	overLimitSince time.Time // when a stream limit was first the answer
}

// New makes a publisher for a topic on a connection. It wraps the connection's error handler, because that is
// where the broker's permission errors arrive; the handler set before is still called. The wrapper stays for the
// connection's life, so make one publisher per topic and connection, and keep it.
func New(nc *nats.Conn, t partitioner.Topic, opt Options) (*Publisher, error) {
	t = t.WithDefaults()
	opt = opt.withDefaults(t)
	if err := errors.Join(t.Validate(), opt.validate(t)); err != nil {
		return nil, fmt.Errorf("publisher for topic %s: %w", t.Name, err)
	}
	p := &Publisher{
		nc: nc, topic: t, opt: opt,
		inbox: nc.NewInbox() + ".", wakePart: wakePart,
		wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
		ids: nuid.New(), keys: map[string]*keyQueue{}, inFlight: map[uint64]*pending{},
	}
	if err := p.subscribe(); err != nil {
		return nil, fmt.Errorf("publisher for topic %s: %w", t.Name, err)
	}
	p.wrapErrorHandler()
	p.status = nc.StatusChanged(nats.CONNECTED, nats.CLOSED)
	go p.watch()
	return p, nil
}

// subscribe opens the inbox for all acknowledgements and checks that it works: without permission to receive, every
// message would end as Unknown.
func (p *Publisher) subscribe() error {
	sub, err := p.nc.Subscribe(p.inbox+"*", p.onReply)
	if err != nil {
		return fmt.Errorf("subscribe to answers: %w", err)
	}
	p.sub = sub
	if !p.nc.IsConnected() {
		return nil
	}
	// The broker's error arrives before its reply to this flush.
	if err := p.nc.FlushTimeout(p.opt.AckTimeout); err == nil {
		if err := p.nc.LastError(); errors.Is(err, nats.ErrPermissionViolation) && strings.Contains(err.Error(), p.inbox) {
			return fmt.Errorf("%w to receive answers on %s*: %w", ErrNotPermitted, p.inbox, err)
		}
	}
	return nil
}

// Publish accepts a message and passes its result to callback, once. It blocks only while the window is full. On an
// error (ctx ended, ErrClosed) the message was not accepted and callback is not called. A message without a usable key
// gets its result, Refused, before Publish returns.
func (p *Publisher) Publish(ctx context.Context, m Message, callback func(Result)) error {
	e := &pending{data: m.Data, callback: callback, weight: p.weight(m.size())}
	e.header, e.id, e.refusal = m.header()
	place, err := m.place(p.topic)
	if err != nil {
		callback(Result{Outcome: Refused, ID: e.id, Err: err})
		return nil
	}
	e.place = place
	return p.enqueue(ctx, e)
}

// PublishPrepared is Publish for a message that was prepared for this publisher's topic.
func (p *Publisher) PublishPrepared(ctx context.Context, m *Prepared, callback func(Result)) error {
	return p.enqueue(ctx, &pending{
		place: m.place, header: m.header, id: m.id, data: m.data, weight: p.weight(m.size), callback: callback,
	})
}

// weight is what a message counts towards MaxBytes.
func (p *Publisher) weight(size int64) int64 { return min(size, int64(p.opt.MaxBytes)) }

// enqueue accepts a message, and sends it if no other of its key is before it.
func (p *Publisher) enqueue(ctx context.Context, e *pending) error {
	first, err := p.accept(ctx, e)
	if err != nil {
		return err
	}
	if first {
		p.advance(e)
	}
	return nil
}

// accept puts a message into its key's queue once the window has capacity, and reports whether it is the head.
func (p *Publisher) accept(ctx context.Context, e *pending) (first bool, err error) {
	p.mu.Lock()
	for !p.closed && (p.accepted >= p.opt.Window || p.bytes+e.weight > int64(p.opt.MaxBytes)) {
		if p.capacity == nil {
			p.capacity = make(chan struct{})
		}
		room := p.capacity
		p.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return false, fmt.Errorf("publish: window of topic %s stays full: %w", p.topic.Name, context.Cause(ctx))
		}
		p.mu.Lock()
	}
	defer p.mu.Unlock()
	if p.closed {
		return false, ErrClosed
	}
	p.accepted++
	p.bytes += e.weight
	return p.enqueueLocked(e), nil
}

func (p *Publisher) enqueueLocked(e *pending) (first bool) {
	if e.id == "" {
		e.id, e.generated = p.ids.Next(), true
	}
	if e.header != nil {
		e.header[nats.MsgIdHdr] = []string{e.id}
	}
	q := p.keys[e.place.Key]
	if q == nil {
		p.keys[e.place.Key] = &keyQueue{head: e}
		return true
	}
	q.waiting = append(q.waiting, e)
	if q.blocked {
		p.blocked++
	}
	return false
}

// releaseLocked removes a message whose callback has returned from the window, and wakes calls that wait for capacity.
//
// They are woken only when a part of the window is free, since each wake-up wakes them all. With one caller it saves
// about 6 % of the writes to the connection; throughput was inconclusive, on a busy machine (BenchmarkWake). If nothing
// is in flight, nothing else frees capacity, so they wake at once.
func (p *Publisher) releaseLocked(e *pending) {
	p.accepted--
	p.bytes -= e.weight
	if p.accepted == p.blocked && p.idle != nil {
		close(p.idle)
		p.idle = nil
	}
	enough := p.accepted <= p.opt.Window-max(1, p.opt.Window/p.wakePart) &&
		p.bytes <= int64(p.opt.MaxBytes)-int64(p.opt.MaxBytes)/int64(p.wakePart)
	if enough || len(p.inFlight) == 0 {
		p.wakeLocked()
	}
}

func (p *Publisher) wakeLocked() {
	if p.capacity != nil {
		close(p.capacity)
		p.capacity = nil
	}
}

// Resolve unblocks a key after an Unknown. The key is Result.Key. Whether the unknown message is published again first,
// or given up, is the caller's decision: publishing it again puts it behind the blocked ones.
func (p *Publisher) Resolve(key string) {
	p.mu.Lock()
	next := p.unblockLocked(key)
	p.mu.Unlock()
	p.advance(next)
}

// unblockLocked unblocks a key and returns the message to send now, if its head is not still in its callback.
func (p *Publisher) unblockLocked(key string) *pending {
	q := p.keys[key]
	if q == nil || !q.blocked {
		return nil
	}
	q.blocked = false
	p.blocked -= len(q.waiting)
	if q.head != nil {
		return nil
	}
	return p.nextLocked(key, q)
}

// nextLocked makes the next message of a key its head. A key without messages is dropped unless it is blocked.
func (p *Publisher) nextLocked(key string, q *keyQueue) *pending {
	q.head = nil
	if q.blocked {
		return nil
	}
	if len(q.waiting) == 0 {
		delete(p.keys, key)
		return nil
	}
	q.head, q.waiting = q.waiting[0], q.waiting[1:]
	return q.head
}

// Flush waits until every message taken so far has its result. It returns ErrKeyBlocked if only blocked ones are left.
func (p *Publisher) Flush(ctx context.Context) error {
	for {
		p.mu.Lock()
		if p.accepted == p.blocked {
			blocked := p.blocked
			p.mu.Unlock()
			if blocked > 0 {
				return fmt.Errorf("%w: %d messages wait", ErrKeyBlocked, blocked)
			}
			return nil
		}
		if p.idle == nil {
			p.idle = make(chan struct{})
		}
		idle := p.idle
		p.mu.Unlock()
		select {
		case <-idle:
		case <-ctx.Done():
			return fmt.Errorf("flush topic %s: %w", p.topic.Name, context.Cause(ctx))
		}
	}
}

// Close ends the publisher at once: what was sent and not answered ends as Unknown, what was not sent as Refused, both
// with ErrClosed. It returns when every callback has. The connection stays open. Call Flush first to wait for results.
func (p *Publisher) Close() {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.closed = true
	p.wakeLocked()
	p.mu.Unlock()
	close(p.stop)
	<-p.done
	p.abandon()
	_ = p.Flush(context.Background()) // every callback is on its way: nothing is blocked or sent any more
	_ = p.sub.Unsubscribe()           // fails only on a closed connection, which has none left
	p.nc.RemoveStatusListener(p.status)
}

// abandon ends everything in flight; the rest follows through advance, which sends nothing once the publisher is
// closed.
func (p *Publisher) abandon() {
	p.mu.Lock()
	var inFlight, unblocked []*pending
	for num, e := range p.inFlight {
		delete(p.inFlight, num)
		inFlight = append(inFlight, e)
	}
	for key := range p.keys {
		if next := p.unblockLocked(key); next != nil {
			unblocked = append(unblocked, next)
		}
	}
	p.mu.Unlock()
	for _, e := range inFlight {
		p.advance(p.complete(e, e.failed(ErrClosed)))
	}
	for _, e := range unblocked {
		p.advance(e)
	}
}

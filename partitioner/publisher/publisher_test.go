package publisher

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"leasehold/internal/bytesize"
	"leasehold/partitioner"
	"leasehold/partitioner/brokertest"
)

func newPublisher(t testing.TB, nc *nats.Conn, topic partitioner.Topic, opt Options) *Publisher {
	t.Helper()
	p, err := New(nc, topic, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// publish waits for the result of one message.
func publish(t testing.TB, p *Publisher, m Message) Result {
	t.Helper()
	ch := make(chan Result, 1)
	if err := p.Publish(brokertest.Context(t), m, func(r Result) { ch <- r }); err != nil {
		t.Fatal(err)
	}
	return <-ch
}

// ledger collects results, by key and in the order of the callbacks.
type ledger struct {
	mu    sync.Mutex
	byKey map[string][]Result
	total int
}

func (l *ledger) add(r Result) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byKey == nil {
		l.byKey = map[string][]Result{}
	}
	l.byKey[r.Key] = append(l.byKey[r.Key], r)
	l.total++
}

// waitForMore waits until n more messages have their result.
func (l *ledger) waitForMore(t *testing.T, n int) {
	t.Helper()
	l.mu.Lock()
	want := l.total + n
	l.mu.Unlock()
	brokertest.Eventually(t, 30*time.Second, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.total < want {
			return fmt.Errorf("%d results, waiting for %d", l.total, want)
		}
		return nil
	})
}

func (l *ledger) count(o Outcome) (n int) {
	for _, results := range l.byKey {
		for _, r := range results {
			if r.Outcome == o {
				n++
			}
		}
	}
	return n
}

func TestPublishStoresInThePartitionOfItsKey(t *testing.T) {
	nc := brokertest.Start(t, "").Connect()
	js := brokertest.JetStream(t, nc)
	ensure(t, js, orders())
	p := newPublisher(t, nc, orders(), Options{})
	headers := nats.Header{"traceparent": {"00-x"}, "x-a": {"1", "2"}}
	r := publish(t, p, Message{Key: "a b", Headers: headers, Data: []byte("hello")})
	if r.Outcome != Stored || r.Sequence != 1 || r.Partition != partitioner.Of(12, "a%20b") || r.Key != "a%20b" ||
		r.ID == "" {
		t.Fatalf("result %+v", r)
	}
	stream, err := js.Stream(brokertest.Context(t), "orders")
	if err != nil {
		t.Fatal(err)
	}
	m, err := stream.GetMsg(brokertest.Context(t), 1)
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.TrimSuffix(orders().PartitionFilter(r.Partition), ">") + "a%20b"; m.Subject != want ||
		string(m.Data) != "hello" {
		t.Errorf("stored %q under %q, want %q", m.Data, m.Subject, want)
	}
	if m.Header.Get(nats.MsgIdHdr) != r.ID || m.Header.Get("traceparent") != "00-x" ||
		!slices.Equal(m.Header["x-a"], []string{"1", "2"}) {
		t.Errorf("stored headers %v", m.Header)
	}
	if len(headers) != 2 {
		t.Errorf("the caller's headers became %v", headers)
	}
}

func TestPublishTellsDuplicates(t *testing.T) {
	nc := brokertest.Start(t, "").Connect()
	ensure(t, brokertest.JetStream(t, nc), orders())
	p := newPublisher(t, nc, orders(), Options{})
	first := publish(t, p, Message{Key: "k", ID: "id-1"})
	again := publish(t, p, Message{Key: "k", Headers: nats.Header{"nats-msg-id": {"id-1"}}})
	if first.Outcome != Stored || again.Outcome != Duplicate || again.Sequence != first.Sequence {
		t.Errorf("%+v, then %+v", first, again)
	}
}

func TestPublishRefusesWhatCannotBeStored(t *testing.T) {
	nc := brokertest.Start(t, "").Connect()
	ensure(t, brokertest.JetStream(t, nc), orders())
	p := newPublisher(t, nc, orders(), Options{})
	for name, c := range map[string]struct {
		m    Message
		want error
	}{
		"no key":               {Message{}, partitioner.ErrNoKey},
		"long key":             {Message{Key: strings.Repeat("é", 200)}, partitioner.ErrKeyTooLong},
		"long key in subject":  {Message{Subject: "orders." + strings.Repeat("k", 513)}, partitioner.ErrKeyTooLong},
		"foreign subject":      {Message{Subject: "invoices.a"}, partitioner.ErrSubject},
		"stored subject":       {Message{Subject: "orders.1.3.a"}, partitioner.ErrSubject},
		"key and subject":      {Message{Key: "a", Subject: "orders.a"}, partitioner.ErrSubject},
		"over the topic's max": {Message{Key: "a", Data: make([]byte, 1<<20+48<<10)}, ErrTooLarge},
		"over the broker's":    {Message{Key: "a", Data: make([]byte, 2<<20)}, ErrTooLarge},
		"broker's header":      {Message{Key: "a", Headers: nats.Header{"nats-rollup": {"all"}}}, ErrHeader},
		"two ids":              {Message{Key: "a", ID: "x", Headers: nats.Header{nats.MsgIdHdr: {"y"}}}, ErrHeader},
		"bad header name":      {Message{Key: "a", Headers: nats.Header{"a b:": {"y"}}}, ErrHeader},
		"long outside the key": {Message{Subject: "plant." + strings.Repeat("x", 4070) + ".a"}, partitioner.ErrSubject},
		"long id":              {Message{Key: "a", ID: strings.Repeat("i", 257)}, ErrHeader},
		"long id in a header": {Message{Key: "a", Headers: nats.Header{"nats-msg-id": {strings.Repeat("i", 257)}}},
			ErrHeader},
		"control in header":    {Message{Key: "a", Headers: nats.Header{"a": {"\x1b[0m"}}}, ErrHeader},
		"headers over 32 KiB":  {Message{Key: "a", Headers: nats.Header{"a": {strings.Repeat("x", 32<<10-20)}}}, ErrHeader},
		"another stream":       {Message{Key: "a", Headers: nats.Header{"nats-expected-stream": {"invoices"}}}, nil},
		"line break in header": {Message{Key: "a", Headers: nats.Header{"a": {"y\r\nz"}}}, ErrHeader},
	} {
		if r := publish(t, p, c.m); r.Outcome != Refused || c.want != nil && !errors.Is(r.Err, c.want) {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if r := publish(t, p, Message{Key: "a"}); r.Outcome != Stored || r.Sequence != 1 {
		t.Errorf("after all that: %+v", r)
	}
}

func TestPublishToAFullTopicIsRefusedUntilThereIsRoom(t *testing.T) {
	nc := brokertest.Start(t, "").Connect()
	topic := orders()
	topic.MaxBytes = 64 * bytesize.KiB
	stream := ensure(t, brokertest.JetStream(t, nc), topic)
	p := newPublisher(t, nc, topic, Options{})
	var r Result
	for i := 0; r.Err == nil && i < 100; i++ {
		r = publish(t, p, Message{Key: "k", Data: make([]byte, 4096)})
	}
	if r.Outcome != Refused || !errors.Is(r.Err, ErrTopicFull) {
		t.Fatalf("full: %+v", r)
	}
	if err := stream.Purge(brokertest.Context(t)); err != nil {
		t.Fatal(err)
	}
	if r := publish(t, p, Message{Key: "k", Data: make([]byte, 4096)}); r.Outcome != Stored {
		t.Errorf("after a purge: %+v", r)
	}
}

func TestPublishWithoutATopicIsRefused(t *testing.T) {
	nc := brokertest.Start(t, "").Connect()
	p := newPublisher(t, nc, orders(), Options{RetryFor: 300 * time.Millisecond})
	if r := publish(t, p, Message{Key: "k"}); r.Outcome != Refused || !errors.Is(r.Err, ErrNoTopic) {
		t.Errorf("got %+v", r)
	}
}

const usersConf = `
authorization { users = [
  {user: admin, password: a}
  {user: device, password: d, permissions: {publish: ["orders.ok"], subscribe: ["_INBOX.>"]}}
  {user: deaf, password: d, permissions: {publish: ["orders.*"], subscribe: ["nothing"]}}
]}`

func TestPublishWorksWithPublishOnlyRights(t *testing.T) {
	b := brokertest.Start(t, usersConf)
	ensure(t, brokertest.JetStream(t, b.Connect(nats.UserInfo("admin", "a"))), orders())
	called := make(chan error, 10)
	nc := b.Connect(nats.UserInfo("device", "d"), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription,
		err error) {
		called <- err
	}))
	p := newPublisher(t, nc, orders(), Options{})
	if r := publish(t, p, Message{Key: "ok"}); r.Outcome != Stored {
		t.Errorf("allowed: %+v", r)
	}
	if r := publish(t, p, Message{Key: `no"t`}); r.Outcome != Refused || !errors.Is(r.Err, ErrNotPermitted) {
		t.Errorf("forbidden: %+v", r)
	}
	if err := <-called; !errors.Is(err, nats.ErrPermissionViolation) {
		t.Errorf("the connection's own handler got %v", err)
	}
}

func TestPublisherNeedsTheRightToReceiveAnswers(t *testing.T) {
	b := brokertest.Start(t, usersConf)
	if _, err := New(b.Connect(nats.UserInfo("deaf", "d")), orders(), Options{}); !errors.Is(err, ErrNotPermitted) {
		t.Errorf("got %v", err)
	}
}

func TestPublisherOptionsKeepRetriesInsideTheDedupWindow(t *testing.T) {
	nc := brokertest.Start(t, "").Connect()
	for _, opt := range []Options{{RetryFor: 91 * time.Second}, {RetryFor: -1}, {Window: -1}} {
		if _, err := New(nc, orders(), opt); err == nil {
			t.Errorf("%+v is accepted", opt)
		}
	}
}

func TestCheckFindsWhatPublishWouldRefuse(t *testing.T) {
	topic := partitioner.Topic{Name: "orders", Partitions: 4}.WithDefaults()
	place, err := (&Message{Key: "a b"}).Check(topic)
	if err != nil || place.Key != "a%20b" || place.Subject != "orders.a%20b" {
		t.Errorf("got %+v, %v", place, err)
	}
	for want, m := range map[error]Message{
		partitioner.ErrNoKey:      {},
		partitioner.ErrKeyTooLong: {Key: strings.Repeat("x", partitioner.MaxKey+1)},
		partitioner.ErrSubject:    {Subject: "others.a"},
		ErrHeader:                 {Key: "a", Headers: nats.Header{"Nats-Rollup": {"all"}}},
	} {
		if _, err := m.Check(topic); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
}

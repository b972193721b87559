package partitioner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"leasehold/internal/bytesize"
)

func newPublisher(t testing.TB, nc *nats.Conn, topic Topic, opt PublisherOptions) *Publisher {
	t.Helper()
	p, err := NewPublisher(nc, topic, opt)
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
	if err := p.Publish(testContext(t), m, func(r Result) { ch <- r }); err != nil {
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

func TestPublishStoresInThePartitionOfItsKey(t *testing.T) {
	nc := startBroker(t, "").connect()
	js := newJetStream(t, nc)
	ensure(t, js, orders())
	p := newPublisher(t, nc, orders(), PublisherOptions{})
	headers := nats.Header{"traceparent": {"00-x"}, "x-a": {"1", "2"}}
	r := publish(t, p, Message{Key: "a b", Headers: headers, Data: []byte("hello")})
	if r.Outcome != Stored || r.Sequence != 1 || r.Partition != Of(12, "a%20b") || r.Key != "a%20b" || r.ID == "" {
		t.Fatalf("result %+v", r)
	}
	stream, err := js.Stream(testContext(t), "orders")
	if err != nil {
		t.Fatal(err)
	}
	m, err := stream.GetMsg(testContext(t), 1)
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.TrimSuffix(orders().PartitionFilter(r.Partition), ">") + "a%20b"; m.Subject != want || string(m.Data) != "hello" {
		t.Errorf("stored %q under %q, want %q", m.Data, m.Subject, want)
	}
	if m.Header.Get(nats.MsgIdHdr) != r.ID || m.Header.Get("traceparent") != "00-x" || !slices.Equal(m.Header["x-a"], []string{"1", "2"}) {
		t.Errorf("stored headers %v", m.Header)
	}
	if len(headers) != 2 {
		t.Errorf("the caller's headers became %v", headers)
	}
}

func TestPublishTellsDuplicates(t *testing.T) {
	nc := startBroker(t, "").connect()
	ensure(t, newJetStream(t, nc), orders())
	p := newPublisher(t, nc, orders(), PublisherOptions{})
	first := publish(t, p, Message{Key: "k", ID: "id-1"})
	again := publish(t, p, Message{Key: "k", Headers: nats.Header{"nats-msg-id": {"id-1"}}})
	if first.Outcome != Stored || again.Outcome != Duplicate || again.Sequence != first.Sequence {
		t.Errorf("%+v, then %+v", first, again)
	}
}

func TestPublishRefusesWhatCannotBeStored(t *testing.T) {
	nc := startBroker(t, "").connect()
	ensure(t, newJetStream(t, nc), orders())
	p := newPublisher(t, nc, orders(), PublisherOptions{})
	for name, c := range map[string]struct {
		m    Message
		want error
	}{
		"no key":               {Message{}, ErrNoKey},
		"long key":             {Message{Key: strings.Repeat("é", 200)}, ErrKeyTooLong},
		"long key in subject":  {Message{Subject: "orders." + strings.Repeat("k", 513)}, ErrKeyTooLong},
		"foreign subject":      {Message{Subject: "invoices.a"}, ErrSubject},
		"stored subject":       {Message{Subject: "orders.1.3.a"}, ErrSubject},
		"key and subject":      {Message{Key: "a", Subject: "orders.a"}, ErrSubject},
		"over the topic's max": {Message{Key: "a", Data: make([]byte, 1<<20)}, ErrTooLarge},
		"over the broker's":    {Message{Key: "a", Data: make([]byte, 2<<20)}, ErrTooLarge},
		"broker's header":      {Message{Key: "a", Headers: nats.Header{"nats-rollup": {"all"}}}, ErrHeader},
		"two ids":              {Message{Key: "a", ID: "x", Headers: nats.Header{nats.MsgIdHdr: {"y"}}}, ErrHeader},
		"bad header name":      {Message{Key: "a", Headers: nats.Header{"a b:": {"y"}}}, ErrHeader},
		"line break in header": {Message{Key: "a", Headers: nats.Header{"a": {"y\r\nz"}}}, ErrHeader},
	} {
		if r := publish(t, p, c.m); r.Outcome != Refused || !errors.Is(r.Err, c.want) {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if r := publish(t, p, Message{Key: "a"}); r.Outcome != Stored || r.Sequence != 1 {
		t.Errorf("after all that: %+v", r)
	}
}

func TestPublishToAFullTopicIsRefusedUntilThereIsRoom(t *testing.T) {
	nc := startBroker(t, "").connect()
	topic := orders()
	topic.MaxBytes = 64 * bytesize.KiB
	stream := ensure(t, newJetStream(t, nc), topic)
	p := newPublisher(t, nc, topic, PublisherOptions{})
	var r Result
	for i := 0; r.Err == nil && i < 100; i++ {
		r = publish(t, p, Message{Key: "k", Data: make([]byte, 4096)})
	}
	if r.Outcome != Refused || !errors.Is(r.Err, ErrTopicFull) {
		t.Fatalf("full: %+v", r)
	}
	if err := stream.Purge(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if r := publish(t, p, Message{Key: "k", Data: make([]byte, 4096)}); r.Outcome != Stored {
		t.Errorf("after a purge: %+v", r)
	}
}

func TestPublishWithoutATopicIsRefused(t *testing.T) {
	nc := startBroker(t, "").connect()
	p := newPublisher(t, nc, orders(), PublisherOptions{RetryFor: 300 * time.Millisecond})
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
	b := startBroker(t, usersConf)
	ensure(t, newJetStream(t, b.connect(nats.UserInfo("admin", "a"))), orders())
	called := make(chan error, 10)
	nc := b.connect(nats.UserInfo("device", "d"), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { called <- err }))
	p := newPublisher(t, nc, orders(), PublisherOptions{})
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
	b := startBroker(t, usersConf)
	if _, err := NewPublisher(b.connect(nats.UserInfo("deaf", "d")), orders(), PublisherOptions{}); !errors.Is(err, ErrNotPermitted) {
		t.Errorf("got %v", err)
	}
}

// TestRestartOfTheBrokerLosesDoublesAndReordersNothing stops the broker again and again while many keys are published.
func TestRestartOfTheBrokerLosesDoublesAndReordersNothing(t *testing.T) {
	b := startBroker(t, "")
	nc := b.connect()
	topic := orders()
	ensure(t, newJetStream(t, nc), topic)
	p := newPublisher(t, nc, topic, PublisherOptions{AckTimeout: 200 * time.Millisecond})
	const keys, each = 40, 100
	var l ledger
	published := make(chan error, 1)
	go func() {
		defer close(published)
		for i := range keys * each {
			time.Sleep(100 * time.Microsecond) // spread over the restarts
			err := p.Publish(context.Background(), Message{Key: fmt.Sprintf("k%d", i%keys), ID: fmt.Sprintf("id-%d", i), Data: fmt.Appendf(nil, "%d", i/keys)}, l.add)
			if err != nil {
				published <- err
				return
			}
		}
	}()
	for range 3 {
		time.Sleep(50 * time.Millisecond)
		b.stop()
		b.start()
	}
	if err := <-published; err != nil {
		t.Fatal(err)
	}
	if err := p.Flush(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if l.total != keys*each {
		t.Fatalf("%d results for %d messages", l.total, keys*each)
	}
	checkLedger(t, &l, stored(t, newJetStream(t, nc), topic), each)
}

func checkLedger(t *testing.T, l *ledger, stored map[string][]string, each int) {
	t.Helper()
	for key, results := range l.byKey {
		last := uint64(0)
		for i, r := range results {
			if (r.Outcome != Stored && r.Outcome != Duplicate) || r.Sequence <= last {
				t.Fatalf("message %d of %s: %+v after sequence %d", i, key, r, last)
			}
			last = r.Sequence
		}
		if len(stored[key]) != each {
			t.Errorf("%s is stored %d times instead of %d", key, len(stored[key]), each)
		}
		for i, data := range stored[key] {
			if data != fmt.Sprint(i) {
				t.Fatalf("%s is stored as %v", key, stored[key])
			}
		}
	}
}

func TestUnknownHoldsItsKeyUntilResolved(t *testing.T) {
	// A service in the topic's place: it takes messages and answers when told to.
	b := startBroker(t, "")
	nc := b.connect()
	got := make(chan *nats.Msg, 100)
	if _, err := b.connect().ChanSubscribe("orders.*", got); err != nil {
		t.Fatal(err)
	}
	p := newPublisher(t, nc, orders(), PublisherOptions{AckTimeout: 20 * time.Millisecond, RetryFor: 100 * time.Millisecond})
	results := make(chan Result, 100)
	give := func(key, data string) {
		if err := p.Publish(testContext(t), Message{Key: key, Data: []byte(data)}, func(r Result) { results <- r }); err != nil {
			t.Fatal(err)
		}
	}
	give("a", "1")
	give("a", "2")
	r := <-results
	if r.Outcome != Unknown || !errors.Is(r.Err, ErrNoAnswer) || r.Key != "a" {
		t.Fatalf("unanswered: %+v", r)
	}
	give("a", "3")
	if err := p.Flush(testContext(t)); !errors.Is(err, ErrKeyHeld) {
		t.Errorf("flush with a held key: %v", err)
	}
	ids := map[string]bool{}
	for len(got) > 0 {
		m := <-got
		if string(m.Data) != "1" {
			t.Fatalf("%s was sent while its key is held", m.Data)
		}
		ids[m.Header.Get(nats.MsgIdHdr)] = true
	}
	if len(ids) != 1 {
		t.Errorf("retries went under ids %v", ids)
	}
	p.Resolve("a")
	for i, want := range []string{"2", "3"} {
		m := <-got
		for string(m.Data) != want { // retries of the one before
			m = <-got
		}
		if err := m.Respond(fmt.Appendf(nil, `{"stream":"orders","seq":%d}`, i+1)); err != nil {
			t.Fatal(err)
		}
		if r := <-results; r.Outcome != Stored || r.Sequence != uint64(i+1) {
			t.Errorf("after resolving: %+v", r)
		}
	}
}

func TestRefusalAfterAnUnansweredAttemptIsUnknown(t *testing.T) {
	b := startBroker(t, "")
	n := 0
	if _, err := b.connect().Subscribe("orders.*", func(m *nats.Msg) {
		if n++; n > 1 {
			_ = m.Respond([]byte(`{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"},"stream":"orders","seq":0}`))
		}
	}); err != nil {
		t.Fatal(err)
	}
	p := newPublisher(t, b.connect(), orders(), PublisherOptions{AckTimeout: 20 * time.Millisecond})
	if r := publish(t, p, Message{Key: "a"}); r.Outcome != Unknown || !errors.Is(r.Err, ErrTopicFull) {
		t.Errorf("got %+v", r)
	}
}

func TestOnlyOneMessageOfAKeyIsInFlight(t *testing.T) {
	b := startBroker(t, "")
	got := make(chan *nats.Msg, 100)
	if _, err := b.connect().ChanSubscribe("orders.*", got); err != nil {
		t.Fatal(err)
	}
	p := newPublisher(t, b.connect(), orders(), PublisherOptions{AckTimeout: time.Minute})
	var l ledger
	for i := range 30 {
		if err := p.Publish(testContext(t), Message{Key: fmt.Sprint("k", i%3), Data: fmt.Append(nil, i/3)}, l.add); err != nil {
			t.Fatal(err)
		}
	}
	open := []*nats.Msg{<-got, <-got, <-got}
	for seq := 1; len(open) > 0; seq++ {
		time.Sleep(time.Millisecond) // for one too many to come
		if len(got) > 0 {
			t.Fatal("a key has two messages in flight")
		}
		next := open[0]
		open = open[1:]
		if err := next.Respond(fmt.Appendf(nil, `{"stream":"orders","seq":%d}`, seq)); err != nil {
			t.Fatal(err)
		}
		if string(next.Data) == "9" {
			continue
		}
		m := <-got
		if m.Subject != next.Subject {
			t.Fatalf("an answer for %s let %s go", next.Subject, m.Subject)
		}
		open = append(open, m)
	}
	if err := p.Flush(testContext(t)); err != nil {
		t.Fatal(err)
	}
}

func TestPublishBlocksOnlyWhileTheWindowIsFull(t *testing.T) {
	t.Run("messages", func(t *testing.T) { fillWindow(t, PublisherOptions{Window: 3, AckTimeout: time.Minute}, 3) })
	t.Run("bytes", func(t *testing.T) { fillWindow(t, PublisherOptions{MaxBytes: 2100, AckTimeout: time.Minute}, 2) })
}

func fillWindow(t *testing.T, opt PublisherOptions, fit int) {
	b := startBroker(t, "")
	got := make(chan *nats.Msg, 100)
	if _, err := b.connect().ChanSubscribe("orders.*", got); err != nil {
		t.Fatal(err)
	}
	p := newPublisher(t, b.connect(), orders(), opt)
	done := make(chan Result, 10)
	for i := range fit {
		if err := p.Publish(testContext(t), Message{Key: fmt.Sprint(i), Data: make([]byte, 1000)}, func(r Result) { done <- r }); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	more := Message{Key: "more", Data: make([]byte, 1000)}
	if err := p.Publish(ctx, more, func(Result) { t.Error("callback of a message that was not taken") }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("full window: %v", err)
	}
	if err := (<-got).Respond([]byte(`{"stream":"orders","seq":1}`)); err != nil {
		t.Fatal(err)
	}
	<-done
	if err := p.Publish(testContext(t), more, func(Result) {}); err != nil {
		t.Errorf("after an answer: %v", err)
	}
}

func TestCloseGivesEveryMessageItsResult(t *testing.T) {
	b := startBroker(t, "")
	if _, err := b.connect().Subscribe("orders.*", func(*nats.Msg) {}); err != nil {
		t.Fatal(err)
	}
	p := newPublisher(t, b.connect(), orders(), PublisherOptions{AckTimeout: time.Minute})
	var l ledger
	for i := range 20 {
		if err := p.Publish(testContext(t), Message{Key: fmt.Sprint("k", i%2)}, l.add); err != nil {
			t.Fatal(err)
		}
	}
	p.Close()
	for key, results := range l.byKey {
		for i, r := range results {
			if want := map[bool]Outcome{true: Unknown, false: Refused}[i == 0]; r.Outcome != want || !errors.Is(r.Err, ErrClosed) {
				t.Errorf("message %d of %s: %+v", i, key, r)
			}
		}
	}
	if l.total != 20 {
		t.Errorf("%d results", l.total)
	}
	if err := p.Publish(testContext(t), Message{Key: "a"}, l.add); !errors.Is(err, ErrClosed) {
		t.Errorf("publish after close: %v", err)
	}
	p.Close()
}

func TestManyGoroutinesPublishWhileOthersResolveAndFlush(t *testing.T) {
	nc := startBroker(t, "").connect()
	js := newJetStream(t, nc)
	topic := orders()
	ensure(t, js, topic)
	p := newPublisher(t, nc, topic, PublisherOptions{Window: 64})
	var l ledger
	var wg sync.WaitGroup
	const writers, each = 8, 400
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				m := Message{Key: fmt.Sprintf("w%d", w), Data: fmt.Append(nil, i)}
				if err := p.Publish(context.Background(), m, func(r Result) { l.add(r); p.Resolve(r.Key) }); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() { _ = p.Flush(testContext(t)) })
	}
	wg.Wait()
	if err := p.Flush(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if l.total != writers*each {
		t.Fatalf("%d results", l.total)
	}
	checkLedger(t, &l, stored(t, js, topic), each)
}

func TestPublisherOptionsKeepRetriesInsideTheDedupWindow(t *testing.T) {
	nc := startBroker(t, "").connect()
	for _, opt := range []PublisherOptions{{RetryFor: 91 * time.Second}, {RetryFor: -1}, {Window: -1}} {
		if _, err := NewPublisher(nc, orders(), opt); err == nil {
			t.Errorf("%+v is accepted", opt)
		}
	}
}

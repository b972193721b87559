package publisher

import (
	"context"
	"errors"
	"fmt"
	"leasehold/partitioner/brokertest"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// TestKillingTheBrokerLosesDoublesAndReordersNothing kills the broker again and again while many keys are published.
func TestKillingTheBrokerLosesDoublesAndReordersNothing(t *testing.T) {
	b := brokertest.StartProcess(t)
	nc := b.Connect()
	topic := orders()
	ensure(t, brokertest.JetStream(t, nc), topic)
	p := newPublisher(t, nc, topic, Options{AckTimeout: 200 * time.Millisecond})
	const keys, kills = 40, 3
	var l ledger
	stop, published := make(chan struct{}), make(chan int)
	go func() {
		defer close(published)
		for i := 0; ; i++ {
			select {
			case <-stop:
				published <- i
				return
			default:
			}
			m := Message{Key: fmt.Sprintf("k%d", i%keys), ID: fmt.Sprintf("id-%d", i), Data: fmt.Append(nil, i/keys)}
			if err := p.Publish(context.Background(), m, l.add); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for range kills {
		l.waitForMore(t, 500)
		b.Kill()
		b.Start()
	}
	l.waitForMore(t, 500)
	close(stop)
	n := <-published
	if err := p.Flush(brokertest.Context(t)); err != nil {
		t.Fatal(err)
	}
	if l.total != n {
		t.Fatalf("%d results for %d messages", l.total, n)
	}
	t.Logf("%d messages, %d of them stored at a first try that nobody answered", n, l.count(Duplicate))
	checkLedger(t, &l, stored(t, brokertest.JetStream(t, nc), topic))
}

func checkLedger(t *testing.T, l *ledger, stored map[string][]string) {
	t.Helper()
	for key, results := range l.byKey {
		last := uint64(0)
		for i, r := range results {
			if (r.Outcome != Stored && r.Outcome != Duplicate) || r.Sequence <= last {
				t.Fatalf("message %d of %s: %+v after sequence %d", i, key, r, last)
			}
			last = r.Sequence
		}
		if len(stored[key]) != len(results) {
			t.Errorf("%s is stored %d times instead of %d", key, len(stored[key]), len(results))
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
	b := brokertest.Start(t, "")
	nc := b.Connect()
	got := make(chan *nats.Msg, 100)
	b.Answer("orders.*", func(m *nats.Msg) { got <- m })
	p := newPublisher(t, nc, orders(), Options{AckTimeout: 20 * time.Millisecond, RetryFor: 100 * time.Millisecond})
	results := make(chan Result, 100)
	give := func(key, data string) {
		if err := p.Publish(brokertest.Context(t), Message{Key: key, Data: []byte(data)},
			func(r Result) { results <- r }); err != nil {
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
	if err := p.Flush(brokertest.Context(t)); !errors.Is(err, ErrKeyBlocked) {
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
	b := brokertest.Start(t, "")
	n := 0
	b.Answer("orders.*", func(m *nats.Msg) {
		if n++; n > 1 {
			_ = m.Respond([]byte(
				`{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"},"stream":"orders","seq":0}`))
		}
	})
	p := newPublisher(t, b.Connect(), orders(), Options{AckTimeout: 20 * time.Millisecond})
	if r := publish(t, p, Message{Key: "a"}); r.Outcome != Unknown || !errors.Is(r.Err, ErrTopicFull) {
		t.Errorf("got %+v", r)
	}
}

// A node that no longer leads the stream and has not noticed answers from its own limits, beside the one that leads.
func TestALimitIsBelievedWhenItIsSaidTwice(t *testing.T) {
	const full = `{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"},` +
		`"stream":"orders","seq":0}`
	cases := map[string]struct {
		first, second []string // What answers the first attempt, and the next one.
		want          Outcome
	}{
		"and the leader stores it": {[]string{full, `{"stream":"orders","seq":7}`}, nil, Stored},
		"and the next attempt is told that it stored": {[]string{full},
			[]string{`{"stream":"orders","seq":7,"duplicate":true}`}, Duplicate},
		"and again": {[]string{full}, []string{full}, Refused},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			b := brokertest.Start(t, "")
			n := 0
			b.Answer("orders.*", func(m *nats.Msg) {
				answers := c.second
				if n++; n == 1 {
					answers = c.first
				}
				for _, answer := range answers {
					_ = m.Respond([]byte(answer))
				}
			})
			p := newPublisher(t, b.Connect(), orders(), Options{})
			if r := publish(t, p, Message{Key: "a", ID: "m1"}); r.Outcome != c.want {
				t.Errorf("got %+v, want %v", r, c.want)
			}
		})
	}
}

// A node that is cut off from the others, or frozen, keeps its clients and answers nothing.
func TestRoamingPublisherLeavesAServerThatAnswersNothing(t *testing.T) {
	mute := brokertest.Start(t, "")
	mute.Answer("orders.*", func(*nats.Msg) {})
	wantRoam(t, mute)
}

// When it has noticed that the others are gone, it answers that nobody takes the message.
func TestRoamingPublisherLeavesAServerWhereNobodyTakesMessages(t *testing.T) {
	wantRoam(t, brokertest.Start(t, ""))
}

// wantRoam wants a publisher that begins at a broker to get its answer from another one.
func wantRoam(t *testing.T, first *brokertest.Broker) {
	t.Helper()
	other := brokertest.Start(t, "")
	other.Answer("orders.*", func(m *nats.Msg) { _ = m.Respond([]byte(`{"stream":"orders","seq":7}`)) })
	nc, err := nats.Connect(first.URL()+","+other.URL(), nats.DontRandomize(), nats.MaxReconnects(-1),
		nats.ReconnectWait(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	p := newPublisher(t, nc, orders(), Options{AckTimeout: 50 * time.Millisecond, Failover: true})
	ctx, cancel := context.WithTimeout(brokertest.Context(t), 10*time.Second)
	defer cancel()
	results := make(chan Result, 1)
	tick := time.NewTicker(10 * time.Millisecond) // so that there is always a first attempt
	defer tick.Stop()
	for i := 0; ; i++ {
		err := p.Publish(ctx, Message{Key: fmt.Sprint(i)}, func(r Result) {
			select {
			case results <- r:
			default:
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		select {
		case r := <-results:
			if r.Outcome != Stored || r.Sequence != 7 {
				t.Errorf("got %+v", r)
			}
			return
		case <-ctx.Done():
			t.Fatal("it stayed")
		case <-tick.C:
		}
	}
}

func TestOnlyOneMessageOfAKeyIsInFlight(t *testing.T) {
	b := brokertest.Start(t, "")
	got := make(chan *nats.Msg, 100)
	b.Answer("orders.*", func(m *nats.Msg) { got <- m })
	p := newPublisher(t, b.Connect(), orders(), Options{AckTimeout: time.Minute})
	var l ledger
	for i := range 30 {
		if err := p.Publish(brokertest.Context(t), Message{Key: fmt.Sprint("k", i%3), Data: fmt.Append(nil, i/3)},
			l.add); err != nil {
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
	if err := p.Flush(brokertest.Context(t)); err != nil {
		t.Fatal(err)
	}
}

func TestPublishBlocksOnlyWhileTheWindowIsFull(t *testing.T) {
	t.Run("messages", func(t *testing.T) { fillWindow(t, Options{Window: 3, AckTimeout: time.Minute}, 3) })
	t.Run("bytes", func(t *testing.T) { fillWindow(t, Options{MaxBytes: 2100, AckTimeout: time.Minute}, 2) })
}

func fillWindow(t *testing.T, opt Options, fit int) {
	b := brokertest.Start(t, "")
	got := make(chan *nats.Msg, 100)
	b.Answer("orders.*", func(m *nats.Msg) { got <- m })
	p := newPublisher(t, b.Connect(), orders(), opt)
	done := make(chan Result, 10)
	for i := range fit {
		if err := p.Publish(brokertest.Context(t), Message{Key: fmt.Sprint(i), Data: make([]byte, 1000)},
			func(r Result) { done <- r }); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	more := Message{Key: "more", Data: make([]byte, 1000)}
	if err := p.Publish(ctx, more, func(Result) {
		t.Error("callback of a message that was not taken")
	}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("full window: %v", err)
	}
	if err := (<-got).Respond([]byte(`{"stream":"orders","seq":1}`)); err != nil {
		t.Fatal(err)
	}
	<-done
	if err := p.Publish(brokertest.Context(t), more, func(Result) {}); err != nil {
		t.Errorf("after an answer: %v", err)
	}
}

func TestCloseGivesEveryMessageItsResult(t *testing.T) {
	b := brokertest.Start(t, "")
	b.Answer("orders.*", func(*nats.Msg) {})
	p := newPublisher(t, b.Connect(), orders(), Options{AckTimeout: time.Minute})
	var l ledger
	for i := range 20 {
		if err := p.Publish(brokertest.Context(t), Message{Key: fmt.Sprint("k", i%2)}, l.add); err != nil {
			t.Fatal(err)
		}
	}
	p.Close()
	for key, results := range l.byKey {
		for i, r := range results {
			if want := map[bool]Outcome{true: Unknown, false: Refused}[i == 0]; r.Outcome != want ||
				!errors.Is(r.Err, ErrClosed) {
				t.Errorf("message %d of %s: %+v", i, key, r)
			}
		}
	}
	if l.total != 20 {
		t.Errorf("%d results", l.total)
	}
	if err := p.Publish(brokertest.Context(t), Message{Key: "a"}, l.add); !errors.Is(err, ErrClosed) {
		t.Errorf("publish after close: %v", err)
	}
	p.Close()
}

func TestManyGoroutinesPublishWhileOthersResolveAndFlush(t *testing.T) {
	nc := brokertest.Start(t, "").Connect()
	js := brokertest.JetStream(t, nc)
	topic := orders()
	ensure(t, js, topic)
	p := newPublisher(t, nc, topic, Options{Window: 64})
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
		wg.Go(func() { _ = p.Flush(brokertest.Context(t)) })
	}
	wg.Wait()
	if err := p.Flush(brokertest.Context(t)); err != nil {
		t.Fatal(err)
	}
	if l.total != writers*each {
		t.Fatalf("%d results", l.total)
	}
	checkLedger(t, &l, stored(t, js, topic))
}

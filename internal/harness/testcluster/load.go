package testcluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"leasehold/internal/harness/history"
	"leasehold/internal/harness/monotonic"
	"leasehold/partitioner"
	"leasehold/partitioner/publisher"
)

// LoadSpec says what to publish.
type LoadSpec struct {
	Topic partitioner.Topic
	Keys  int // different keys, "k0" …
	// Names are the keys instead, if there are any.
	Names []string
	Rate  int // messages a second after the burst; 0: none after it
	Burst int // messages as fast as they go, at first
	Seed  uint64
	// Data is the payload of the i-th message, counted from 0, which has that
	// key; nil: {"n":i}.
	Data func(i int, key string) []byte
}

// Load publishes in the background and keeps the outcome of every message.
type Load struct {
	spec LoadSpec
	nc   *nats.Conn
	pub  *publisher.Publisher
	stop context.CancelFunc
	done chan error

	mu      sync.Mutex
	records []history.PublishRecord
}

// StartLoad connects to the URLs, in any order and again whenever a connection
// breaks, and publishes until Stop.
func StartLoad(t testing.TB, urls []string, spec LoadSpec) *Load {
	t.Helper()
	l, err := newLoad(urls, spec)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.stop = cancel
	go func() { l.done <- l.run(ctx) }()
	t.Cleanup(l.close)
	return l
}

func newLoad(urls []string, spec LoadSpec) (*Load, error) {
	nc, err := nats.Connect(strings.Join(urls, ","), nats.Name("load"),
		nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond), nats.RetryOnFailedConnect(true))
	if err != nil {
		return nil, fmt.Errorf("connect the load: %w", err)
	}
	pub, err := publisher.New(nc, spec.Topic.WithDefaults(), publisher.Options{Failover: true})
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("make the load's publisher: %w", err)
	}
	return &Load{spec: spec, nc: nc, pub: pub, done: make(chan error, 1)}, nil
}

func (l *Load) run(ctx context.Context) error {
	random := rand.New(rand.NewPCG(l.spec.Seed, 1))
	for i := range l.spec.Burst {
		if err := l.publish(ctx, i, random); err != nil {
			return err
		}
	}
	if l.spec.Rate == 0 {
		return nil
	}
	tick := time.NewTicker(time.Second / time.Duration(l.spec.Rate))
	defer tick.Stop()
	for i := l.spec.Burst; ; i++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := l.publish(ctx, i, random); err != nil {
			return err
		}
	}
}

func (l *Load) publish(ctx context.Context, i int, random *rand.Rand) error {
	key := l.spec.key(random)
	m := publisher.Message{Key: key, ID: fmt.Sprintf("m%d", i), Data: l.spec.data(i, key)}
	sent := monotonic.Now()
	err := l.pub.Publish(ctx, m, func(r publisher.Result) { l.note(m, sent, r) })
	if err != nil && ctx.Err() != nil {
		return nil // Stop came while the window was full: not accepted, so not published
	}
	if err != nil {
		return fmt.Errorf("publish %s: %w", m.ID, err)
	}
	return nil
}

func (s LoadSpec) key(random *rand.Rand) string {
	if len(s.Names) > 0 {
		return s.Names[random.IntN(len(s.Names))]
	}
	return fmt.Sprintf("k%d", random.IntN(s.Keys))
}

func (s LoadSpec) data(i int, key string) []byte {
	if s.Data != nil {
		return s.Data(i, key)
	}
	return fmt.Appendf(nil, `{"n":%d}`, i)
}

func (l *Load) note(m publisher.Message, sent int64, r publisher.Result) {
	l.mu.Lock()
	l.records = append(l.records, history.PublishRecord{
		ID: m.ID, Key: m.Key, Seq: r.Sequence, Outcome: Outcomes[r.Outcome], Sent: sent, Acked: monotonic.Now(),
	})
	l.mu.Unlock()
	if r.Outcome == publisher.Unknown {
		l.pub.Resolve(m.Key)
	}
}

// Outcomes are the history's words for those of the publisher.
var Outcomes = map[publisher.Outcome]history.Outcome{
	publisher.Stored:    history.Stored,
	publisher.Duplicate: history.Duplicate,
	publisher.Refused:   history.Refused,
	publisher.Unknown:   history.Unknown,
}

// PublishAt publishes messages of keys of their own at one node, one after the other at this distance, and waits for no
// answer: their outcome is unknown.
func (l *Load) PublishAt(t testing.TB, url string, count int, apart time.Duration) {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	prefix := fmt.Sprintf("alone%d-", l.Published())
	for i := range count {
		id := fmt.Sprint(prefix, i)
		m := publisher.Message{Key: id, ID: id, Data: l.spec.data(i, id)}
		sent := monotonic.Now()
		subject, err := l.spec.Topic.WithDefaults().PublishSubject(id)
		if err == nil {
			err = nc.PublishMsg(&nats.Msg{Subject: subject, Header: nats.Header{nats.MsgIdHdr: {id}}, Data: m.Data})
		}
		if err != nil {
			t.Fatalf("publish %s: %v", id, err)
		}
		l.note(m, sent, publisher.Result{Outcome: publisher.Unknown})
		time.Sleep(apart) // Or several share an entry of the broker's log.
	}
}

// Flows waits until so many more messages have their outcome.
func (l *Load) Flows(t testing.TB, limit time.Duration, more int) {
	t.Helper()
	want := l.Published() + more
	Eventually(t, limit, func() error {
		if n := l.Published(); n < want {
			return fmt.Errorf("%d of %d messages have their outcome", n, want)
		}
		return nil
	})
}

// Published is how many messages have their outcome so far.
func (l *Load) Published() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.records)
}

// Records are the outcomes so far.
func (l *Load) Records() []history.PublishRecord {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.records)
}

// Stop ends publishing, waits for the outcome of what was accepted and
// returns all outcomes.
func (l *Load) Stop(t testing.TB, limit time.Duration) []history.PublishRecord {
	t.Helper()
	l.stop()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	err := <-l.done
	l.done <- nil // for close
	if err = errors.Join(err, l.pub.Flush(ctx)); err != nil {
		t.Fatalf("load: %v", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.records
}

// close is for the end of the test, after Stop or without it.
func (l *Load) close() {
	l.stop()
	<-l.done
	l.pub.Close()
	l.nc.Close()
}

// Publish publishes until there are so many messages in all: the ids of a second call begin like those of the first.
func (c *Cluster) Publish(topic Topic, messages int) {
	c.T.Helper()
	load := StartLoad(c.T, c.URLs()[:1], LoadSpec{
		Topic: partitioner.Topic{Name: topic.Name, Partitions: topic.Partitions}, Keys: 50, Burst: messages,
		Seed: uint64(messages),
	})
	Eventually(c.T, MoveLimit, func() error {
		if n := load.Published(); n < messages {
			return fmt.Errorf("%d of %d published", n, messages)
		}
		return nil
	})
	load.Stop(c.T, DrainLimit)
}

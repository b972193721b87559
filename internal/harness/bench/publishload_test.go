//go:build bench

package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"leasehold/internal/harness/testcluster"
)

// asyncWindow is how many messages of an async leg wait for their acknowledgement at most.
const asyncWindow = 1024

// publishLeg is a way to publish: with the plain client, in messages of costPayload bytes with an id and one of
// costKeys keys.
type publishLeg struct {
	async    bool // One connection and a window of asyncWindow; else each connection waits for each acknowledgement.
	conns    int
	toLeader bool // Through the node that leads the stream; else through one of the other two, the same for all clusters.
}

var publishLegList = []publishLeg{
	{async: true, conns: 1}, {conns: 64}, {conns: 1},
	{async: true, conns: 1, toLeader: true}, {conns: 64, toLeader: true}, {conns: 1, toLeader: true},
}

func (l publishLeg) name() string {
	if l.async {
		return fmt.Sprintf("async %d, %s", asyncWindow, l.through())
	}
	return fmt.Sprintf("sync × %d, %s", l.conns, l.through())
}

func (l publishLeg) through() string {
	if l.toLeader {
		return "leader"
	}
	return "follower"
}

// ackWait is how long a message waits for its acknowledgement before it is published again, with the same id: a stream
// whose leader changes, as on a machine that is too busy, answers nothing to what was under way.
const ackWait = 5 * time.Second

// publishedLeg is what a leg has published.
type publishedLeg struct {
	count int
	again int             // Of them, those that were published more than once.
	took  []time.Duration // Of each message of a sync leg, until it was acknowledged.
}

// publishLoad is one leg under way.
type publishLoad struct {
	ids      string // Before the number of each message.
	deadline time.Time
	limit    int64 // Of messages; 0: none.
	payload  []byte
	next     atomic.Int64
	again    atomic.Int64
	lost     atomic.Int64          // Messages that were not stored in all that time.
	reason   atomic.Pointer[error] // Of the last of them.
}

// publishFor publishes a leg.
func (r *publishRig) publishFor(t *testing.T, leg publishLeg, plan publishPlan) publishedLeg {
	t.Helper()
	node := r.leads(t)
	if !leg.toLeader {
		node = (node + 1) % len(r.pids)
	}
	clients := make([]jetstream.JetStream, leg.conns)
	for i := range clients {
		clients[i] = r.client(t, node)
		defer clients[i].Conn().Close()
	}
	l := newPublishLoad(plan)
	sent := l.publish(leg, clients)
	if n := l.lost.Load(); n > 0 {
		t.Fatalf("%s: %d of %d messages were not stored, the last because: %v", leg.name(), n, sent.count, *l.reason.Load())
	}
	return sent
}

func newPublishLoad(plan publishPlan) *publishLoad {
	return &publishLoad{
		ids: fmt.Sprintf("%d-", time.Now().UnixNano()), payload: []byte(strings.Repeat("x", costPayload)),
		deadline: time.Now().Add(plan.duration), limit: int64(plan.messages),
	}
}

func (l *publishLoad) publish(leg publishLeg, clients []jetstream.JetStream) publishedLeg {
	var sent publishedLeg
	if leg.async {
		sent = l.async(clients[0])
	} else {
		sent = l.sync(clients)
	}
	sent.again = int(l.again.Load())
	return sent
}

// client connects to a node as publishers do.
func (r *publishRig) client(t *testing.T, node int) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(r.urls[node], append([]nats.Option{nats.NoReconnect()}, r.options...)...)
	if err != nil {
		t.Fatalf("connect to %s: %v", r.urls[node], err)
	}
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(asyncWindow),
		jetstream.WithPublishAsyncTimeout(ackWait))
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// message is the next one, nil after the last.
func (l *publishLoad) message(random *rand.Rand) *nats.Msg {
	n := l.next.Add(1)
	if l.limit > 0 && n > l.limit || l.limit == 0 && time.Now().After(l.deadline) {
		return nil
	}
	m := nats.NewMsg(fmt.Sprintf("%s.k%d", publishTopic.Name, random.IntN(costKeys)))
	m.Header.Set(jetstream.MsgIDHeader, fmt.Sprint(l.ids, n))
	m.Data = l.payload
	return m
}

// insist publishes a message until it is stored: err is what came of the try before.
func (l *publishLoad) insist(js jetstream.JetStream, m *nats.Msg, err error) {
	l.again.Add(1)
	deadline := time.Now().Add(testcluster.DrainLimit)
	for err != nil && !time.Now().After(deadline) {
		err = publishOnce(js, m)
	}
	if err != nil {
		l.lost.Add(1)
		l.reason.Store(&err)
	}
}

func publishOnce(js jetstream.JetStream, m *nats.Msg) error {
	ctx, cancel := context.WithTimeout(context.Background(), ackWait)
	defer cancel()
	_, err := js.PublishMsg(ctx, m)
	return err
}

// async publishes on one connection and waits for the acknowledgements at the end only.
func (l *publishLoad) async(js jetstream.JetStream) publishedLeg {
	random := rand.New(rand.NewPCG(1, 1))
	acks := make(chan jetstream.PubAckFuture, 2*asyncWindow)
	var all sync.WaitGroup
	all.Go(func() {
		for ack := range acks {
			select {
			case <-ack.Ok():
			case err := <-ack.Err():
				l.insist(js, ack.Msg(), err)
			}
		}
	})
	n := 0
	for m := l.message(random); m != nil; m = l.message(random) {
		n++
		ack, err := js.PublishMsgAsync(m, jetstream.WithStallWait(testcluster.DrainLimit))
		if err != nil {
			l.insist(js, m, err)
			continue
		}
		acks <- ack
	}
	close(acks)
	all.Wait()
	return publishedLeg{count: n}
}

// sync publishes on each connection one message after the other.
func (l *publishLoad) sync(clients []jetstream.JetStream) publishedLeg {
	took := make([][]time.Duration, len(clients))
	var all sync.WaitGroup
	for i, js := range clients {
		all.Go(func() { took[i] = l.oneByOne(js, uint64(i)) })
	}
	all.Wait()
	var sent publishedLeg
	for _, some := range took {
		sent.took = append(sent.took, some...)
	}
	sent.count = len(sent.took)
	return sent
}

func (l *publishLoad) oneByOne(js jetstream.JetStream, seed uint64) (took []time.Duration) {
	random := rand.New(rand.NewPCG(seed, 2))
	for m := l.message(random); m != nil; m = l.message(random) {
		from := time.Now()
		if err := publishOnce(js, m); err != nil {
			l.insist(js, m, err)
		}
		took = append(took, time.Since(from))
	}
	return took
}

// A stream that does not answer for a while makes a leg longer, and loses none of its messages.
func TestPublishLegsInsistUntilStored(t *testing.T) {
	for _, leg := range publishLegList[:2] {
		t.Run(leg.name(), func(t *testing.T) {
			port := testcluster.FreePorts(t, 1)[0]
			testcluster.StartPlainBroker(t, t.TempDir(), port)
			r := &publishRig{urls: []string{fmt.Sprintf("nats://127.0.0.1:%d", port)}}
			clients := make([]jetstream.JetStream, leg.conns)
			for i := range clients {
				clients[i] = r.client(t, 0)
				defer clients[i].Conn().Close()
			}
			l, done := newPublishLoad(publishPlan{messages: 200}), make(chan publishedLeg, 1)
			go func() { done <- l.publish(leg, clients) }()
			testcluster.Eventually(t, testcluster.MoveLimit, func() error {
				if l.again.Load() == 0 {
					return errors.New("no message is published again")
				}
				return nil
			})
			stream := testcluster.MakeStream(t, port, publishTopic)
			sent := <-done
			info, err := stream.Info(t.Context())
			if err != nil || l.lost.Load() > 0 || sent.count != 200 || info.State.Msgs != 200 {
				t.Errorf("%d messages, %d lost, %v: %+v", sent.count, l.lost.Load(), err, info)
			}
		})
	}
}

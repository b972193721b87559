package worker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"leasehold/internal/ownership"
	"leasehold/partitioner"
	"leasehold/worker/handler"
	"leasehold/worker/lane"
	"leasehold/worker/reader"
	"leasehold/worker/workertest"

	"github.com/nats-io/nats.go"
)

func TestGroupJoinsEverythingAndStartsNothingAfter(t *testing.T) {
	topic := workertest.NewTestTopic(t, workertest.StartBroker(t), "orders", 4)
	topic.Create(1)
	called := make(chan int, 4)
	group, stop := startGroup(topic, handler.Func(func(ctx context.Context, m *handler.Message) handler.Result {
		called <- m.Partition
		if m.Partition == 1 {
			<-ctx.Done()
		}
		return handler.Result{Status: handler.OK}
	}))
	var lanes []*lane.Lane
	for p := range topic.Topic.Partitions {
		lanes = append(lanes, group.Start(ownership.Grant{Partition: p, Epoch: 1}))
		if _, err := topic.JS.Publish(t.Context(), fmt.Sprintf("orders.1.%d.c-17", p), nil); err != nil {
			t.Fatal(err)
		}
		<-called
	}
	stop()
	for _, l := range append(lanes, group.Start(ownership.Grant{Partition: 0, Epoch: 2})) {
		select {
		case <-l.Stopped():
		default:
			t.Error("a lane outlived its group")
		}
	}
	if n := len(group.Status()); n != 0 {
		t.Errorf("status has %d lanes", n)
	}
}

func TestEnvelopeCarriesEverything(t *testing.T) {
	js := workertest.StartBroker(t)
	got := make(chan *handler.Message, 2)
	h := handler.Func(func(_ context.Context, m *handler.Message) handler.Result {
		got <- m
		return handler.Result{Status: handler.OK}
	})
	topic := workertest.NewTestTopic(t, js, "orders", 4)
	topic.Create(1)
	group, _ := startGroup(topic, h)
	group.Start(ownership.Grant{Partition: 3, Epoch: 8})
	msg := &nats.Msg{Subject: "orders.1.3.c-17", Data: []byte("x"), Header: nats.Header{
		"Nats-Msg-Id": {"id-1"}, "traceparent": {"00-ab-cd-01"}, "Color": {"red", "blue"},
	}}
	if _, err := js.PublishMsg(t.Context(), msg); err != nil {
		t.Fatal(err)
	}
	m := <-got
	if m.ID != "orders/3/1" || m.IdempotencyKey != "id-1" || m.Traceparent != "00-ab-cd-01" || m.Key != "c-17" ||
		m.Subject != "orders.c-17" || m.Epoch != 8 || m.Attempt != 1 || m.MaxAttempts != 8 || m.Timeout != 30*time.Second ||
		m.Group != "billing" || m.Node != "n1" || len(m.Headers["Color"]) != 2 || time.Since(m.Published) > time.Minute {
		t.Errorf("envelope %+v", m)
	}
	if _, err := js.Publish(t.Context(), "orders.1.3.c-18", nil); err != nil {
		t.Fatal(err)
	}
	if m := <-got; m.IdempotencyKey != "orders/3/2" {
		t.Errorf("idempotency key %q", m.IdempotencyKey)
	}
}

func TestHandlerThatFailsEndsItsGroup(t *testing.T) {
	js := workertest.StartBroker(t)
	topic := partitioner.Topic{Name: "orders", Partitions: 2}.WithDefaults()
	boom := errors.New("boom")
	g, err := NewGroup(GroupOptions{
		Config: Config{Name: "billing"}, Topic: topic, Handler: failing{boom},
		Reader: reader.New(reader.Options{Topic: topic, JS: js}),
	})
	if err != nil {
		t.Fatal(err)
	}
	l := g.Start(ownership.Grant{Partition: 1})
	if err := g.Run(t.Context()); !errors.Is(err, boom) {
		t.Errorf("error %v", err)
	}
	<-l.Stopped()
}

type failing struct{ err error }

func (f failing) Run(context.Context) error { return f.err }

func (f failing) Handle(context.Context, *handler.Message) handler.Result {
	return handler.Result{Status: handler.OK}
}

func TestLanesShareWhatMemoryThereIs(t *testing.T) {
	before := debug.SetMemoryLimit(math.MaxInt64)
	defer debug.SetMemoryLimit(before)
	for _, c := range []struct {
		limit      int64
		partitions int
		want       int
	}{
		{math.MaxInt64, 64, 1 << 20}, {math.MaxInt64, 1, 1 << 20}, {math.MaxInt64, 4096, 64 << 10},
		{192 << 20, 64, 384 << 10}, {192 << 20, 4096, 64 << 10},
	} {
		debug.SetMemoryLimit(c.limit)
		if got := laneBytes(c.partitions); got != c.want {
			t.Errorf("limit %d, %d partitions: %d, want %d", c.limit, c.partitions, got, c.want)
		}
	}
}

// startGroup runs a group of a topic and its reader until stop, or the end of the test.
func startGroup(topic *workertest.TestTopic, h handler.Handler) (g *Group, stop func()) {
	reader := reader.New(reader.Options{Topic: topic.Topic, JS: topic.JS})
	g, err := NewGroup(GroupOptions{
		Config: Config{Name: "billing", Topic: topic.Topic.Name}, Topic: topic.Topic, Node: "n1", Handler: h, Reader: reader,
	})
	if err != nil {
		topic.T.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { _ = reader.Run(ctx) })
	all.Go(func() {
		if err := g.Run(ctx); err != nil {
			topic.T.Error(err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); all.Wait() })
	topic.T.Cleanup(stop)
	return g, stop
}

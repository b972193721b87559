package stream

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"leasehold/worker/workertest"

	"github.com/nats-io/nats.go/jetstream"
)

// losing is a JetStream whose first requests to create a consumer are carried out, and their answers lost with the
// leader that was to give them; the last of them finds nobody.
type losing struct {
	jetstream.JetStream
	t *testing.T

	mu    sync.Mutex
	left  int
	limit []time.Duration // How long each was waited for.
	names map[string]bool
}

func (l *losing) CreateConsumer(ctx context.Context, stream string,
	cfg jetstream.ConsumerConfig) (jetstream.Consumer, error) {
	c, err := l.JetStream.CreateConsumer(ctx, stream, cfg)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left == 0 || err != nil {
		return c, err
	}
	if l.names[cfg.Name] {
		l.t.Errorf("consumer %q is asked for again: on a node that is gone it would stay offline", cfg.Name)
	}
	l.left--
	l.names[cfg.Name] = true
	deadline, _ := ctx.Deadline()
	l.limit = append(l.limit, time.Until(deadline))
	if l.left == 0 {
		return nil, &jetstream.APIError{Code: 500, ErrorCode: 10119, Description: "consumer is offline"}
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestLostRequestForAConsumerIsSoonMadeAgain: the heir of a partition asks while the leader stops.
func TestLostRequestForAConsumerIsSoonMadeAgain(t *testing.T) {
	js := &losing{JetStream: workertest.StartBroker(t), t: t, left: 3, names: map[string]bool{}}
	c, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "orders", Subjects: []string{"orders.>"}})
	if err != nil {
		t.Fatal(err)
	}
	info, err := createConsumer(t.Context(), js, "orders", ConsumerConfig(1))
	if err != nil {
		t.Fatal(err)
	}
	for i, limit := range js.limit {
		if limit > firstCreateTimeout<<i {
			t.Errorf("request %d was waited for %s", i+1, limit)
		}
	}
	if len(js.limit) != 3 || js.names[info.Name] {
		t.Errorf("%d requests were lost, %s answered", len(js.limit), info.Name)
	}
	workertest.Eventually(t, workertest.WaitLimit, func() error { // What the others made is removed.
		names := c.ConsumerNames(t.Context())
		var all []string
		for name := range names.Name() {
			all = append(all, name)
		}
		if len(all) != 1 || all[0] != info.Name {
			return fmt.Errorf("consumers are %v", all)
		}
		return names.Err()
	})
}

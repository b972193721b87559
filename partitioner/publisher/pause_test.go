package publisher

import (
	"errors"
	"leasehold/partitioner/brokertest"
	"leasehold/partitioner/stream"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
)

func TestHeldTopicRefusesEveryClientClearlyAndLosesNothing(t *testing.T) {
	nc := brokertest.Start(t, "").Connect()
	js := brokertest.JetStream(t, nc)
	created := ensure(t, js, orders())
	p := newPublisher(t, nc, orders(), Options{})
	for _, key := range []string{"a", "b", "c"} {
		if r := publish(t, p, Message{Key: key, ID: key, Data: []byte(key)}); r.Outcome != Stored {
			t.Fatalf("before: %+v", r)
		}
	}
	if changed, err := stream.PausePublishing(brokertest.Context(t), js, "orders", true); err != nil || !changed {
		t.Fatalf("Hold = %v, %v", changed, err)
	}
	if r := publish(t, p, Message{Key: "d"}); r.Outcome != Refused || !errors.Is(r.Err, ErrPublishingPaused) {
		t.Errorf("while held: %+v", r)
	}
	if r := publish(t, p, Message{Key: "a", ID: "a"}); r.Outcome != Duplicate {
		t.Errorf("retry of a stored message while held: %+v", r)
	}
	m, err := nc.RequestMsgWithContext(brokertest.Context(t), nats.NewMsg("orders.e"))
	if err != nil || !strings.Contains(string(m.Data), "10077") {
		t.Errorf("a plain client is told %s, %v", m.Data, err)
	}
	if got := stored(t, js, orders()); len(got) != 3 {
		t.Errorf("stored are %v", got)
	}
	ensure(t, js, orders()) // a node that starts meanwhile
	if info, err := created.Info(brokertest.Context(t)); err != nil || !stream.PublishingPaused(info.Config) {
		t.Errorf("after a start of another node: %v, held %v", err, stream.PublishingPaused(info.Config))
	}
	if changed, err := stream.PausePublishing(brokertest.Context(t), js, "orders", false); err != nil || !changed {
		t.Fatalf("release: %v, %v", changed, err)
	}
	if changed, err := stream.PausePublishing(brokertest.Context(t), js, "orders", false); err != nil || changed {
		t.Errorf("second release: %v, %v", changed, err)
	}
	if r := publish(t, p, Message{Key: "d"}); r.Outcome != Stored || r.Sequence != 4 {
		t.Errorf("after the release: %+v", r)
	}
}

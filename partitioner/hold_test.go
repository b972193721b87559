package partitioner

import (
	"errors"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
)

func TestHeldTopicRefusesEveryClientClearlyAndLosesNothing(t *testing.T) {
	nc := startBroker(t, "").connect()
	js := newJetStream(t, nc)
	stream := ensure(t, js, orders())
	p := newPublisher(t, nc, orders(), PublisherOptions{})
	for _, key := range []string{"a", "b", "c"} {
		if r := publish(t, p, Message{Key: key, ID: key, Data: []byte(key)}); r.Outcome != Stored {
			t.Fatalf("before: %+v", r)
		}
	}
	if changed, err := Hold(testContext(t), js, "orders", true); err != nil || !changed {
		t.Fatalf("Hold = %v, %v", changed, err)
	}
	if r := publish(t, p, Message{Key: "d"}); r.Outcome != Refused || !errors.Is(r.Err, ErrDiskShort) {
		t.Errorf("while held: %+v", r)
	}
	if r := publish(t, p, Message{Key: "a", ID: "a"}); r.Outcome != Duplicate {
		t.Errorf("retry of a stored message while held: %+v", r)
	}
	m, err := nc.RequestMsgWithContext(testContext(t), nats.NewMsg("orders.e"))
	if err != nil || !strings.Contains(string(m.Data), "10077") {
		t.Errorf("a plain client is told %s, %v", m.Data, err)
	}
	if got := stored(t, js, orders()); len(got) != 3 {
		t.Errorf("stored are %v", got)
	}
	ensure(t, js, orders()) // a node that starts meanwhile
	if info, err := stream.Info(testContext(t)); err != nil || !IsHeld(info.Config) {
		t.Errorf("after a start of another node: %v, held %v", err, IsHeld(info.Config))
	}
	if changed, err := Hold(testContext(t), js, "orders", false); err != nil || !changed {
		t.Fatalf("release: %v, %v", changed, err)
	}
	if changed, err := Hold(testContext(t), js, "orders", false); err != nil || changed {
		t.Errorf("second release: %v, %v", changed, err)
	}
	if r := publish(t, p, Message{Key: "d"}); r.Outcome != Stored || r.Sequence != 4 {
		t.Errorf("after the release: %+v", r)
	}
}

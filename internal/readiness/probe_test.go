package readiness

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"leasehold/partitioner"
	"leasehold/partitioner/stream"
	"leasehold/server"
	"leasehold/server/servertest"
)

// doorTopic makes a topic on a broker's cluster, and a probe of it over a connection that may only publish.
func doorTopic(t *testing.T, n *servertest.Node, replicas int) (jetstream.Stream, jetstream.JetStream, Probe) {
	t.Helper()
	nc, err := n.Conn("test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	topic := partitioner.Topic{Name: "orders", Partitions: 4, MaxBytes: 1 << 20}.WithDefaults()
	stream, err := stream.Ensure(ctx, js, topic, stream.Options{Replicas: replicas, MaxPayload: 1 << 16})
	if err != nil {
		t.Fatal(err)
	}
	door, err := n.Conn(server.Publish)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(door.Close)
	return stream, js, NewProbe(door, topic)
}

func tryDoor(t *testing.T, p Probe) error {
	ctx, cancel := context.WithTimeout(t.Context(), probeLimit)
	defer cancel()
	return p(ctx)
}

func eventuallyOpen(t *testing.T, what string, p Probe) {
	t.Helper()
	servertest.Eventually(t, time.Minute, func() error {
		if err := tryDoor(t, p); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	})
}

// stored is a stream's last sequence and how many messages it has.
func stored(t *testing.T, stream jetstream.Stream) (last, count uint64) {
	t.Helper()
	servertest.Eventually(t, time.Minute, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		info, err := stream.Info(ctx)
		if err == nil {
			last, count = info.State.LastSeq, info.State.Msgs
		}
		return err
	})
	return last, count
}

func publish(t *testing.T, js jetstream.JetStream, data []byte) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err := js.Publish(ctx, "orders.a", data)
	return err
}

// A probe is answered by each kind of topic that has a leader and stores nothing, in a cluster of three: empty, in use,
// held, full, after a change of leaders. Without a majority it fails, and after all of that the topic takes messages as
// before.
func TestProbeOfATopicStoresNothing(t *testing.T) {
	nodes := servertest.StartCluster(t, 3)
	for _, n := range nodes {
		n.WaitReady(t)
	}
	stream, js, p := doorTopic(t, nodes[0], 3)
	eventuallyOpen(t, "an empty topic", p)
	if err := publish(t, js, []byte("x")); err != nil {
		t.Fatal(err)
	}
	for range 50 {
		eventuallyOpen(t, "a topic in use", p)
	}
	if err := publish(t, js, []byte("y")); err != nil {
		t.Fatal(err)
	}
	if last, count := stored(t, stream); last != 2 || count != 2 {
		t.Fatalf("two messages and many probes made %d messages up to %d", count, last)
	}
	hold(t, js, true)
	eventuallyOpen(t, "a held topic", p)
	hold(t, js, false)
	var full error
	for full == nil {
		full = publish(t, js, make([]byte, 1<<16))
	}
	if !strings.Contains(full.Error(), "maximum bytes") {
		t.Fatalf("the topic is not full: %v", full)
	}
	last, count := stored(t, stream)
	eventuallyOpen(t, "a full topic", p)
	if l, c := stored(t, stream); l != last || c != count {
		t.Errorf("a full topic went from %d messages up to %d to %d up to %d", count, last, c, l)
	}
	if err := nodes[1].Stop(); err != nil {
		t.Fatal(err)
	}
	eventuallyOpen(t, "a topic with two of three copies", p)
	if err := nodes[2].Stop(); err != nil {
		t.Fatal(err)
	}
	servertest.Eventually(t, time.Minute, func() error {
		if tryDoor(t, p) == nil {
			return errors.New("a topic without a majority answers still")
		}
		return nil
	})
	nodes[1].Restart(t).WaitReady(t)
	eventuallyOpen(t, "a topic with a majority again", p)
	if l, c := stored(t, stream); l != last || c != count {
		t.Errorf("after the outage it is %d messages up to %d, before %d up to %d", c, l, count, last)
	}
}

func hold(t *testing.T, js jetstream.JetStream, held bool) {
	t.Helper()
	servertest.Eventually(t, time.Minute, func() error {
		_, err := stream.PausePublishing(t.Context(), js, "orders", held)
		return err
	})
}

func TestProbeOfATopicOnANodeOfItsOwn(t *testing.T) {
	n := servertest.Start(t, servertest.SingleOptions(t))
	n.WaitReady(t)
	stream, js, p := doorTopic(t, n, 1)
	eventuallyOpen(t, "a topic", p)
	if last, _ := stored(t, stream); last != 0 {
		t.Errorf("the probe was stored as %d", last)
	}
	if err := js.DeleteStream(t.Context(), "orders"); err != nil {
		t.Fatal(err)
	}
	if err := tryDoor(t, p); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("without its stream: %v", err)
	}
}

func TestProbeAnswersAreReadForWhatTheySay(t *testing.T) {
	failed := func(code, errCode int, description string) string {
		return fmt.Sprintf(`{"error":{"code":%d,"err_code":%d,"description":%q},"stream":"orders","seq":0}`, code, errCode,
			description)
	}
	for answer, good := range map[string]bool{
		failed(400, 10060, "expected stream does not match"): true,
		failed(503, 10077, "maximum messages exceeded"):      true,
		failed(503, 10077, "maximum bytes exceeded"):         true,
		failed(500, 10076, "stream is offline"):              false,
		`{"stream":"orders","seq":7}`:                        false, // It was stored.
		`{}`:                                                 false,
		`-ERR`:                                               false,
		``:                                                   false,
	} {
		if err := probeVerdict([]byte(answer)); (err == nil) != good {
			t.Errorf("%s: %v", answer, err)
		}
	}
}

// Three failures in a row of one topic are a reason, and one success takes it away.
func TestDoorsGiveATopicThreeTries(t *testing.T) {
	fail := map[string]error{"a": errors.New("no answer")}
	d := NewProbes(map[string]Probe{
		"a": func(context.Context) error { return fail["a"] },
		"b": func(context.Context) error { return fail["b"] },
	})
	try := func() []string {
		for topic, p := range d.probes {
			d.try(t.Context(), topic, p)
		}
		return d.reasons()
	}
	for range probeFails - 1 {
		if r := try(); len(r) > 0 {
			t.Errorf("too early: %q", r)
		}
	}
	if r := try(); len(r) != 1 || !strings.Contains(r[0], "topic a") || !strings.Contains(r[0], "no answer") {
		t.Errorf("after %d failures: %q", probeFails, r)
	}
	delete(fail, "a")
	if r := try(); len(r) > 0 {
		t.Errorf("after a success: %q", r)
	}
}

package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"leasehold/cluster"
	"leasehold/internal/config"
	"leasehold/internal/supervise"
	"leasehold/server/datadir"
	"leasehold/server/servertest"
)

// A node reads the topics of its groups, from before it holds a partition until it stops, and no other topic: each
// message of those would be delivered on every node, to nobody.
func TestOnlyTopicsWithAGroupAreRead(t *testing.T) {
	t.Parallel()
	n := readingNode(t)
	for name, want := range map[string]bool{"orders": true, "alarms": false, "visits": true} {
		if got := n.topics[name].reader != nil; got != want {
			t.Errorf("topic %s has a reader: %v, want %v", name, got, want)
		}
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	work := n.work.run(ctx, cancel)
	servertest.Eventually(t, time.Minute, func() error {
		return errors.Join(consumers(t, n.conns.operator, "orders", 1), consumers(t, n.conns.operator, "visits", 1))
	})
	if err := consumers(t, n.conns.operator, "alarms", 0); err != nil {
		t.Error(err)
	}
	for _, p := range work {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	}
	servertest.Eventually(t, time.Minute, func() error {
		return errors.Join(consumers(t, n.conns.operator, "orders", 0), consumers(t, n.conns.operator, "visits", 0))
	})
	cancel(nil)
}

// readingNode is as much of a node as its readers need.
func readingNode(t *testing.T) *Node {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	file := filepath.Join(t.TempDir(), "node.toml")
	text := "[node]\nname = \"n1\"\n"
	for _, topic := range []string{"orders", "alarms", "visits"} {
		text += fmt.Sprintf("[[topic]]\nname = %q\npartitions = 4\nmax_bytes = \"64MiB\"\n", topic)
	}
	for group, topic := range map[string]string{"billing": "orders", "audit": "orders", "counts": "visits"} {
		text += fmt.Sprintf("[[group]]\nname = %q\ntopic = %q\nhandler = { kind = \"discard\" }\n", group, topic)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	n := newRun(Options{Logger: servertest.Logger(t)}, supervise.RestartError{}, 0)
	n.broker, n.dir = servertest.Single(t), new(datadir.Dir)
	var err1, err2, err3, err4 error
	n.Config, err1 = config.Load(file)
	nc, err2 := n.broker.Conn("test")
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err3 := jetstream.New(nc)
	n.conns = conns{readers: js, letters: js, operator: js}
	_, err4 = cluster.OpenKV(ctx, nc, cluster.BucketOptions{Replicas: 1, MaxBytes: 1 << 26})
	if err := errors.Join(err3, err4, n.useBucket(), n.setup.openTopics(ctx)); err != nil {
		t.Fatal(err)
	}
	n.work = &work{Options: n.Options, conns: &n.conns, registry: n.registry, topics: n.topics}
	if err := n.work.build(nil, nil); err != nil {
		t.Fatal(err)
	}
	return n
}

// consumers reports that a topic's stream has not so many.
func consumers(t *testing.T, js jetstream.JetStream, topic string, want int) error {
	t.Helper()
	stream, err := js.Stream(t.Context(), topic)
	if err != nil {
		return err
	}
	if got := stream.CachedInfo().State.Consumers; got != want {
		return fmt.Errorf("topic %s has %d consumers, want %d", topic, got, want)
	}
	return nil
}

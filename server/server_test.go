package server_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"leasehold/server"
	"leasehold/server/servertest"
)

// stream makes a small stream with as many copies as the broker keeps. Creates are retried: even a ready cluster may
// refuse the first for a moment.
func stream(t *testing.T, s *server.Server, name string, subjects ...string) jetstream.JetStream {
	t.Helper()
	nc, err := s.Conn("test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	servertest.Eventually(t, 20*time.Second, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
			Name: name, Subjects: subjects, Replicas: s.Replicas(), MaxBytes: 1 << 20,
		})
		return err
	})
	return js
}

func TestSingleServesStreamsAndKeepsThemOverARestart(t *testing.T) {
	n := servertest.Start(t, servertest.SingleOptions(t))
	n.WaitReady(t)
	js := stream(t, n.Server, "orders", "orders.*")
	if _, err := js.Publish(context.Background(), "orders.a", []byte("1")); err != nil {
		t.Fatal(err)
	}
	if why := n.ReadyStreams("orders"); len(why) > 0 {
		t.Errorf("ReadyStreams = %v, want none", why)
	}
	if why := n.ReadyStreams("missing"); len(why) != 1 {
		t.Errorf("ReadyStreams of a stream that is not there = %v, want one reason", why)
	}
	id := n.ID()
	n = n.Restart(t)
	n.WaitReady(t)
	if n.ID() == id {
		t.Error("the server id is the same after a restart")
	}
	nc, err := n.Conn("test")
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, _ = jetstream.New(nc)
	got, err := js.Stream(context.Background(), "orders")
	if err != nil {
		t.Fatal(err)
	}
	if last := got.CachedInfo().State.LastSeq; last != 1 {
		t.Errorf("last sequence after the restart = %d, want 1", last)
	}
}

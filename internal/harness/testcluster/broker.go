package testcluster

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"leasehold/internal/bytesize"
	"leasehold/partitioner"
	"leasehold/partitioner/stream"
)

// StartPlainBroker runs a stand-alone broker in this process until the end of the test.
func StartPlainBroker(t *testing.T, dir string, port int) *server.Server {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: dir, NoSigs: true,
		NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("broker is not ready")
	}
	return s
}

// MakeStream makes the topic's stream on a stand-alone broker.
func MakeStream(t *testing.T, port int, topic partitioner.Topic) jetstream.Stream {
	t.Helper()
	nc, err := nats.Connect(fmt.Sprintf("nats://127.0.0.1:%d", port), nats.MaxReconnects(-1),
		nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	stream, err := stream.Ensure(ctx, js, topic, stream.Options{Replicas: 1, MaxPayload: bytesize.MiB})
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

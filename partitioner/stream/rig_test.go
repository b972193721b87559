package stream

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"leasehold/internal/bytesize"
	"leasehold/partitioner"
	"leasehold/partitioner/brokertest"
)

func orders() partitioner.Topic {
	return partitioner.Topic{Name: "orders", Partitions: 12, MaxBytes: 64 * bytesize.MiB}.WithDefaults()
}

func ensure(t testing.TB, js jetstream.JetStream, topic partitioner.Topic) jetstream.Stream {
	t.Helper()
	s, err := Ensure(brokertest.Context(t), js, topic, Options{Replicas: 1, MaxPayload: 1 * bytesize.MiB})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

package publisher

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"leasehold/internal/bytesize"
	"leasehold/partitioner"
	"leasehold/partitioner/brokertest"
	"leasehold/partitioner/stream"
)

func orders() partitioner.Topic {
	return partitioner.Topic{Name: "orders", Partitions: 12, MaxBytes: 64 * bytesize.MiB}.WithDefaults()
}

func ensure(t testing.TB, js jetstream.JetStream, topic partitioner.Topic) jetstream.Stream {
	t.Helper()
	s, err := stream.Ensure(brokertest.Context(t), js, topic, stream.Options{Replicas: 1, MaxPayload: 1 * bytesize.MiB})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// stored lists what a stream holds: the publishers' data by key, in stream order.
func stored(t testing.TB, js jetstream.JetStream, topic partitioner.Topic) map[string][]string {
	t.Helper()
	cons, err := js.OrderedConsumer(brokertest.Context(t), topic.Name, jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	info, err := js.Stream(brokertest.Context(t), topic.Name)
	if err != nil {
		t.Fatal(err)
	}
	byKey := map[string][]string{}
	for left := info.CachedInfo().State.Msgs; left > 0; left-- {
		m, err := cons.Next(jetstream.FetchMaxWait(5 * time.Second))
		if err != nil {
			t.Fatalf("with %d messages left: %v", left, err)
		}
		place, err := topic.Parse(m.Subject())
		if err != nil {
			t.Fatal(err)
		}
		byKey[place.Key] = append(byKey[place.Key], string(m.Data()))
	}
	return byKey
}

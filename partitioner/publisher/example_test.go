package publisher_test

import (
	"context"
	"fmt"
	"os"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"leasehold/internal/bytesize"
	"leasehold/partitioner"
	"leasehold/partitioner/brokertest"
	"leasehold/partitioner/publisher"
	"leasehold/partitioner/stream"
)

// connect starts a broker with one topic, and connects to it. A program would connect to a node instead.
func connect() (*server.Server, *nats.Conn, partitioner.Topic) {
	dir, err := os.MkdirTemp("", "example")
	must(err)
	broker, err := brokertest.Run(dir, -1, "")
	must(err)
	nc, err := nats.Connect(broker.ClientURL())
	must(err)
	js, err := jetstream.New(nc)
	must(err)
	topic := partitioner.Topic{Name: "orders", Partitions: 12, MaxBytes: 8 * bytesize.MiB}.WithDefaults()
	_, err = stream.Ensure(context.Background(), js, topic, stream.Options{Replicas: 1})
	must(err)
	return broker, nc, topic
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// Messages of a key are stored in the order of the calls; results arrive in callbacks.
func ExamplePublisher_Publish() {
	broker, nc, topic := connect()
	defer os.RemoveAll(broker.StoreDir())
	defer broker.Shutdown()
	defer nc.Close()

	p, err := publisher.New(nc, topic, publisher.Options{})
	must(err)
	defer p.Close()
	for i := range 3 {
		m := publisher.Message{Key: "customer 17", ID: fmt.Sprint("order-", i), Data: fmt.Appendf(nil, `{"n":%d}`, i)}
		err := p.Publish(context.Background(), m, func(r publisher.Result) {
			fmt.Println(r.ID, r.Outcome, "at", r.Sequence, "in partition", r.Partition, "key", r.Key)
		})
		must(err)
	}
	must(p.Flush(context.Background()))
	// Output:
	// order-0 stored at 1 in partition 2 key customer%2017
	// order-1 stored at 2 in partition 2 key customer%2017
	// order-2 stored at 3 in partition 2 key customer%2017
}

// A message id makes a retry safe: within the topic's dedup_window it is stored once.
func ExampleMessage_id() {
	broker, nc, topic := connect()
	defer os.RemoveAll(broker.StoreDir())
	defer broker.Shutdown()
	defer nc.Close()

	p, err := publisher.New(nc, topic, publisher.Options{})
	must(err)
	defer p.Close()
	for range 2 {
		m := publisher.Message{Key: "customer 17", ID: "order-1", Data: []byte(`{}`)}
		must(p.Publish(context.Background(), m, func(r publisher.Result) { fmt.Println(r.Outcome, "at", r.Sequence) }))
	}
	must(p.Flush(context.Background()))
	// Output:
	// stored at 1
	// duplicate at 1
}

// After an unknown outcome the key is blocked, so that no later message overtakes one that may still be stored.
func ExamplePublisher_Resolve() {
	broker, nc, topic := connect()
	defer os.RemoveAll(broker.StoreDir())
	defer broker.Shutdown()
	defer nc.Close()

	p, err := publisher.New(nc, topic, publisher.Options{})
	must(err)
	defer p.Close()
	callback := func(r publisher.Result) {
		if r.Outcome == publisher.Unknown {
			// Note the message for later, or publish it again under the same id; then unblock its key.
			p.Resolve(r.Key)
		}
		fmt.Println(r.Outcome)
	}
	must(p.Publish(context.Background(), publisher.Message{Key: "a", Data: []byte("x")}, callback))
	must(p.Flush(context.Background()))
	// Output:
	// stored
}

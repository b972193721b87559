package publisher

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"leasehold/internal/bytesize"
	"leasehold/partitioner/brokertest"
)

const benchKeys = 10007

// BenchmarkPublish compares the publisher with raw asynchronous JetStream publishing into the same stream, with the
// same window, message ids, payloads (256 bytes) and keys. The two take turns, block by block, so that a noisy machine
// hits both; ours/raw is what to look at. Run it with -benchtime 50x or so: an op is one block of each.
func BenchmarkPublish(b *testing.B) {
	srv := brokertest.Start(b, "")
	topic := orders()
	topic.MaxBytes = 8 * bytesize.GiB
	stream := ensure(b, brokertest.JetStream(b, srv.Connect()), topic)
	raw, err := jetstream.New(srv.Connect(), jetstream.WithPublishAsyncMaxPending(1024))
	if err != nil {
		b.Fatal(err)
	}
	p := newPublisher(b, srv.Connect(), topic, Options{})
	const block = 10000
	var rawTime, ourTime time.Duration
	for i := 0; b.Loop(); i++ {
		rawTurn := func() { rawTime += timed(func() { publishRaw(b, raw, block) }) }
		ourTurn := func() { ourTime += timed(func() { publishOurs(b, p, block) }) }
		if i%2 == 0 {
			rawTurn()
			ourTurn()
		} else {
			ourTurn()
			rawTurn()
		}
		if err := stream.Purge(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
	n := float64(block * b.N)
	b.ReportMetric(n/rawTime.Seconds(), "raw/s")
	b.ReportMetric(n/ourTime.Seconds(), "ours/s")
	b.ReportMetric(rawTime.Seconds()/ourTime.Seconds(), "ours/raw")
}

func timed(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

func publishRaw(b *testing.B, js jetstream.JetStream, n int) {
	data := make([]byte, 256)
	for i := range n {
		m := &nats.Msg{Subject: fmt.Sprintf("orders.key-%d", i%benchKeys), Header: nats.Header{nats.MsgIdHdr: {nuid.Next()}},
			Data: data}
		if _, err := js.PublishMsgAsync(m, jetstream.WithStallWait(time.Minute)); err != nil {
			b.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
}

func publishOurs(b *testing.B, p *Publisher, n int) {
	data := make([]byte, 256)
	check := func(r Result) {
		if r.Outcome != Stored {
			b.Errorf("%+v", r)
		}
	}
	for i := range n {
		if err := p.Publish(context.Background(), Message{Key: fmt.Sprintf("key-%d", i%benchKeys), Data: data},
			check); err != nil {
			b.Fatal(err)
		}
	}
	if err := p.Flush(context.Background()); err != nil {
		b.Fatal(err)
	}
}

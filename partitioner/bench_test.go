package partitioner

import (
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"leasehold/internal/bytesize"
)

const benchKeys = 10007

// BenchmarkPublish compares the publisher with raw asynchronous JetStream publishing into the same stream, with the
// same window, message ids and keys. Run it with -count and compare the lines of one run only.
func BenchmarkPublish(b *testing.B) {
	srv := startBroker(b, "")
	js := newJetStream(b, srv.connect())
	topic := orders()
	topic.MaxBytes = 8 * bytesize.GiB
	stream := ensure(b, js, topic)
	data := make([]byte, 256)
	b.Run("raw", func(b *testing.B) {
		js, err := jetstream.New(srv.connect(), jetstream.WithPublishAsyncMaxPending(1024))
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		b.ResetTimer()
		for i := range b.N {
			m := &nats.Msg{Subject: fmt.Sprintf("orders.key-%d", i%benchKeys), Header: nats.Header{nats.MsgIdHdr: {nuid.Next()}}, Data: data}
			if _, err := js.PublishMsgAsync(m); err != nil {
				b.Fatal(err)
			}
		}
		<-js.PublishAsyncComplete()
		purge(b, stream)
	})
	b.Run("ours", func(b *testing.B) {
		p := newPublisher(b, srv.connect(), topic, PublisherOptions{})
		ctx := testContext(b)
		b.ReportAllocs()
		b.ResetTimer()
		for i := range b.N {
			m := Message{Key: fmt.Sprintf("key-%d", i%benchKeys), Data: data}
			if err := p.Publish(ctx, m, func(r Result) {
				if r.Outcome != Stored {
					b.Errorf("%+v", r)
				}
			}); err != nil {
				b.Fatal(err)
			}
		}
		if err := p.Flush(testContext(b)); err != nil {
			b.Fatal(err)
		}
		purge(b, stream)
	})
}

func purge(b *testing.B, s jetstream.Stream) {
	b.StopTimer()
	if err := s.Purge(testContext(b)); err != nil {
		b.Fatal(err)
	}
}

package publisher

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"leasehold/internal/bytesize"
	"leasehold/partitioner/brokertest"
)

// BenchmarkWake compares what it costs to wake publishers in wait for capacity only when a sixteenth of the window is
// free with waking them for each acknowledgement. The broker answers from memory, so that the client is what is
// measured. Run it with -count 5; msgs/s and writes/msg, the system calls on the connection, are what to look at.
func BenchmarkWake(b *testing.B) {
	for name, part := range map[string]int{"sixteenth": 16, "each": 1024} {
		b.Run(name, func(b *testing.B) {
			srv := brokertest.Start(b, "")
			topic := orders()
			topic.MaxBytes = 8 * bytesize.GiB
			ensure(b, brokertest.JetStream(b, srv.Connect()), topic)
			var writes atomic.Int64
			nc := srv.Connect(nats.SetCustomDialer(countingDialer{&writes}))
			p := newPublisher(b, nc, topic, Options{})
			p.wakePart = part
			data := make([]byte, 256)
			begun := time.Now()
			writes.Store(0)
			b.ResetTimer()
			for i := range b.N {
				if err := p.Publish(context.Background(), Message{Key: fmt.Sprintf("key-%d", i%benchKeys), Data: data},
					func(Result) {}); err != nil {
					b.Fatal(err)
				}
			}
			if err := p.Flush(context.Background()); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.N)/time.Since(begun).Seconds(), "msgs/s")
			b.ReportMetric(float64(writes.Load())/float64(b.N), "writes/msg")
		})
	}
}

// countingDialer counts the writes on its connections.
type countingDialer struct{ writes *atomic.Int64 }

func (d countingDialer) Dial(network, address string) (net.Conn, error) {
	conn, err := net.Dial(network, address)
	return countingConn{conn, d.writes}, err
}

type countingConn struct {
	net.Conn
	writes *atomic.Int64
}

func (c countingConn) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

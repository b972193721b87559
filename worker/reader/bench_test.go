package reader

import (
	"context"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"leasehold/partitioner"
	"leasehold/worker/handler"
	"leasehold/worker/workertest"
)

// The benchmarks drain the same stream: 64 partitions, 10,007 keys, 256 bytes. Compare their msgs/s within one run.
const (
	benchMessages   = 200_000
	benchPartitions = 64
	benchKeys       = 10_007
)

func BenchmarkDrain(b *testing.B) {
	js := workertest.StartBroker(b)
	r := newRigOn(b, js, "orders", benchPartitions)
	fillBench(b, r)
	// The bare reader is what the client library offers: an ordered consumer without a filter.
	b.Run("bare", func(b *testing.B) { benchBare(b, js) })
	b.Run("lanes", func(b *testing.B) { benchLanes(b, js) })
}

func fillBench(b *testing.B, r *rig) {
	_, err := r.JS.CreateStream(b.Context(), jetstream.StreamConfig{Name: "orders", Subjects: []string{"orders.1.>"},
		AllowDirect: true})
	if err != nil {
		b.Fatal(err)
	}
	data := make([]byte, 256)
	for i := range benchMessages {
		if _, err := r.JS.PublishAsync(benchSubject(i), data, jetstream.WithStallWait(time.Minute)); err != nil {
			b.Fatal(err)
		}
	}
	select {
	case <-r.JS.PublishAsyncComplete():
	case <-time.After(time.Minute):
		b.Fatal("the stream does not fill")
	}
}

func benchBare(b *testing.B, js jetstream.JetStream) {
	report := benchReport(b)
	for b.Loop() {
		c, err := js.OrderedConsumer(b.Context(), "orders", jetstream.OrderedConsumerConfig{})
		if err != nil {
			b.Fatal(err)
		}
		done := make(chan struct{})
		var n atomic.Int64
		cc, err := c.Consume(func(jetstream.Msg) {
			if n.Add(1) == benchMessages {
				close(done)
			}
		}, jetstream.PullHeartbeat(time.Second))
		if err != nil {
			b.Fatal(err)
		}
		<-done
		cc.Stop()
	}
	report()
}

func benchLanes(b *testing.B, js jetstream.JetStream) {
	var n atomic.Int64
	done := make(chan struct{}, 1)
	h := handler.Func(func(context.Context, *handler.Message) handler.Result {
		if n.Add(1)%benchMessages == 0 {
			done <- struct{}{}
		}
		return handler.Result{Status: handler.OK}
	})
	report := benchReport(b)
	for b.Loop() {
		r := benchRig(b, js, h)
		r.startAll()
		<-done
		b.StopTimer()
		r.stop()
		b.StartTimer()
	}
	report()
}

// benchSubject is the stored subject of the i-th message.
func benchSubject(i int) string {
	key := "k" + strconv.Itoa(i%benchKeys)
	return "orders.1." + strconv.Itoa(partitioner.Of(benchPartitions, key)) + "." + key
}

// benchRig is a reader and a group on a stream that exists.
func benchRig(b *testing.B, js jetstream.JetStream, h handler.Handler) *rig {
	r := newRigOn(b, js, "orders", benchPartitions)
	r.start(rigOptions{handler: h})
	return r
}

// benchReport reports throughput and processor time, which says more on a machine that others use too.
func benchReport(b *testing.B) (report func()) {
	begun := workertest.CPUTime(b)
	return func() {
		messages := float64(b.N) * benchMessages
		b.ReportMetric(messages/b.Elapsed().Seconds(), "msgs/s")
		b.ReportMetric(float64((workertest.CPUTime(b)-begun).Nanoseconds())/messages, "cpu-ns/msg")
	}
}

package reader

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"

	"leasehold/internal/ownership"
	"leasehold/worker/handler"
	"leasehold/worker/workertest"
)

// BenchmarkTakeover is how long a lane waits for the last hundred messages, which the former owner had not committed:
// from a consumer of its own, and from what the tail remembers.
func BenchmarkTakeover(b *testing.B) {
	for _, remembered := range []int{1, 4096} {
		b.Run(fmt.Sprintf("remembers=%d", remembered), func(b *testing.B) {
			handled := make(chan struct{}, 1000)
			h := handler.Func(func(context.Context, *handler.Message) handler.Result {
				handled <- struct{}{}
				return handler.Result{Status: handler.OK}
			})
			r := newRig(b, workertest.StartBroker(b), rigOptions{partitions: 2, recent: remembered, handler: h})
			r.group.Start(ownership.Grant{Partition: 0, Epoch: 1})
			r.awaitTail()
			r.publish(200)
			for range r.sent[0] {
				<-handled
			}
			for epoch := uint64(2); b.Loop(); epoch++ {
				l := r.group.Start(ownership.Grant{Partition: 1, Epoch: epoch})
				for range r.sent[1] {
					<-handled
				}
				b.StopTimer()
				l.Cancel(context.Canceled)
				<-l.Stopped()
				b.StartTimer()
			}
		})
	}
}

// BenchmarkLoneLag is one lane with a backlog, whose queue is full again and again: how many consumers that takes, the
// tail's included.
func BenchmarkLoneLag(b *testing.B) {
	const messages = 20_000
	js := workertest.StartBroker(b)
	var consumers atomic.Int64
	created := func(*nats.Msg) { consumers.Add(1) }
	if _, err := js.Conn().Subscribe("$JS.EVENT.ADVISORY.CONSUMER.CREATED.orders.>", created); err != nil {
		b.Fatal(err)
	}
	var n atomic.Int64
	done := make(chan struct{}, 1)
	h := handler.Func(func(context.Context, *handler.Message) handler.Result {
		if n.Add(1)%messages == 0 {
			done <- struct{}{}
		}
		return handler.Result{Status: handler.OK}
	})
	filled := newRigOn(b, js, "orders", 1)
	filled.Create(1)
	filled.publish(messages)
	for b.Loop() {
		r := newRigOn(b, js, "orders", 1)
		r.start(rigOptions{handler: h})
		r.startAll()
		<-done
		b.StopTimer()
		r.stop()
		b.StartTimer()
	}
	b.ReportMetric(float64(consumers.Load())/float64(b.N), "consumers/op")
	b.ReportMetric(float64(messages*b.N)/b.Elapsed().Seconds(), "msgs/s")
}

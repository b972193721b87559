package reader

import (
	"context"
	"flag"
	"math/rand/v2"
	"testing"
	"time"

	"leasehold/internal/ownership"
	"leasehold/worker/handler"
	"leasehold/worker/workertest"
)

var seed = flag.Uint64("seed", uint64(time.Now().UnixNano()), "seed of the random tests")

// Lanes of all speeds, tiny queues, owners that change, consumers that vanish: whatever happens, each partition's
// messages are handled once each and in order.
func TestNothingIsMissedOrRepeatedWhateverHappens(t *testing.T) {
	t.Logf("-seed %d", *seed)
	rnd := rand.New(rand.NewPCG(*seed, 1))
	js := workertest.StartBroker(t)
	var r *rig
	slow := make([]time.Duration, 24)
	for p := range slow {
		slow[p] = []time.Duration{0, 0, 0, 20 * time.Microsecond, time.Millisecond}[rnd.IntN(5)]
	}
	h := handler.Func(func(ctx context.Context, m *handler.Message) handler.Result {
		if d := slow[m.Partition]; d > 0 {
			time.Sleep(d)
		}
		r.mu.Lock() // Counted last: nothing interrupts this handler, so a drained lane loses no call.
		defer r.mu.Unlock()
		r.got[m.Partition] = append(r.got[m.Partition], m.Seq)
		return handler.Result{Status: handler.OK}
	})
	r = newRigOn(t, js, "orders", 24)
	r.Create(1)
	r.publish(2000)
	r.start(rigOptions{queueEntries: 1 + rnd.IntN(12), recent: 1 + rnd.IntN(100), handler: h})
	lanes := r.startAll()
	for step := range 30 {
		r.publish(rnd.IntN(200))
		switch rnd.IntN(4) {
		case 0:
			for _, name := range r.consumers() {
				_ = r.Stream.DeleteConsumer(t.Context(), name)
			}
		case 1, 2:
			p := rnd.IntN(len(lanes))
			lanes[p].Drain()
			<-lanes[p].Stopped()
			p0, _ := lanes[p].Progress()
			lanes[p] = r.group.Start(ownership.Grant{Partition: p, Epoch: uint64(step), Progress: p0})
		}
	}
	r.awaitAll()
	r.awaitTail()
}

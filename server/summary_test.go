package server_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"leasehold/server/servertest"
)

// A message that could not be written, or did not reach the disk before power was lost, is not a message that was deleted:
// brokers that believe their summary (nats-server v2.15.2) come up with a hole.
func TestASummaryThatSaysMoreIsNotBelieved(t *testing.T) {
	t.Parallel()
	const messages = "jetstream/LEASEHOLD/streams/orders/msgs/1.blk"
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	o := servertest.SingleOptions(t)
	o.Durability = "power-safe" // else messages are written a little later than they are acknowledged
	n := servertest.Start(t, o)
	n.WaitReady(t)
	js := stream(t, n.Server, "orders", "orders.*")
	var size int64
	for i := range 3 {
		if _, err := js.Publish(ctx, "orders.a", []byte("x")); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(filepath.Join(o.Path, messages)); err != nil {
			t.Fatal(err)
		} else if i < 2 {
			size = info.Size()
		}
	}
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Truncate(filepath.Join(o.Path, messages), size), os.Remove(filepath.Join(o.Path, "stores.whole"))); err != nil {
		t.Fatal(err)
	}
	n = n.Restart(t)
	n.WaitReady(t)
	js = stream(t, n.Server, "orders", "orders.*")
	s, err := js.Stream(ctx, "orders")
	if err != nil {
		t.Fatal(err)
	}
	if state := s.CachedInfo().State; state.Msgs != 2 || state.LastSeq != 2 {
		t.Errorf("%d messages, the last has number %d; want 2 and 2", state.Msgs, state.LastSeq)
	}
	if _, err := js.Publish(ctx, "orders.a", []byte("x"), jetstream.WithExpectLastSequence(2)); err != nil {
		t.Error(err)
	}
}

package cluster

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"leasehold/server/servertest"
)

func TestBucketIsFoundAgain(t *testing.T) {
	nc, err := servertest.Single(t).Conn("test")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for range 2 {
		if _, err := OpenKV(ctx, nc, BucketOptions{Replicas: 1, MaxBytes: 1 << 26}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestALostLookAtTheBucketIsRepeated: while a stream has no leader nobody answers what it is asked, then or later.
func TestALostLookAtTheBucketIsRepeated(t *testing.T) {
	nc, err := servertest.Single(t).Conn("test")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := nc.Subscribe("LOST.API.>", func(*nats.Msg) {}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	js, err := jetstream.NewWithAPIPrefix(nc, "LOST.API")
	if err != nil {
		t.Fatal(err)
	}
	from := time.Now()
	if _, err := openBucket(ctx, js, jetstream.StreamConfig{Name: Stream}); err == nil ||
		time.Since(from) > 3*time.Second {
		t.Errorf("an unanswered look at the bucket ended after %v with %v", time.Since(from), err)
	}
}

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

// TestLostRepliesAreRequestedAgain: while a stream has no leader, requests to it get no reply, then or later.
func TestLostRepliesAreRequestedAgain(t *testing.T) {
	nc, err := servertest.Single(t).Conn("test")
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan struct{}, 10)
	for _, subject := range []string{subjects + ">", "LOST.API.>"} {
		if _, err := nc.Subscribe(subject, func(*nats.Msg) { asked <- struct{}{} }); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	defined := make(chan error, 1)
	go func() {
		var have definition
		defined <- (&KV{nc: nc}).Define(ctx, "test", definition{Version: 1}, &have)
	}()
	<-asked
	if _, err := OpenKV(ctx, nc, BucketOptions{Replicas: 1, MaxBytes: 1 << 26}); err != nil {
		t.Fatal(err)
	}
	if err := <-defined; err != nil {
		t.Error(err)
	}

	js, err := jetstream.NewWithAPIPrefix(nc, "LOST.API")
	if err != nil {
		t.Fatal(err)
	}
	from := time.Now()
	if _, err := openBucket(ctx, js, jetstream.StreamConfig{Name: Stream}); err == nil || time.Since(from) > 3*time.Second {
		t.Errorf("opening a bucket that does not reply ended after %v with %v", time.Since(from), err)
	}
}

package cluster

import (
	"context"
	"testing"
	"time"

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

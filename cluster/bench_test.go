package cluster

import (
	"context"
	"testing"
	"time"

	"leasehold/cluster/lease"
	"leasehold/server/servertest"
)

// BenchmarkStoreCheckpoint is one compare-and-set of a lease in the bucket of a single broker, from the call to the
// answer, for as many partitions at once as the benchmark runs with (-cpu).
func BenchmarkStoreCheckpoint(b *testing.B) {
	nc, err := servertest.Single(b).Conn("test")
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(b.Context(), 10*time.Second)
	defer cancel()
	kv, err := OpenKV(ctx, nc, BucketOptions{Replicas: 1, MaxBytes: 1 << 26})
	if err != nil {
		b.Fatal(err)
	}
	partitions := make(chan int, 1024)
	for p := range cap(partitions) {
		partitions <- p
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		key, rev := lease.Key{Group: "g", Partition: <-partitions}, uint64(0)
		for done := uint64(1); pb.Next(); done++ {
			rec := lease.Lease{Owner: "n1", Boot: 1, Epoch: 1, Checkpoint: done}
			next, err := kv.Write(b.Context(), lease.Write{Key: key, Revision: rev, Lease: &rec})
			if err != nil {
				b.Error(err)
				return
			}
			rev = next
		}
	})
}

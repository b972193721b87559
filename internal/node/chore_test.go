package node

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"leasehold/cluster"
	"leasehold/cluster/lease"
	"leasehold/partitioner"
	"leasehold/server/servertest"
)

// TestJanitorCannotPurgeWhatAGroupThatJoinsNeeds lets a group join between the janitor's look at what is finished and its
// purge: the purge must not happen, and the group must begin above whatever was purged before.
func TestJanitorCannotPurgeWhatAGroupThatJoinsNeeds(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	n, top := janitorNode(t, ctx)
	j := n.janitor(top)

	first, ok, err := j.Finished(ctx)
	if err != nil || !ok || first.Seq != 10 {
		t.Fatalf("finished is %+v, %v, %v", first, ok, err)
	}
	if err := j.Record(ctx, first, 5); err != nil {
		t.Fatal(err)
	}
	second, ok, err := j.Finished(ctx)
	if err != nil || !ok {
		t.Fatalf("finished is %+v, %v, %v", second, ok, err)
	}
	floor, err := n.joinTopic(ctx, "orders", "late")
	if err != nil || floor != 5 {
		t.Fatalf("the group joined above %d, %v; want 5", floor, err)
	}
	if err := j.Record(ctx, second, 9); err == nil {
		t.Error("a floor was recorded that the new group does not know of")
	}
	if _, ok, err := j.Finished(ctx); ok || err != nil {
		t.Errorf("everything counts as finished (%v, %v), though the new group has not begun", ok, err)
	}
}

// janitorNode is as much of a node as its janitor needs: a topic of one partition, and a group that has finished 10.
func janitorNode(t *testing.T, ctx context.Context) (*Node, *topic) {
	t.Helper()
	nc, err := servertest.Single(t).Conn("test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	n := &Node{Options: Options{Logger: servertest.Logger(t)}}
	if n.conns.operator, err = jetstream.New(nc); err != nil {
		t.Fatal(err)
	}
	if n.kv, err = cluster.OpenKV(ctx, nc, cluster.BucketOptions{Replicas: 1, MaxBytes: 1 << 26}); err != nil {
		t.Fatal(err)
	}
	if err := n.kv.Put(ctx, topicKey("orders"), 0, topicDefinition{Version: 1, Partitions: 1, Subject: "orders.*", Groups: []string{"early"}}); err != nil {
		t.Fatal(err)
	}
	done := lease.Write{Key: lease.Key{Group: "early"}, Lease: &lease.Lease{Version: 1, Epoch: 1, Done: 10}}
	if _, err := n.kv.Write(ctx, done); err != nil {
		t.Fatal(err)
	}
	return n, &topic{Topic: partitioner.Topic{Name: "orders", Partitions: 1}}
}

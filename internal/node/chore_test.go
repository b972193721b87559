package node

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"leasehold/cluster"
	"leasehold/cluster/lease"
	"leasehold/internal/api"
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

// TestGroupThatWasNotMadeToItsEndIsShownAndCanBeRemoved: a node dies after the topic's record names the group.
func TestGroupThatWasNotMadeToItsEndIsShownAndCanBeRemoved(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	n, top := janitorNode(t, ctx)
	n.log = n.Logger
	early := groupDefinition{Version: 1, Topic: "orders", Start: "earliest"}
	if err := n.kv.Define(ctx, "group.early", early, new(groupDefinition)); err != nil {
		t.Fatal(err)
	}
	if _, err := n.joinTopic(ctx, "orders", "late"); err != nil {
		t.Fatal(err)
	}
	j := n.janitor(top)
	if _, ok, err := j.Finished(ctx); ok || err != nil {
		t.Fatalf("the group holds nothing back: %v, %v", ok, err)
	}
	_, c, err := n.look(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := c.groupInfo(ctx, n.kv, "late"); err != nil || info.State != "unfinished" || info.Topic != "orders" {
		t.Errorf("group list has %+v, %v", info, err)
	}
	if w := c.warnings(); !slices.ContainsFunc(w, func(w string) bool { return strings.Contains(w, "`leasehold group remove late`") }) {
		t.Errorf("warnings %q", w)
	}
	for _, dry := range []bool{true, false} {
		if out, err := n.RemoveGroup(ctx, "late", dry); err != nil || out.Released == dry || out.Topic != "orders" {
			t.Errorf("dry %v: %+v, %v", dry, out, err)
		}
		if _, ok, err := j.Finished(ctx); ok == dry || err != nil {
			t.Errorf("after a removal, dry %v: finished %v, %v", dry, ok, err)
		}
	}
	var have groupDefinition // A node that was only slow, and not dead.
	if err := n.defineGroup(ctx, groupDefinition{Version: 1, Topic: "orders", Start: "earliest"}, "late", &have); err != nil || !have.Removed {
		t.Errorf("a late definition is %+v, %v", have, err)
	}
	if _, err := n.RemoveGroup(ctx, "never", false); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("a group that nobody named: %v", err)
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
	done := lease.Write{Key: lease.Key{Group: "early"}, Lease: &lease.Lease{Version: 1, Epoch: 1, Checkpoint: 10}}
	if _, err := n.kv.Write(ctx, done); err != nil {
		t.Fatal(err)
	}
	return n, &topic{Topic: partitioner.Topic{Name: "orders", Partitions: 1}}
}

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
	"leasehold/internal/config"
	"leasehold/internal/registry"
	"leasehold/internal/status"
	"leasehold/internal/supervise"
	"leasehold/partitioner"
	"leasehold/server/datadir"
	"leasehold/server/servertest"
)

// TestJanitorCannotPurgeWhatAGroupThatJoinsNeeds lets a group join between the janitor's look at what is finished and
// its purge: the purge must not happen, and the group must begin above whatever was purged before.
func TestJanitorCannotPurgeWhatAGroupThatJoinsNeeds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	n, top := janitorNode(t, ctx)
	j := newJanitor(top.Topic, n.registry, n.conns.operator, n.Logger)

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
	floor, err := n.setup.joinTopic(ctx, "orders", "late")
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

// TestGroupThatWasOnlyPartlyCreatedIsShownAndCanBeRemoved: a node dies after the topic's record names the group.
func TestGroupThatWasOnlyPartlyCreatedIsShownAndCanBeRemoved(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	n, top := janitorNode(t, ctx)
	if _, err := n.registry.Group("early").Define(ctx, registry.Group{Version: 1, Topic: "orders",
		Start: "earliest"}); err != nil {
		t.Fatal(err)
	}
	if _, err := n.setup.joinTopic(ctx, "orders", "late"); err != nil {
		t.Fatal(err)
	}
	j := newJanitor(top.Topic, n.registry, n.conns.operator, n.Logger)
	if _, ok, err := j.Finished(ctx); ok || err != nil {
		t.Fatalf("the group holds nothing back: %v, %v", ok, err)
	}
	list, err := status.NewReader(n.view).GroupList(ctx)
	if err != nil || len(list.Groups) != 2 || list.Groups[1].Name != "late" || list.Groups[1].State != "unfinished" ||
		list.Groups[1].Topic != "orders" {
		t.Errorf("group list has %+v, %v", list, err)
	}
	c, err := n.stage.opened().Catalog(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if w := status.CatalogWarnings(c); !slices.ContainsFunc(w, func(w string) bool {
		return strings.Contains(w, "`leasehold group remove late`")
	}) {
		t.Errorf("warnings %q", w)
	}
	for _, dry := range []bool{true, false} {
		if out, err := n.membership.RemoveGroup(ctx, "late", dry); err != nil || out.Released == dry ||
			out.Topic != "orders" {
			t.Errorf("dry %v: %+v, %v", dry, out, err)
		}
		if _, ok, err := j.Finished(ctx); ok == dry || err != nil {
			t.Errorf("after a removal, dry %v: finished %v, %v", dry, ok, err)
		}
	}
	// A node that was only slow, and not dead.
	late := registry.Group{Version: 1, Topic: "orders", Start: "earliest"}
	if have, err := n.setup.defineGroup(ctx, late, "late"); err != nil || !have.Removed {
		t.Errorf("a late definition is %+v, %v", have, err)
	}
	if _, err := n.membership.RemoveGroup(ctx, "never", false); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("a group that nobody named: %v", err)
	}
}

// janitorNode is as much of a node as its janitor needs: a topic of one partition, and a group that has finished 10.
func janitorNode(t *testing.T, ctx context.Context) (*Node, *topic) {
	t.Helper()
	srv := servertest.Single(t) //nolint:contextcheck // It ends with the test, after its clients.
	nc, err := srv.Conn("test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	n := newRun(Options{Logger: servertest.Logger(t), Config: &config.Config{}}, supervise.RestartError{}, 0)
	n.broker = srv
	n.dir = new(datadir.Dir)
	if n.conns.operator, err = jetstream.New(nc); err != nil {
		t.Fatal(err)
	}
	if _, err = cluster.OpenKV(ctx, nc, cluster.BucketOptions{Replicas: 1, MaxBytes: 1 << 26}); err != nil {
		t.Fatal(err)
	}
	if err := n.useBucket(); err != nil {
		t.Fatal(err)
	}
	n.publishStore()
	n.view = n.newView()
	if err := n.registry.Topic("orders").Put(ctx, 0, registry.Topic{Version: 1, Partitions: 1, Subject: "orders.*",
		Groups: []string{"early"}}); err != nil {
		t.Fatal(err)
	}
	done := lease.Write{Key: lease.Key{Group: "early"}, Lease: &lease.Lease{Version: 1, Epoch: 1, Checkpoint: 10}}
	if _, err := n.kv.Write(ctx, done); err != nil {
		t.Fatal(err)
	}
	return n, &topic{Topic: partitioner.Topic{Name: "orders", Partitions: 1}}
}

package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"leasehold/cluster"
	"leasehold/cluster/lease"
	"leasehold/server"
	"leasehold/server/datadir"
	"leasehold/server/servertest"
)

const subjects = "$KV.leasehold."

// bucket is a registry on a server of its own.
type bucket struct {
	*Registry
	t   *testing.T
	ctx context.Context
	nc  *nats.Conn
}

func newBucket(t *testing.T) *bucket {
	t.Helper()
	nc, err := servertest.Single(t).Conn(server.Role("test"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	kv, err := cluster.OpenKV(ctx, nc, cluster.BucketOptions{Replicas: 1, MaxBytes: 1 << 26})
	if err != nil {
		t.Fatal(err)
	}
	return &bucket{New(kv), t, ctx, nc}
}

// session writes a node's session record over what is there.
func (b *bucket) session(rec lease.Session) {
	b.t.Helper()
	saw, err := b.kv.Read(b.ctx, lease.SessionKey(rec.Node))
	if err == nil {
		_, err = b.kv.Write(b.ctx, lease.Write{Key: saw.Key, Revision: saw.Revision, Session: &rec})
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

func sessionOf(node string, state lease.State, groups ...string) lease.Session {
	return lease.Session{Version: 1, Node: node, Boot: 3, State: state, Nonce: "x-1", TTL: time.Second, Weight: 1,
		Groups: groups}
}

func (b *bucket) defineGroup(name string, g Group) {
	b.t.Helper()
	if _, err := b.Group(name).Define(b.ctx, g); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bucket) wantLeft(what, want string) {
	b.t.Helper()
	if groups, err := b.withoutRemoved(b.ctx, []string{"audit"}); err != nil || fmt.Sprint(groups) != want {
		b.t.Errorf("%s: the topic waits for %v, %v", what, groups, err)
	}
}

func TestGroupIsRemovedOnlyWhenNobodyServesIt(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	if _, err := b.RemoveGroup(b.ctx, "audit", false); !errors.Is(err, ErrUnknown) {
		t.Errorf("an unknown group: %v", err)
	}
	const after = 1<<62 + 1 // A number that a float would not hold.
	b.defineGroup("audit", Group{Version: 1, Topic: "orders", Start: "earliest", StartAfter: after})
	b.session(sessionOf("n1", lease.Live, "audit", "billing"))
	if nodes, err := b.RemoveGroup(b.ctx, "audit", false); !errors.Is(err, ErrInUse) || fmt.Sprint(nodes) != "[n1]" {
		t.Errorf("a served group: %v, %v", nodes, err)
	}
	b.session(sessionOf("n1", lease.Ended, "audit", "billing"))
	if _, err := b.RemoveGroup(b.ctx, "audit", true); err != nil {
		t.Errorf("a dry run: %v", err)
	}
	if removed, err := b.ConfirmGroup(b.ctx, "audit"); removed || err != nil {
		t.Errorf("after a dry run: %v, %v", removed, err)
	}
	b.wantLeft("groups of the topic", "[audit]")
	for range 2 {
		if _, err := b.RemoveGroup(b.ctx, "audit", false); err != nil {
			t.Fatal(err)
		}
	}
	if removed, err := b.ConfirmGroup(b.ctx, "audit"); !removed || err != nil {
		t.Errorf("a removed group is confirmed: %v, %v", removed, err)
	}
	if def, _, err := b.Group("audit").Read(b.ctx); err != nil || def.StartAfter != after || def.Topic != "orders" {
		t.Errorf("the rest of the definition: %+v, %v", def, err)
	}
	b.wantLeft("a removed group", "[]")
	// A node that starts with it all the same is not robbed of its messages.
	b.session(sessionOf("n1", lease.Live, "audit", "billing"))
	b.wantLeft("a removed group that is served", "[audit]")
}

func TestTopicIsRemovedOnlyWhenNobodyHasIt(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	if _, err := b.RemoveTopic(b.ctx, "orders", false); !errors.Is(err, ErrUnknown) {
		t.Errorf("an unknown topic: %v", err)
	}
	if _, err := b.Topic("orders").Define(b.ctx, Topic{Version: 1, Partitions: 1, Subject: "orders.*"}); err != nil {
		t.Fatal(err)
	}
	b.session(sessionOf("n1", lease.Live, HousekeepingGroup("orders")))
	if nodes, err := b.RemoveTopic(b.ctx, "orders", false); !errors.Is(err, ErrInUse) || fmt.Sprint(nodes) != "[n1]" {
		t.Errorf("a topic of a live node: %v, %v", nodes, err)
	}
	b.session(sessionOf("n1", lease.Ended, HousekeepingGroup("orders")))
	for _, dry := range []bool{true, false} {
		if _, err := b.RemoveTopic(b.ctx, "orders", dry); err != nil {
			t.Fatal(err)
		}
		if removed, err := b.ConfirmTopic(b.ctx, "orders"); removed == dry || err != nil {
			t.Errorf("dry %v: confirmed as removed %v, %v", dry, removed, err)
		}
	}
	if def, _, err := b.Topic("orders").Read(b.ctx); err != nil || def.Subject != "orders.*" || !def.Removed {
		t.Errorf("the definition: %+v, %v", def, err)
	}
}

// The race that Confirm is for: a removal that has looked, and a node that goes live before it writes.
func TestConfirmedGroupIsNotRemovedOnAnOldLook(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	def := Group{Version: 1, Topic: "orders", Start: "earliest"}
	b.defineGroup("audit", def)
	defs, _, err := b.withServers(b.ctx, groupKind)
	if err != nil {
		t.Fatal(err)
	}
	b.session(sessionOf("n1", lease.Live, "audit"))
	if _, err := b.ConfirmGroup(b.ctx, "audit"); err != nil {
		t.Fatal(err)
	}
	def.Removed = true
	if err := b.Group("audit").Put(b.ctx, defs["audit"].Revision, def); !errors.Is(err, cluster.ErrConflict) {
		t.Errorf("a removal on the old look: %v", err)
	}
}

// TestLostAnswersAreAskedForAgain: while a stream has no leader nobody answers what it is asked, then or later.
func TestLostAnswersAreAskedForAgain(t *testing.T) {
	t.Parallel()
	nc, err := servertest.Single(t).Conn(server.Role("test"))
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan struct{}, 10)
	if _, err := nc.Subscribe(subjects+">", func(*nats.Msg) { asked <- struct{}{} }); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	kv, err := cluster.AttachKV(nc)
	if err != nil {
		t.Fatal(err)
	}
	defined := make(chan error, 1)
	go func() {
		_, err := New(kv).Cluster().Define(ctx, Cluster{Version: 1, Mode: datadir.Single, TTL: 3, Renew: 2, Margin: 1})
		defined <- err
	}()
	<-asked
	if _, err := cluster.OpenKV(ctx, nc, cluster.BucketOptions{Replicas: 1, MaxBytes: 1 << 26}); err != nil {
		t.Fatal(err)
	}
	if err := <-defined; err != nil {
		t.Error(err)
	}
}

// What a broker itself may have been made to publish to a key: an acknowledgement, and a trace event.
const (
	pubAck     = `{"stream":"orders","seq":17,"domain":"","duplicate":true}`
	traceEvent = `{"server":{"name":"n1-a","host":"10.0.0.1","id":"NA","ver":"2.15.2","jetstream":true,"seq":9,` +
		`"time":"2026-01-01T00:00:00Z"},` +
		`"request":{"header":{"X":["a"]},"msgsize":21},"hops":0,"events":[{"type":"in",` +
		`"ts":"2026-01-01T00:00:00Z","kind":0,"cid":5,"name":"x","acc":"LEASEHOLD","subj":"orders.a"}]}`
)

// A definition without its version is refused by everything that reads one, and left as it is.
func TestOnlyDefinitionsAreTakenForDefinitions(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	for i, data := range []string{pubAck, traceEvent, `{"topic":"orders"}`, `{"v":2,"topic":"orders"}`,
		`{"v":1,"topic":"orders"} x`, `{"v":1}`} {
		if _, err := b.nc.RequestMsg(&nats.Msg{Subject: subjects + "group.audit", Data: []byte(data)},
			10*time.Second); err != nil {
			t.Fatal(err)
		}
		_, _, err1 := b.Group("audit").Read(b.ctx)
		_, err2 := b.Group("audit").Define(b.ctx, Group{Version: 1, Topic: "orders", Start: "earliest"})
		err3 := b.Group("audit").Update(b.ctx, func(*Group) error { return nil })
		_, err4 := b.ConfirmGroup(b.ctx, "audit")
		_, _, err5 := b.Finished(b.ctx, []string{"audit"}, 1)
		_, err6 := b.Groups(b.ctx)
		for j, err := range []error{err1, err2, err3, err4, err5, err6} {
			if !errors.Is(err, cluster.ErrNotARecord) || !strings.Contains(err.Error(), "group.audit") {
				t.Errorf("reader %d of %d, %s: %v", j, i, data, err)
			}
		}
		if _, stored, err := b.kv.Get(b.ctx, "group.audit"); err != nil || string(stored) != data {
			t.Errorf("%s became %s: %v", data, stored, err)
		}
	}
}

// Nothing that a record does not name is stored with it: what is made up for a look is not.
func TestAnUndefinedGroupIsStoredAsAnyOther(t *testing.T) {
	data, err := json.Marshal(NeverDefined())
	if err != nil || strings.Contains(strings.ToLower(string(data)), "undefined") {
		t.Errorf("%s, %v", data, err)
	}
}

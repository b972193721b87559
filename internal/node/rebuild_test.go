package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"leasehold/cluster"
	"leasehold/cluster/lease"
	"leasehold/internal/registry"
	"leasehold/server/servertest"
	"leasehold/worker"
)

// forgery is what a publisher can have had a broker write to any subject: a trace event.
const forgery = `{"server":{"name":"n1-x","id":"NA"},"request":{"header":{"X":["a"]},"msgsize":21},` +
	`"hops":0,"events":[{"type":"in"}]}`

// forge writes over a definition. The node itself may write it at this moment: it confirms what it has started with.
func (l oneRun) forge(t *testing.T, key string) {
	t.Helper()
	servertest.Eventually(t, time.Minute, func() error {
		rev, _, err := l.kv.Get(t.Context(), key)
		if err == nil {
			err = l.kv.Put(t.Context(), key, rev, json.RawMessage(forgery))
		}
		return err
	})
}

// definitionOf reads a definition as a plain object.
func (l oneRun) definitionOf(t *testing.T, key string) (fields map[string]any, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	rev, data, err := l.kv.Get(ctx, key)
	if err == nil {
		err = cluster.Decode(key, rev, data, &fields)
	}
	return fields, err
}

var definitionKeys = []string{"cluster", "topic.orders", "group.audit"}

// A node whose definitions were forged while it ran starts all the same, and they are as they were.
func TestForgedDefinitionsAreWrittenAgainFromTheConfig(t *testing.T) {
	t.Parallel()
	start := newRuns(t)
	n := start()
	before := map[string]string{}
	for _, key := range definitionKeys {
		fields, err := n.definitionOf(t, key)
		if err != nil {
			t.Fatal(err)
		}
		before[key] = fmt.Sprint(fields)
		n.forge(t, key)
		if _, err := n.definitionOf(t, key); !errors.Is(err, cluster.ErrNotARecord) || !strings.Contains(err.Error(), key) {
			t.Errorf("a forged %s reads as: %v", key, err)
		}
	}
	if s, err := n.reader().Status(t.Context()); err != nil || !strings.Contains(fmt.Sprint(s.Warnings), "topic.orders") {
		t.Errorf("status warns of %q, %v", s.Warnings, err)
	}
	n.quit()
	if err := n.waitEnd(t); err != nil {
		t.Fatal(err)
	}
	n = start()
	for _, key := range definitionKeys {
		if fields, err := n.definitionOf(t, key); err != nil || fmt.Sprint(fields) != before[key] {
			t.Errorf("%s is %v, was %v: %v", key, fields, before[key], err)
		}
	}
}

// What speaks against the config keeps a definition from being written again, and the refusal says what it is.
func TestAForgedDefinitionIsNotReplacedAgainstWhatIsStored(t *testing.T) {
	t.Parallel()
	cfg := loadSingle(t)
	n := startRun(t, cfg)
	n.waitReady(t)
	for _, key := range []string{"topic.orders", "group.audit"} {
		n.forge(t, key)
	}
	n.quit()
	if err := n.waitEnd(t); err != nil {
		t.Fatal(err)
	}
	right := cfg.Topics[0].Partitions
	cfg.Topics[0].Partitions = 2 * right
	n = startRun(t, cfg)
	if err := n.waitEnd(t); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "key topic.orders") ||
		!strings.Contains(err.Error(), "partitions") {
		t.Errorf("with another number of partitions: %v", err)
	}
	cfg.Topics[0].Partitions = right
	n = startRun(t, cfg)
	n.waitReady(t)
	if _, err := n.definitionOf(t, "group.audit"); err != nil {
		t.Errorf("the group: %v", err)
	}
	want := registry.Group{Version: 1, Topic: "orders", Start: worker.StartLatest}
	if err := n.setup.groupAgrees(t.Context(), "never-owned", &want); err == nil {
		t.Errorf("a group without leases begins after %d", want.StartAfter)
	}
	want.Start = "earliest"
	if err := n.setup.groupAgrees(t.Context(), "never-owned", &want); err != nil || want.StartAfter != 0 {
		t.Errorf("a group without leases that begins with the first message begins after %d: %v", want.StartAfter, err)
	}
	other := n.Config.Cluster.SessionTTL + time.Second
	rec := lease.Session{Version: 1, Node: "n2", Boot: 1, State: lease.Live, Nonce: "x", TTL: other, Weight: 1}
	if _, err := n.kv.Write(t.Context(), lease.Write{Key: lease.SessionKey("n2"), Session: &rec}); err != nil {
		t.Fatal(err)
	}
	if err := n.setup.sessionsAgree(t.Context()); err == nil || !strings.Contains(err.Error(), "n2") {
		t.Errorf("a live session of another ttl: %v", err)
	}
}

// A forged session and a forged lease of a node that runs: it goes on by itself, under a new boot and a higher epoch,
// and says so.
func TestForgedRecordsOfARunningNodeAreWrittenAgain(t *testing.T) {
	t.Parallel()
	n := newRuns(t)()
	servertest.Eventually(t, time.Minute, func() error {
		if l := n.known(t).lease(t); l.Owner != "n1" {
			return fmt.Errorf("the lease is %+v", l)
		}
		return nil
	})
	view := n.known(t)
	boot, epoch := view.Boot, view.lease(t).Epoch
	if err := n.leasesConn(t).Publish("$KV.leasehold.lease.audit.00000", []byte(forgery)); err != nil {
		t.Fatal(err)
	}
	servertest.Eventually(t, time.Minute, func() error {
		if l := n.known(t).lease(t); l.Epoch <= epoch || l.Owner != "n1" || l.Boot != boot {
			return fmt.Errorf("the lease is %+v", l)
		}
		return nil
	})
	if err := n.leasesConn(t).Publish("$KV.leasehold.session.n1", []byte(forgery)); err != nil {
		t.Fatal(err)
	}
	servertest.Eventually(t, time.Minute, func() error {
		v := n.known(t)
		if l := v.lease(t); !v.Live || v.Boot <= boot || l.Owner != "n1" || l.Boot != v.Boot {
			return fmt.Errorf("boot %d, %s, the lease is %+v", v.Boot, v.State, l)
		}
		return nil
	})
	s, err := n.reader().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"lease.audit.00000", "session.n1"} {
		if !strings.Contains(fmt.Sprint(s.Warnings), key) {
			t.Errorf("no warning names %s: %q", key, s.Warnings)
		}
	}
	if _, err := n.kv.Read(t.Context(), lease.SessionKey("n1")); err != nil {
		t.Error(err)
	}
	select {
	case err := <-n.ended:
		t.Errorf("the node ended: %v", err)
	default:
	}
}

// known is what a node's driver knows.
type known struct{ lease.View }

func (l oneRun) known(t *testing.T) known {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	v, err := l.stage.leases().Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return known{v}
}

// lease is that of the group's first partition.
func (k known) lease(t *testing.T) lease.Lease {
	t.Helper()
	for _, g := range k.Groups {
		if g.Name == "audit" {
			return g.Leases[0]
		}
	}
	t.Fatal("the group is not known")
	return lease.Lease{}
}

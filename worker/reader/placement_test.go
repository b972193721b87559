package reader

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"leasehold/server/servertest"
	"leasehold/worker/handler"
	"leasehold/worker/lane"
	"leasehold/worker/stream"
	"leasehold/worker/workertest"
)

func TestReadersLiveOnTheirOwnNodeAndAskEveryReplica(t *testing.T) {
	nodes := servertest.Cluster(t, 3)
	for i, node := range nodes {
		nc, err := node.Conn("test")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		r := newRigOn(t, js, fmt.Sprintf("orders%d", i), 8)
		r.Create(3)
		r.publish(300)
		if err := r.Stream.DeleteMsg(t.Context(), 200); err != nil {
			t.Fatal(err)
		}
		r.awaitCopies()
		r.local = nc.ConnectedServerName
		r.start(rigOptions{queueEntries: 16, handler: handler.Func(r.handle)})
		r.startAll()
		// The message is missing everywhere, which only asking all three can tell.
		workertest.Eventually(t, workertest.WaitLimit, func() error {
			for _, s := range r.group.Status() {
				if s.State != lane.StateGap {
					return fmt.Errorf("status %+v", s)
				}
			}
			return nil
		})
		workertest.Eventually(t, workertest.WaitLimit, func() error { return r.checkLocal(nc.ConnectedServerName()) })
		r.stop()
	}
}

// awaitCopies waits until every replica of the topic has all that was done to it.
func (r *rig) awaitCopies() {
	r.T.Helper()
	workertest.Eventually(r.T, workertest.WaitLimit, func() error {
		info, err := r.Stream.Info(r.T.Context())
		if err != nil {
			return err
		}
		for _, p := range info.Cluster.Replicas {
			if !p.Current || p.Lag > 0 {
				return fmt.Errorf("%s lags behind by %d", p.Name, p.Lag)
			}
		}
		return nil
	})
}

// A node that has no replica of the topic reads from another node, and from a third when that one dies.
func TestReaderWithoutACopyReadsFromAnotherNode(t *testing.T) {
	nodes := servertest.StartCluster(t, 4)
	for _, n := range nodes {
		n.WaitReady(t)
	}
	var r *rig
	for _, n := range nodes { // the first makes the stream; the one without a copy continues
		nc, err := n.Conn("test")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		r = newRigOn(t, js, "orders", 8)
		r.Create(3)
		r.local = nc.ConnectedServerName
		if probe := (&stream.Opener{JS: js, Stream: r.Topic.Name, LocalServer: r.local}); !probe.MayBeLocal(t.Context()) {
			break
		}
	}
	begun := time.Now()
	r.start(rigOptions{queueEntries: 16, handler: handler.Func(r.handle), recent: 1000})
	r.startAll()
	r.awaitTail()
	r.publish(300)
	r.awaitAll()
	t.Logf("read the first messages after %v", time.Since(begun))

	from := r.readsFrom()
	for _, n := range nodes {
		if strings.HasPrefix(from, n.Options.Node+"-") {
			begun = time.Now()
			_ = n.Stop()
		}
	}
	workertest.Eventually(t, workertest.WaitLimit, func() error { // an election may have to pass
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		ack, err := r.JS.Publish(ctx, r.Topic.Name+".1.3.last", nil)
		if err == nil {
			r.mu.Lock()
			r.sent[3] = append(r.sent[3], ack.Sequence)
			r.mu.Unlock()
		}
		return err
	})
	published := time.Since(begun)
	r.awaitAll()
	t.Logf("reading from %s, which stopped: published again after %v, read after %v", from, published, time.Since(begun))
}

// readsFrom is the server that a consumer of the topic is on.
func (r *rig) readsFrom() string {
	r.T.Helper()
	for info := range r.Stream.ListConsumers(r.T.Context()).Info() {
		if info.Cluster.Leader != r.local() {
			return info.Cluster.Leader
		}
	}
	r.T.Fatal("no consumer on another node")
	return ""
}

// checkLocal reports a consumer of the topic that is not on the server named.
func (r *rig) checkLocal(name string) error {
	list := r.Stream.ListConsumers(r.T.Context())
	n := 0
	for info := range list.Info() {
		n++
		if info.Cluster == nil || info.Cluster.Leader != name {
			return fmt.Errorf("consumer %s is on %+v, want %s", info.Name, info.Cluster, name)
		}
	}
	if n == 0 {
		return fmt.Errorf("no consumer: %w", list.Err())
	}
	return nil
}

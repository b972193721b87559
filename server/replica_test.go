package server_test

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"leasehold/server"
	"leasehold/server/replicas"
	"leasehold/server/servertest"
)

// fill makes a stream with so many messages and waits until the node's replica holds them.
func fill(t *testing.T, n *servertest.Node, count int) {
	t.Helper()
	nc, err := n.Conn("test")
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	servertest.Eventually(t, servertest.ReadyLimit, func() error {
		_, err := js.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{Name: "orders", Subjects: []string{"orders.*"},
			Replicas: n.Replicas()})
		return err
	})
	for i := range count {
		m := nats.NewMsg(fmt.Sprintf("orders.k%d", i%2))
		m.Header.Set("Number", fmt.Sprint(i+1))
		m.Data = fmt.Appendf(nil, "message %d", i+1)
		if _, err := js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	servertest.Eventually(t, servertest.ReadyLimit, func() error {
		r, err := n.Replica("orders")
		if err == nil && r.State().Last != uint64(count) {
			err = fmt.Errorf("the replica ends at %d", r.State().Last)
		}
		return err
	})
}

// wantReplica checks that the replica holds these messages, in both orders of reading.
func wantReplica(t *testing.T, s *server.Server, count int) {
	t.Helper()
	r, err := s.Replica("orders")
	if err != nil {
		t.Fatal(err)
	}
	seq := uint64(1)
	for ; ; seq++ {
		m, err := r.Next("", seq)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || m.Seq != seq || string(m.Data) != fmt.Sprintf("message %d", seq) ||
			m.Header["Number"][0] != fmt.Sprint(seq) || m.Subject != fmt.Sprintf("orders.k%d", (seq-1)%2) ||
			time.Since(m.Stored) > time.Hour {
			t.Fatalf("message %d: %+v, %v", seq, m, err)
		}
	}
	if seq != uint64(count)+1 {
		t.Errorf("the last message is %d, want %d", seq-1, count)
	}
	if m, err := r.Next("orders.k1", 3); err != nil || m.Seq != 4 {
		t.Errorf("behind 3, key k1: %+v, %v", m, err)
	}
	if n, err := r.Count("orders.k1", 3); err != nil || n != uint64(count)/2-1 {
		t.Errorf("%d messages of k1 from 3, %v", n, err)
	}
	if _, err := r.At(uint64(count) + 9); !errors.Is(err, replicas.ErrNotInReplica) {
		t.Errorf("a message that is not stored: %v", err)
	}
	if m, err := r.At(2); err != nil || string(m.Data) != "message 2" {
		t.Errorf("message 2: %+v, %v", m, err)
	}
	if at := r.FirstAt(time.Now().Add(time.Minute)); at != uint64(count)+1 {
		t.Errorf("nothing is stored in the future, and the first there is %d", at)
	}
}

func TestReplicaIsReadWithoutALeader(t *testing.T) {
	t.Parallel()
	nodes := servertest.StartCluster(t, 3)
	for _, n := range nodes {
		n.WaitReady(t)
	}
	const count = 10
	fill(t, nodes[0], count)
	if err := errors.Join(nodes[1].Stop(), nodes[2].Stop()); err != nil {
		t.Fatal(err)
	}
	wantReplica(t, nodes[0].Server, count)
	alone := nodes[0].Restart(t)
	wantReplica(t, alone.Server, count)
	if _, err := alone.Replica("billing"); !errors.Is(err, replicas.ErrNoReplica) {
		t.Errorf("a stream that does not exist: %v", err)
	}
}

func TestReplicaOfANodeOnItsOwn(t *testing.T) {
	n := servertest.Start(t, servertest.SingleOptions(t))
	n.WaitReady(t)
	fill(t, n, 6)
	wantReplica(t, n.Server, 6)
	if _, err := n.Replica("billing"); !errors.Is(err, replicas.ErrNoReplica) {
		t.Errorf("a stream that does not exist: %v", err)
	}
}

package server_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"leasehold/server"
	"leasehold/server/servertest"
)

// TestLeadersMoveBeforeTheStop: the node answers all the while, and leads nothing afterwards.
func TestLeadersMoveBeforeTheStop(t *testing.T) {
	t.Parallel()
	var nodes []*servertest.Node
	for _, o := range servertest.ClusterOptions(t, 3) {
		nodes = append(nodes, servertest.Start(t, o))
	}
	for _, n := range nodes {
		n.WaitReady(t)
	}
	leader := nodes[0]
	for _, n := range nodes {
		if n.Options.Node == nodes[0].MetaLeader() {
			leader = n
		}
	}
	nc, err := leader.Conn(server.Role("test"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"one", "two", "other"} {
		cfg := jetstream.StreamConfig{Name: name, Subjects: []string{name}, Replicas: 3}
		servertest.Eventually(t, 20*time.Second, func() error { _, err := js.CreateStream(t.Context(), cfg); return err })
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	leader.MoveLeaders(ctx, "one", "two", "absent")
	if ctx.Err() != nil {
		t.Fatal("the leaders stay")
	}
	copies, err := leader.LocalReplicas()
	if err != nil || copies["one"].Leads || copies["two"].Leads || leader.MetaLeader() == leader.Options.Node {
		t.Errorf("still leads: %+v, meta leader %s, %v", copies, leader.MetaLeader(), err)
	}
	servertest.Eventually(t, 20*time.Second, func() error {
		for _, n := range nodes {
			if n != leader && n.MetaLeader() == n.Options.Node {
				_, err := js.Publish(t.Context(), "one", []byte("x"))
				return errors.Join(err)
			}
		}
		return fmt.Errorf("no other node leads")
	})

	// With nobody to take over, a stop is not held up.
	for _, n := range nodes {
		if n != leader {
			_ = n.Stop()
		}
	}
	short, end := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer end()
	leader.MoveLeaders(short, "one", "two", "other")
}

package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"leasehold/server/servertest"
)

func TestClusterBecomesReadyAndARestartedNodeBecomesCurrent(t *testing.T) {
	t.Parallel()
	nodes := servertest.StartCluster(t, 3)
	for _, n := range nodes {
		n.WaitReady(t)
	}
	js := stream(t, nodes[0].Server, "orders", "orders.*")
	servertest.Eventually(t, 20*time.Second, func() error {
		_, err := js.Publish(context.Background(), "orders.a", []byte("1"))
		return err
	})
	for _, n := range nodes {
		waitCurrent(t, n)
		if leader := n.MetaLeader(); leader == "" || leader != nodes[0].MetaLeader() {
			t.Errorf("%s thinks that %q leads, n1 that %q does", n.Options.Node, leader, nodes[0].MetaLeader())
		}
	}
	if err := nodes[2].Stop(); err != nil {
		t.Fatalf("stop n3: %v", err)
	}
	servertest.Eventually(t, 20*time.Second, func() error { // two of three go on
		_, err := js.Publish(context.Background(), "orders.a", []byte("2"))
		return err
	})
	n3 := nodes[2].Restart(t)
	n3.WaitReady(t)
	waitCurrent(t, n3)
	if n3.Replicas() != 3 {
		t.Errorf("Replicas = %d, want 3", n3.Replicas())
	}
}

func waitCurrent(t *testing.T, n *servertest.Node) {
	t.Helper()
	servertest.Eventually(t, servertest.ReadyLimit, func() error {
		if why := n.ReadyStreams("orders"); len(why) > 0 {
			return errors.New(strings.Join(why, "; "))
		}
		return nil
	})
}

// waitReason waits until the node is not ready for a reason that holds all the parts.
func waitReason(t *testing.T, n *servertest.Node, limit time.Duration, parts ...string) {
	t.Helper()
	servertest.Eventually(t, limit, func() error {
		text := strings.Join(n.Ready(), "; ")
		for _, part := range parts {
			if !strings.Contains(text, part) {
				return fmt.Errorf("reasons of %s are %q, want %q in them", n.Options.Node, text, part)
			}
		}
		return nil
	})
}

func TestFirstStartWaitsForEveryNodeAndNamesTheMissing(t *testing.T) {
	t.Parallel()
	options := servertest.ClusterOptions(t, 3)
	n1, n2 := servertest.Start(t, options[0]), servertest.Start(t, options[1])
	for _, n := range []*servertest.Node{n1, n2} {
		waitReason(t, n, 20*time.Second, "waiting for n3 ("+options[2].ClusterListen+")", "first start")
	}
	n3 := servertest.Start(t, options[2])
	for _, n := range []*servertest.Node{n1, n2, n3} {
		n.WaitReady(t)
	}
}

// Two of three nodes gone: the third says so, and when one is back the cluster goes on without the other, although the
// list still names three. The broker's stock timers would notice after 10 to 20 s.
func TestQuorumLossIsAReasonAndAMajorityIsEnoughLater(t *testing.T) {
	t.Parallel()
	nodes := servertest.StartCluster(t, 3)
	for _, n := range nodes {
		n.WaitReady(t)
	}
	_ = nodes[1].Stop()
	_ = nodes[2].Stop()
	waitReason(t, nodes[0], 20*time.Second, "majority of 3", "n2 (", "n3 (")
	n2 := nodes[1].Restart(t)
	n2.WaitReady(t)
	nodes[0].WaitReady(t)
}

func TestWrongSecretIsRefusedVisibly(t *testing.T) {
	t.Parallel()
	options := servertest.ClusterOptions(t, 3)
	options[2].Secrets = [][]byte{bytes.Repeat([]byte{8}, 32)}
	var nodes []*servertest.Node
	for _, o := range options {
		nodes = append(nodes, servertest.Start(t, o))
	}
	waitReason(t, nodes[0], 20*time.Second, "waiting for n3", "another cluster secret")
	waitReason(t, nodes[2], 20*time.Second, "waiting for n1", "n2", "another cluster secret")
}

func TestOtherClusterIsRefusedVisibly(t *testing.T) {
	t.Parallel()
	options := servertest.ClusterOptions(t, 3)
	options[2].Identity.Cluster = "other"
	n1, n3 := servertest.Start(t, options[0]), servertest.Start(t, options[2])
	waitReason(t, n1, 20*time.Second, "another cluster:")
	waitReason(t, n3, 20*time.Second, "waiting for n1")
}

// Midway through a change of the secret every node accepts both, and some still present the old one.
func TestNodesWithTwoSecretsAcceptEachOther(t *testing.T) {
	t.Parallel()
	old, fresh := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	options := servertest.ClusterOptions(t, 3)
	options[0].Secrets = [][]byte{old, fresh}
	options[1].Secrets = [][]byte{fresh, old}
	options[2].Secrets = [][]byte{fresh, old}
	var nodes []*servertest.Node
	for _, o := range options {
		nodes = append(nodes, servertest.Start(t, o))
	}
	for _, n := range nodes {
		n.WaitReady(t)
	}
}

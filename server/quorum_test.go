package server_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"leasehold/server"
	"leasehold/server/servertest"
)

func TestQuorumTextNamesWhoDoesNotAnswer(t *testing.T) {
	at := time.Date(2026, 11, 29, 13, 5, 7, 0, time.UTC)
	n2, n3 := server.SilentPeer{Node: "n2", Since: at, Heard: true},
		server.SilentPeer{Node: "n3", Since: at.Add(time.Second), Heard: true}
	for _, c := range []struct {
		q    server.Quorum
		want string
	}{
		{server.Quorum{Nodes: 3, Answer: 2, Silent: []server.SilentPeer{n2}, Leader: "n1"}, ""},
		{server.Quorum{Nodes: 3, Answer: 1, Silent: []server.SilentPeer{n2, n3}, Leader: "n1"},
			"no quorum: 1 of 3 nodes answers; n2, n3 do not answer since 2026-11-29T13:05:07Z, 2026-11-29T13:05:08Z"},
		{server.Quorum{Nodes: 2, Answer: 1, Silent: []server.SilentPeer{{Node: "n2", Since: at}}},
			"no quorum: 1 of 2 nodes answers; n2 does not answer since the start of this node at 2026-11-29T13:05:07Z"},
		{server.Quorum{Nodes: 5, Answer: 2, Silent: []server.SilentPeer{n2, n2, n2}},
			"no quorum: 2 of 5 nodes answer; n2, n2, n2 do not answer since 2026-11-29T13:05:07Z"},
		{server.Quorum{Nodes: 3, Answer: 3}, "no quorum: 3 of 3 nodes answer and are electing a leader"},
		{server.Quorum{Nodes: 3, Answer: 3, Leaderless: time.Minute},
			"no quorum: 3 of 3 nodes answer and have had no leader for 1m0s: did some of them start with an empty data " +
				"directory?"},
		{server.Quorum{Nodes: 3, Answer: 1, Silent: []server.SilentPeer{{Node: "n2", Since: at, Replaced: true}, n3}},
			"no quorum: 1 of 3 nodes answers; n2 (replaced by one with another data directory), n3 do not answer since " +
				"2026-11-29T13:05:08Z"},
	} {
		if got := c.q.Text(); got != c.want {
			t.Errorf("%+v: %q, want %q", c.q, got, c.want)
		}
	}
}

// wantQuorum waits until a node sees as many others silent.
func wantQuorum(t *testing.T, n *servertest.Node, silent ...string) {
	t.Helper()
	servertest.Eventually(t, servertest.ReadyLimit, func() error {
		q := n.Quorum()
		var names []string
		for _, p := range q.Silent {
			names = append(names, p.Node)
		}
		if strings.Join(names, " ") != strings.Join(silent, " ") || q.Answer != q.Nodes-len(silent) {
			return fmt.Errorf("%+v, want %v silent", q, silent)
		}
		return nil
	})
}

func TestSurvivorKnowsWhoDoesNotAnswerAndHearsThemComeBack(t *testing.T) {
	nodes := servertest.StartCluster(t, 3)
	for _, n := range nodes {
		n.WaitReady(t)
	}
	wantQuorum(t, nodes[0])
	if err := errors.Join(nodes[1].Stop(), nodes[2].Stop()); err != nil {
		t.Fatal(err)
	}
	wantQuorum(t, nodes[0], "n2", "n3")
	const text = "no quorum: 1 of 3 nodes answers; n2, n3 do not answer since 20"
	if q := nodes[0].Quorum(); !q.Lost() || !strings.HasPrefix(q.Text(), text) {
		t.Errorf("lost is %t: %s", q.Lost(), q.Text())
	}
	alone := nodes[0].Restart(t)
	wantQuorum(t, alone, "n2", "n3")
	if text := alone.Quorum().Text(); !strings.Contains(text, "since the start of this node") {
		t.Errorf("after a restart: %s", text)
	}
	_ = nodes[1].Restart(t) // the two elect a leader from what they have
	alone.WaitReady(t)
	wantQuorum(t, alone, "n3")
	if q := alone.Quorum(); q.Lost() {
		t.Errorf("two of three answer, and the quorum is lost: %+v", q)
	}
}

func TestNodesWithEmptyDisksDoNotMakeAQuorum(t *testing.T) {
	t.Parallel()
	nodes := servertest.StartCluster(t, 3)
	for _, n := range nodes {
		n.WaitReady(t)
	}
	if err := errors.Join(nodes[1].Stop(), nodes[2].Stop()); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes[1:] {
		o := n.Options
		o.Path = t.TempDir()
		_ = servertest.Start(t, o)
	}
	servertest.Eventually(t, servertest.ReadyLimit, func() error {
		q := nodes[0].Quorum()
		if text := q.Text(); !q.Lost() || strings.Count(text, "(replaced by one with another data directory)") != 2 {
			return fmt.Errorf("lost is %t: %s", q.Lost(), text)
		}
		return nil
	})
}

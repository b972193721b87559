package server_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"leasehold/server"
	"leasehold/server/servertest"
)

func TestEveryNodeSeesTheSameVotersAndMayRemoveADeadOne(t *testing.T) {
	t.Parallel()
	nodes := servertest.StartCluster(t, 4)
	for _, n := range nodes {
		n.WaitReady(t)
	}
	for _, n := range nodes {
		servertest.Eventually(t, servertest.ReadyLimit, func() error { return wantVoters(t, n.Server, 4, 4) })
	}
	dead := nodes[3]
	if err := dead.Stop(); err != nil {
		t.Fatal(err)
	}
	servertest.Eventually(t, servertest.ReadyLimit, func() error { return wantVoters(t, nodes[0].Server, 4, 3) })
	id := server.PeerID(dead.Options.Dir.ServerName())
	servertest.Eventually(t, servertest.ReadyLimit, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		return nodes[0].RemovePeer(ctx, id)
	})
	servertest.Eventually(t, servertest.ReadyLimit, func() error { return wantVoters(t, nodes[1].Server, 3, 3) })
	if err := nodes[1].RemovePeer(t.Context(), id); !errors.Is(err, server.ErrNotMember) {
		t.Errorf("removed twice: %v", err)
	}
}

func wantVoters(t *testing.T, s *server.Server, count, alive int) error {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	m, err := s.Membership(ctx)
	if err != nil {
		return err
	}
	living := 0
	for _, p := range m.Peers {
		if p.ID != server.PeerID(p.Server) {
			t.Errorf("id of %s is %s, we make %s of it", p.Server, p.ID, server.PeerID(p.Server))
		}
		if p.Alive() {
			living++
		}
	}
	if len(m.Peers) != count || living != alive || m.Quorum != count/2+1 {
		return fmt.Errorf("%+v, want %d voters, %d alive", m, count, alive)
	}
	return nil
}

func TestNodeOnItsOwnHasNoVoters(t *testing.T) {
	t.Parallel()
	if _, err := servertest.Single(t).Membership(t.Context()); !errors.Is(err, server.ErrNotMember) {
		t.Errorf("got %v", err)
	}
}

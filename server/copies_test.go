package server_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"leasehold/server"
	"leasehold/server/datadir"
	"leasehold/server/replicas"
	"leasehold/server/servertest"
)

func TestDamageIsWhatPurgesCannotExplain(t *testing.T) {
	for _, c := range []struct {
		name  string
		copy  replicas.State
		floor uint64
		want  string // Part of what is said, "" for nothing.
	}{
		{"never used", replicas.State{}, 0, ""},
		{"never used, as the broker also says it", replicas.State{First: 1}, 0, ""},
		{"whole", replicas.State{Messages: 10, First: 1, Last: 10}, 0, ""},
		{"purged", replicas.State{Messages: 4, First: 7, Last: 10}, 6, ""},
		{"about to be purged", replicas.State{Messages: 10, First: 1, Last: 10}, 6, ""},
		{"all purged", replicas.State{First: 11, Last: 10}, 10, ""},
		{"a hole", replicas.State{Messages: 9, First: 1, Last: 10}, 0, "9 messages from 1 to 10"},
		{"more than there can be", replicas.State{Messages: 11, First: 1, Last: 10}, 0, "11 messages"},
		{"begins too late", replicas.State{Messages: 3, First: 8, Last: 10}, 6, "begins at 8"},
		{"everything gone", replicas.State{First: 11, Last: 10}, 6, "begins at 11"},
	} {
		got := c.copy.Corruption(c.floor)
		if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// A hole, made in a stream that allows it, and a copy that was set aside: the broker fetches it anew, hole and all.
func TestOwnCopyShowsAHoleAndIsFetchedAnewWhenSetAside(t *testing.T) {
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
	for range 9 {
		if _, err := js.Publish(context.Background(), "orders.a", []byte("1")); err != nil {
			t.Fatal(err)
		}
	}
	s, err := js.Stream(context.Background(), "orders")
	if err != nil {
		t.Fatal(err)
	}
	last := s.CachedInfo().State.LastSeq
	if err := s.DeleteMsg(context.Background(), 5); err != nil {
		t.Fatal(err)
	}
	n3 := nodes[2]
	waitHole := func(n *servertest.Node) {
		servertest.Eventually(t, 20*time.Second, func() error {
			copies, err := n.LocalReplicas()
			if c := copies["orders"]; err == nil && (c.Missing() == "" || c.Last != last || c.First != 1) {
				err = fmt.Errorf("the copy of %s is %+v, want one from 1 to %d with a hole", n.Options.Node, c, last)
			}
			return err
		})
	}
	waitHole(n3)
	if !n3.HasReplica("orders") || n3.HasReplica("other") {
		t.Error("which streams this node has a copy of is told wrongly")
	}
	if err := n3.Stop(); err != nil {
		t.Fatal(err)
	}
	dir, err := datadir.Open(n3.Options.Path, n3.Options.Identity)
	if err != nil {
		t.Fatal(err)
	}
	to, err := dir.Quarantine(server.Account, "orders", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dir.Quarantine(server.Account, "orders", time.Now()); err == nil {
		t.Error("no error for a copy that is not there")
	}
	if files, err := os.ReadDir(filepath.Join(to, "msgs")); err != nil || len(files) == 0 {
		t.Errorf("what was set aside has no messages: %v", err)
	}
	if err := dir.Close(); err != nil {
		t.Fatal(err)
	}
	n3 = n3.Restart(t)
	n3.WaitReady(t)
	waitCurrent(t, n3)
	waitHole(n3)
}

func TestStepDownLetsAnotherNodeLeadTheStream(t *testing.T) {
	t.Parallel()
	nodes := servertest.StartCluster(t, 3)
	for _, n := range nodes {
		n.WaitReady(t)
	}
	stream(t, nodes[0].Server, "orders", "orders.*")
	leader := func() (found *servertest.Node) {
		servertest.Eventually(t, 20*time.Second, func() error {
			for _, n := range nodes {
				if copies, err := n.LocalReplicas(); err == nil && copies["orders"].Leads {
					found = n
					return nil
				}
			}
			return errors.New("nobody leads")
		})
		return found
	}
	first := leader()
	if err := first.StepDown("orders"); err != nil {
		t.Fatal(err)
	}
	servertest.Eventually(t, 20*time.Second, func() error {
		if leader() == first {
			return errors.New("it still leads")
		}
		return nil
	})
	if err := first.StepDown("none"); err == nil {
		t.Error("no error for a stream that is not there")
	}
}

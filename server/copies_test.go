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
	"leasehold/server/servertest"
)

func TestDamageIsWhatPurgesCannotExplain(t *testing.T) {
	for _, c := range []struct {
		name  string
		copy  server.Copy
		floor uint64
		want  string // Part of what is said, "" for nothing.
	}{
		{"never used", server.Copy{}, 0, ""},
		{"never used, as the broker also says it", server.Copy{First: 1}, 0, ""},
		{"whole", server.Copy{Messages: 10, First: 1, Last: 10}, 0, ""},
		{"purged", server.Copy{Messages: 4, First: 7, Last: 10}, 6, ""},
		{"about to be purged", server.Copy{Messages: 10, First: 1, Last: 10}, 6, ""},
		{"all purged", server.Copy{First: 11, Last: 10}, 10, ""},
		{"a hole", server.Copy{Messages: 9, First: 1, Last: 10}, 0, "9 messages from 1 to 10"},
		{"more than there can be", server.Copy{Messages: 11, First: 1, Last: 10}, 0, "11 messages"},
		{"begins too late", server.Copy{Messages: 3, First: 8, Last: 10}, 6, "begins at 8"},
		{"everything gone", server.Copy{First: 11, Last: 10}, 6, "begins at 11"},
	} {
		got := c.copy.Damage(c.floor)
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
			copies, err := n.Copies()
			if c := copies["orders"]; err == nil && (c.Hole() == "" || c.Last != last || c.First != 1) {
				err = fmt.Errorf("the copy of %s is %+v, want one from 1 to %d with a hole", n.Options.Node, c, last)
			}
			return err
		})
	}
	waitHole(n3)
	if !n3.HasCopy("orders") || n3.HasCopy("other") {
		t.Error("which streams this node has a copy of is told wrongly")
	}
	if err := n3.Stop(); err != nil {
		t.Fatal(err)
	}
	dir, err := server.OpenDataDir(n3.Options.Path, n3.Options.Identity)
	if err != nil {
		t.Fatal(err)
	}
	to, err := dir.SetAside("orders", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dir.SetAside("orders", time.Now()); err == nil {
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
				if copies, err := n.Copies(); err == nil && copies["orders"].Leads {
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

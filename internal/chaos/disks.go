package chaos

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"leasehold/internal/chaos/disk"
	"leasehold/internal/history"
	"leasehold/internal/testcluster"
)

// diskSize is far more than a row writes; what is not written takes no room.
const diskSize = 1 << 30

// makeDisks gives each node a disk of its own. Histories and logs are on none of them.
func (w *World) makeDisks(hosts []testcluster.Host) error {
	w.T.Helper()
	for i := range hosts {
		dir := shortDir(w.T)
		d, err := disk.New(w.T, dir, diskSize)
		if err != nil {
			return err
		}
		w.Disks = append(w.Disks, d)
		hosts[i].DataDir = filepath.Join(dir, "data")
	}
	return nil
}

// shortDir is a directory for the test whose name leaves room for that of a socket.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "chaos-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// DiskOf is the node's disk.
func (w *World) DiskOf(n *testcluster.Node) *disk.Disk { return w.Disks[w.Place(n)] }

// must ends the row when something of the test itself does not work.
func (w *World) must(err error) {
	w.T.Helper()
	if err != nil {
		w.T.Fatal(err)
	}
}

// hold stops a node and its handlers, and returns what lets them go on.
func (w *World) hold(n *testcluster.Node) (release func()) {
	w.T.Helper()
	n.Stop()
	letHandlersGo := n.HoldHandlers()
	return func() {
		letHandlersGo()
		n.Cont()
		n.StartIfGone(testcluster.WakeLimit)
	}
}

// end makes sure that the node's process is gone, whether it has ended by itself or not.
func (w *World) end(n *testcluster.Node) {
	w.T.Helper()
	select {
	case <-n.Exited():
		w.T.Logf("%s had ended with exit code %d", n.Name, n.WaitExit())
	default:
		n.Kill()
	}
}

// revive starts nodes that have ended by themselves, as a service manager does, until all are ready, and settles.
func (w *World) revive() {
	w.T.Helper()
	testcluster.Eventually(w.T, startLimit, func() error {
		var err error
		for _, n := range w.Nodes {
			n.StartIfGone(0)
			if e := n.Ready(); e != nil {
				err = e
			}
		}
		return err
	})
	w.Settle()
}

// handled waits until everything that is acknowledged by now was handled by a call since then, on the clock of histories. It
// is an error when that does not go on.
func (w *World) handled(since int64) error {
	w.T.Helper()
	owed := make(map[string]bool)
	for _, r := range w.Load.Records() {
		if r.Outcome == history.Stored || r.Outcome == history.Duplicate {
			owed[r.ID] = true
		}
	}
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	calls, last := w.TailCalls(), time.Now()
	for all := len(owed); ; <-tick.C {
		before := len(owed)
		for _, c := range calls.Next() {
			if c.Group == Group && c.Result == "ok" && c.Start > since {
				delete(owed, c.ID)
			}
		}
		switch {
		case len(owed) == 0:
			return nil
		case len(owed) < before:
			last = time.Now()
		case time.Since(last) > lostLimit:
			return fmt.Errorf("of %d acknowledged messages %d are not handled, none within %s", all, len(owed), lostLimit)
		}
	}
}

// comesUp tells whether the node is ready within the limit; it is false at once when the node ends.
func (w *World) comesUp(n *testcluster.Node, limit time.Duration) bool {
	w.T.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); {
		select {
		case <-n.Exited():
			return false
		case <-tick.C:
		}
		if n.Ready() == nil {
			return true
		}
	}
	return false
}

package matrix

import (
	"fmt"
	"time"

	"leasehold/internal/harness/history"
	"leasehold/internal/harness/testcluster"
)

// Settle waits until every node runs, is ready and has its share.
func (w *World) Settle() {
	w.T.Helper()
	w.WaitReady(startLimit)
	w.WaitBalanced(moveLimit, Group)
}

// Flows waits until so many more messages have their outcome.
func (w *World) Flows(more int) {
	w.T.Helper()
	w.Load.Flows(w.T, moveLimit, more)
}

// startAgain starts nodes that are down, and settles.
func (w *World) startAgain(nodes ...*testcluster.Node) {
	w.T.Helper()
	for _, n := range nodes {
		n.Start()
	}
	w.Settle()
}

// comeBack waits until the others have the partitions of a node that is down, and starts it again.
func (w *World) comeBack(n *testcluster.Node) {
	w.T.Helper()
	w.WaitLeft(moveLimit, Group, n)
	w.startAgain(n)
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

// staysWhile does something and wants every partition to be whose it was.
func (w *World) staysWhile(do func()) {
	w.T.Helper()
	w.Settle()
	before := w.Owners(Group)
	do()
	w.Wait(ttl + time.Second) // what a late burial would need
	w.Settle()
	if err := testcluster.SameOwners(before, w.Owners(Group)); err != nil {
		w.T.Error(err)
	}
}

// handled waits until everything that is acknowledged by now was handled by a call since then, on the clock of
// histories. It is an error when that does not go on.
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

package matrix

import (
	"errors"
	"time"

	"leasehold/internal/harness/fault/disk"
	"leasehold/internal/harness/history"
	"leasehold/internal/harness/testcluster"
)

// fsyncRows make fsync slow, fail and lie.
var fsyncRows = []Row{
	{
		Name: "fsync-eio-once", Expect: "nothing is lost; the node continues or restarts", CI: true, Load: Steady,
		Rounds: 2,
		Stall:  30 * time.Second, Gap: 30 * time.Second,
		Round: func(w *World) { w.failSyncs(fsyncOnce, disk.Fault{Error: "EIO", Once: true}) },
	},
	{
		Name: "fsync-eio", Expect: "the node is unusable, nothing is lost; it continues or restarts", CI: true,
		Load:  Steady,
		Stall: 30 * time.Second, Gap: 30 * time.Second,
		Round: func(w *World) { w.failSyncs(fsyncFails, disk.Fault{Error: "EIO"}) },
	},
	slowSyncs("fsync-slow-300ms-one", 300*time.Millisecond, true, func(w *World) []*testcluster.Node {
		return []*testcluster.Node{w.follower()}
	}),
	slowSyncs("fsync-slow-1500ms-leader", 1500*time.Millisecond, true, func(w *World) []*testcluster.Node {
		return []*testcluster.Node{w.Leader()}
	}),
	slowSyncs("fsync-slow-3s-one", 3*time.Second, false, func(w *World) []*testcluster.Node {
		return []*testcluster.Node{w.Pick()}
	}),
	slowSyncs("fsync-slow-300ms-all", 300*time.Millisecond, true, func(w *World) []*testcluster.Node { return w.Nodes }),
	slowSyncs("fsync-slow-1500ms-all", 1500*time.Millisecond, false,
		func(w *World) []*testcluster.Node { return w.Nodes }),
	slowSyncs("fsync-slow-3s-all", 3*time.Second, false, func(w *World) []*testcluster.Node { return w.Nodes }),
	{
		Name: "fsync-lies", Expect: "nothing is lost as long as the two others are honest", Load: Steady,
		Needs: []Need{Disks}, Stall: 30 * time.Second, Gap: 30 * time.Second,
		Round: (*World).lie,
	},
}

// slowSyncs is the row in which each fsync of some nodes takes so much longer.
func slowSyncs(name string, delay time.Duration, ci bool, which func(w *World) []*testcluster.Node) Row {
	return Row{
		Name: name, Expect: "slower, nothing is lost", CI: ci, Load: Steady, Stall: 60 * time.Second, Gap: 60 * time.Second,
		Round: func(w *World) {
			nodes := which(w)
			var injections []*disk.Injection
			for _, n := range nodes {
				n.Struck()
				injections = append(injections, w.inject(n, disk.Fault{Delay: delay}))
			}
			w.Wait(20*time.Second + 5*delay)
			for i, n := range nodes {
				w.did(fsyncSlow(delay.String()), history.Event{Node: n.Name}, injections[i])
			}
			w.revive()
		},
	}
}

// inject starts a fault, which ends with the row at the latest.
func (w *World) inject(n *testcluster.Node, f disk.Fault) *disk.Injection {
	w.T.Helper()
	i, err := disk.InjectFsync(n.PID(), f)
	if errors.Is(err, disk.ErrUnavailable) {
		w.T.Skip("not run: ", err)
	}
	w.must(err)
	w.T.Cleanup(func() {
		if err := i.Stop(); err != nil {
			w.T.Error(err)
		}
	})
	return i
}

// did ends the fault and counts it, if it happened to any call.
func (w *World) did(kind Kind, e history.Event, i *disk.Injection) {
	w.T.Helper()
	w.must(i.Stop())
	hits, err := i.Hits()
	w.must(err)
	if hits == 0 {
		w.T.Fatalf("%s: %s made no call", kind, e.Node)
	}
	w.Did(kind, e, "%d calls", hits)
}

// hit waits until the fault has happened to a call.
func (w *World) hit(i *disk.Injection) {
	w.T.Helper()
	testcluster.Eventually(w.T, moveLimit, func() error {
		hits, err := i.Hits()
		if err == nil && hits == 0 {
			err = errors.New("no fsync was hit")
		}
		return err
	})
}

// failSyncs makes fsyncs of a node fail for 20 s, or once, and wants the cluster to be whole again afterwards.
func (w *World) failSyncs(kind Kind, f disk.Fault) {
	w.T.Helper()
	n := w.Pick()
	e := n.Struck()
	i := w.inject(n, f)
	w.hit(i)
	if !f.Once {
		w.Wait(20 * time.Second)
	}
	w.did(kind, e, i)
	w.Wait(5 * time.Second)
	w.revive()
	w.Flows(100)
}

// lie lets a node believe that its data is safe, and cuts its power.
func (w *World) lie() {
	w.T.Helper()
	n := w.Pick()
	i := w.inject(n, disk.Fault{Lie: true})
	w.Wait(20 * time.Second)
	e := w.losePower(n)
	w.did(fsyncLies, e, i)
	w.startAgain(n)
	w.Flows(100)
}

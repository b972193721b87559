package matrix

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"leasehold/internal/harness/history"
	"leasehold/internal/harness/testcluster"
)

// powerRows cut the power: what was not synced is lost.
var powerRows = []Row{
	{
		Name: "power-all", Expect: "all that was acknowledged is there", CI: true, Load: Steady, Rounds: 2,
		Needs: []Need{Disks}, Stall: 25 * time.Second, Gap: 25 * time.Second,
		Round: func(w *World) {
			e := w.losePower(w.Nodes...)
			w.Did(powerOfAll, history.Event{At: e.At}, "processes gone, unsynced files too")
			w.startAgain(w.Nodes...)
		},
	},
	{
		Name: "power-all-process-safe", Expect: "acknowledged messages are lost, as documented", CI: true, Load: Steady,
		Needs: []Need{Disks},
		Spec:  func(_ *World, s *testcluster.Spec) { s.Server = `durability = "process-safe"` },
		Found: []history.Kind{history.Lost, history.Unfinished, history.SeqConflict},
		Round: func(w *World) {
			w.Wait(5 * time.Second)
			w.losePower(w.Nodes...)
			w.Did(powerUnsafe, history.Event{}, "processes gone, unsynced files too")
			for _, n := range w.Nodes {
				n.Start()
			}
			w.Wait(30 * time.Second)
		},
	},
	{
		Name: "power-one", Expect: "the others take its partitions, it comes back with what it had promised", CI: true,
		Load:  Steady,
		Needs: []Need{Disks}, Stall: 15 * time.Second, Gap: 15 * time.Second,
		Round: func(w *World) {
			first := w.Pick()
			for _, n := range []*testcluster.Node{first, w.Others(first)[w.Random.IntN(2)]} {
				e := w.losePower(n)
				w.Did(powerOfOne, e, "process gone, unsynced files too")
				w.startAgain(n)
			}
		},
	},
	{
		Name: "power-one-pauses", Expect: "no split, nothing acknowledged is lost", CI: true, Load: Steady,
		Needs: []Need{Disks}, Stall: 30 * time.Second, Gap: 30 * time.Second,
		Rules: lateTails,
		Round: (*World).losePowerBetweenPauses,
	},
}

// losePower cuts the power of the nodes at the same moment, and leaves them down with what their disks have. The event
// is the kill of the last.
func (w *World) losePower(nodes ...*testcluster.Node) history.Event {
	w.T.Helper()
	// A machine without power sees no error of its disk, and says nothing more.
	for _, n := range nodes {
		w.hold(n)
	}
	for _, n := range nodes {
		w.must(os.WriteFile(w.unsynced(n), []byte("x"), 0o600))
		w.must(w.DiskOf(n).PowerOff())
	}
	var e history.Event
	for _, n := range nodes {
		e = n.Kill()
	}
	for _, n := range nodes {
		w.must(w.DiskOf(n).PowerOn())
		if _, err := os.Stat(w.unsynced(n)); !errors.Is(err, os.ErrNotExist) {
			w.T.Fatalf("%s lost no power: an unsynced file is still there (%v)", n.Name, err)
		}
	}
	return e
}

// unsynced is a file beside the node's data that nobody syncs.
func (w *World) unsynced(n *testcluster.Node) string {
	return filepath.Join(w.DiskOf(n).Dir(), "unsynced")
}

// losePowerBetweenPauses lets one node lose its power while another is paused, and pauses the third while the two find
// together.
func (w *World) losePowerBetweenPauses() {
	w.T.Helper()
	n := w.Pick()
	others := w.Others(n)
	release := w.hold(others[0])
	w.Wait(w.Between(0, 2*time.Second))
	w.losePower(n)
	n.Start()
	w.Wait(w.Between(0, 3*time.Second))
	release()
	release = w.hold(others[1])
	w.Did(powerOfPaused, history.Event{Node: n.Name}, "process gone, unsynced files too, the others stopped in turns")
	w.Wait(w.Between(2*time.Second, 8*time.Second))
	release()
	w.revive()
}

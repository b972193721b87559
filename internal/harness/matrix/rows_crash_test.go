package matrix

import (
	"time"

	"leasehold/internal/harness/history"
	"leasehold/internal/harness/testcluster"
)

// crashRows kill and stop processes.
var crashRows = []Row{
	{
		Name: "quiet", Expect: "nothing happens, nothing is repeated", CI: true, Load: Steady, Stall: 2 * time.Second,
		Gap:   time.Second,
		Rules: nothingMoves,
		Round: func(w *World) { w.Wait(15 * time.Second) },
	},
	{
		Name: "kill-follower", Expect: "the others take its partitions", CI: true, Load: Backlogged,
		Stall: 7 * time.Second, Gap: 4 * time.Second, Rounds: 2,
		Round: func(w *World) { w.killAndReturn(killFollower, w.follower()) },
	},
	{
		Name: "kill-leader", Expect: "another leads, the others take its partitions", CI: true, Load: Backlogged,
		Stall: 10 * time.Second, Gap: 10 * time.Second, Rounds: 2,
		Round: func(w *World) { w.killAndReturn(killLeader, w.Leader()) },
	},
	{
		Name: "kill-back-soon", Expect: "its partitions come back to it", CI: true, Load: Backlogged,
		Stall: 7 * time.Second, Gap: 10 * time.Second, Rounds: 2,
		Round: func(w *World) {
			n := w.Pick()
			e := n.Kill()
			w.Did(killBackSoon, e, "process gone")
			w.startAgain(n)
		},
	},
	{
		Name: "kill-two", Expect: "nothing is acknowledged by one of three; processing resumes when one is back", CI: true,
		Load:  Steady,
		Stall: 20 * time.Second, Gap: 20 * time.Second,
		Round: func(w *World) {
			dead := w.Others(w.Pick())
			for _, n := range dead {
				e := n.Kill()
				w.Did(killTwo, history.Event{Node: e.Node}, "process gone")
			}
			w.Wait(w.Between(2*time.Second, 12*time.Second))
			w.startAgain(dead...)
		},
	},
	{
		Name: "kill-all", Expect: "all that was acknowledged is there after the start of all", CI: true, Load: Steady,
		Stall: 20 * time.Second, Gap: 20 * time.Second, Rounds: 2,
		Round: func(w *World) {
			var e history.Event
			for _, n := range w.Nodes {
				e = n.Kill()
			}
			w.Did(killAll, history.Event{At: e.At}, "three processes gone")
			w.startAgain(w.Nodes...)
		},
	},
	{
		Name: "kill-loop", Expect: "any node, every few seconds", CI: true, Load: Steady, Rounds: 6,
		Stall: 20 * time.Second, Gap: 15 * time.Second,
		Round: func(w *World) {
			n := w.Pick()
			e := n.Kill()
			w.Did(killLoop, history.Event{Node: e.Node}, "process gone")
			w.Wait(w.Between(0, 8*time.Second))
			n.Start()
			w.WaitReady(startLimit)
		},
	},
	{
		Name: "term", Expect: "its partitions are handed over, nothing is repeated", CI: true, Load: Backlogged,
		Stall: 3 * time.Second, Gap: 10 * time.Second, Rounds: 2,
		Rules: nothingRepeats,
		Round: func(w *World) {
			n := w.Pick()
			e := n.Term()
			w.Did(termOne, e, "exit 0")
			w.comeBack(n)
		},
	},
	{
		Name: "rolling-restart", Expect: "one node after the other, nothing is repeated", CI: true, Load: Steady,
		Stall: 5 * time.Second, Gap: 10 * time.Second,
		Rules: nothingRepeats,
		Round: func(w *World) {
			for _, n := range w.Nodes {
				e := n.Term()
				w.Did(termRolling, history.Event{Node: e.Node}, "exit 0")
				w.startAgain(n)
			}
		},
	},
}

// killAndReturn kills a node, waits until the others have its partitions, and starts it again.
func (w *World) killAndReturn(kind Kind, n *testcluster.Node) {
	w.T.Helper()
	e := n.Kill()
	w.Did(kind, e, "process gone")
	w.comeBack(n)
}

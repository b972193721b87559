package matrix

import (
	"fmt"
	"strings"
	"time"

	"leasehold/internal/harness/history"
	"leasehold/internal/harness/testcluster"
	"leasehold/internal/skewclock"
)

// clockRows put the clocks of a node wrong.
var clockRows = []Row{
	{
		Name: "wall-clock", Expect: "nothing moves, nothing is repeated", Load: Steady, Spec: skewed, Rules: nothingMoves,
		Stall: 2 * time.Second, Gap: time.Second,
		Round: func(w *World) { w.wallClock(w.follower()) },
	},
	{
		Name: "wall-clock-leader", Expect: "nothing moves, nothing is repeated", CI: true, Load: Steady, Spec: skewed,
		Rules: nothingMoves,
		Stall: 2 * time.Second, Gap: time.Second,
		Round: func(w *World) { w.wallClock(w.Leader()) },
	},
	{
		Name: "boot-clock", Expect: "its lanes are fenced at once; it renews and continues", CI: true, Load: Backlogged,
		Spec:  skewed,
		Stall: 7 * time.Second, Gap: 5 * time.Second,
		Round: func(w *World) { w.bootClock(w.Pick()) },
	},
}

func skewed(_ *World, s *testcluster.Spec) { s.Skewed = true }

// wallClock puts the wall clock of a node wrong, and right again by a step.
func (w *World) wallClock(n *testcluster.Node) {
	w.T.Helper()
	w.staysWhile(func() {
		for _, f := range []struct {
			kind Kind
			skew skewclock.Skew
		}{
			{wallAhead, skewclock.Skew{Wall: time.Hour}},
			{wallBehind, skewclock.Skew{Wall: -time.Hour}},
			{wallDrift, skewclock.Skew{Drift: 0.1}},
		} {
			n.Skew(f.skew)
			w.Wait(ttl + 3*time.Second)
			w.Did(f.kind, history.Event{Node: n.Name}, "it says %s", f.skew.Said())
		}
		n.Skew(skewclock.Skew{})
	})
}

// bootClock lets a node's boot-time clock jump, as a suspend does.
func (w *World) bootClock(n *testcluster.Node) {
	w.T.Helper()
	fenced := strings.Count(n.Log(), "lane fenced")
	skew := skewclock.Skew{Boot: time.Duration(len(w.faults)+1) * time.Minute} // it never goes back
	e := n.Struck()
	n.Skew(skew)
	testcluster.Eventually(w.T, moveLimit, func() error {
		if strings.Count(n.Log(), "lane fenced") == fenced {
			return fmt.Errorf("%s fenced no lane", n.Name)
		}
		return nil
	})
	w.Did(bootJump, e, "it says %s, and fenced %d lanes", skew.Said(), strings.Count(n.Log(), "lane fenced")-fenced)
	w.Wait(ttl + 2*time.Second) // what a late burial would need
	n.StartIfGone(testcluster.WakeLimit)
	w.Settle()
}

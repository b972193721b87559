package matrix

import (
	"fmt"
	"strings"
	"time"

	"leasehold/internal/harness/fault/process"
	"leasehold/internal/harness/history"
	"leasehold/internal/harness/testcluster"
)

const (
	freezeShort = 3 * time.Second
	freezeLong  = 20 * time.Second
	// handlerTimeout is the default of a group's timeout.
	handlerTimeout = 30 * time.Second
	// strain is how long nodes are starved, attacked and limited.
	strain = 20 * time.Second
	// tooLittle is less memory than the program needs to be there at all.
	tooLittle = 24 << 20
)

// processRows freeze, starve and limit processes.
var processRows = []Row{
	{
		Name: "freeze-short", Expect: "nothing moves", CI: true, Load: Backlogged, Needs: []Need{Groups}, Rules: lateTails,
		Stall: 5 * time.Second, Gap: 10 * time.Second,
		Round: func(w *World) {
			w.staysWhile(func() { w.freezeTree(frozenShort, freezeShort) })
		},
	},
	{
		Name: "freeze-long", Expect: "the others take its partitions; one late call for each of them at most", CI: true,
		Load:  Backlogged,
		Needs: []Need{Groups}, Rules: lateTails, Stall: 10 * time.Second, Gap: 10 * time.Second,
		Round: func(w *World) { w.freezeTree(frozenLong, freezeLong) },
	},
	{
		Name: "freeze-node", Expect: "its handlers end the calls that they have; the others take its partitions",
		Load:  Backlogged,
		Rules: lateTails, Stall: 10 * time.Second, Gap: roamGap,
		Round: func(w *World) { w.freezeNode(w.Pick()) },
	},
	{
		Name: "freeze-handlers", Expect: "their calls take so long; nothing moves, nothing is repeated", Load: Steady,
		Rules: nothingMoves, Stall: freezeLong, Gap: time.Second,
		Round: func(w *World) {
			w.staysWhile(func() { w.freezeHandlers(frozenHandlers, freezeLong) })
		},
	},
	{
		Name: "freeze-handlers-past-timeout", Expect: "they are killed at the timeout, and their calls made again",
		Load:  Steady,
		Stall: handlerTimeout + 5*time.Second, Gap: time.Second,
		Round: func(w *World) {
			w.staysWhile(func() { w.freezeHandlers(frozenTimeout, handlerTimeout+10*time.Second) })
		},
	},
	{
		Name: "starve-one", Expect: "slower; no two owners at once", Load: Slow, Needs: []Need{Groups},
		Stall: 15 * time.Second, Gap: 15 * time.Second,
		Round: func(w *World) { w.starve(starvedOne, w.Pick()) },
	},
	{
		Name: "starve-all", Expect: "slower; no two owners at once", Load: Slow, Needs: []Need{Groups},
		Stall: strain + 10*time.Second, Gap: strain + 10*time.Second,
		Round: func(w *World) { w.starve(starvedAll, w.Nodes...) },
	},
	{
		Name: "out-of-memory", Expect: "the kernel kills it, again and again; the others go on", Load: Steady,
		Needs: []Need{Groups},
		Stall: 10 * time.Second, Gap: 10 * time.Second,
		Round: (*World).outOfMemory,
	},
	{
		Name: "orphans", Expect: "handlers that do not listen are gone with their node", CI: true,
		Load:  Workload{Partitions: 16, Keys: 200, Rate: 20, Delay: 2 * time.Second, Deaf: true},
		Stall: 10 * time.Second, Gap: 10 * time.Second,
		Round: (*World).orphans,
	},
	{
		Name: "handler-crash-loop", Expect: "it is started with pauses; its node and the other group do not notice",
		Load:  Steady,
		Rules: nothingMoves, Stall: 2 * time.Second, Gap: time.Second, CI: true,
		Spec: func(_ *World, s *testcluster.Spec) {
			s.Groups = append(s.Groups, testcluster.Group{Name: "crashing", Topic: Topic,
				Handler: `{ kind = "subprocess", command = ["false"] }`})
		},
		Round: func(w *World) { w.staysWhile(w.crashLoop) },
	},
}

// freezeTree freezes a node with its handlers.
func (w *World) freezeTree(kind Kind, length time.Duration) {
	w.T.Helper()
	n := w.Pick()
	g := w.Grouped(n)
	e := n.Paused()
	w.must(g.Freeze())
	effects, err := g.Effects()
	w.must(err)
	pids, err := g.PIDs()
	w.must(err)
	if !effects.Frozen || len(pids) < 2 {
		w.T.Fatalf("%+v, processes %v", effects, pids)
	}
	w.Did(kind, e, "%d processes stand still", len(pids))
	w.Wait(length)
	if length > 2*ttl {
		w.WaitLeft(moveLimit, Group, n)
	}
	n.Resumed()
	w.must(g.Thaw())
	n.StartIfGone(testcluster.WakeLimit)
	w.Settle()
}

// freezeNode freezes the node only.
func (w *World) freezeNode(n *testcluster.Node) {
	w.T.Helper()
	e := n.Stop()
	w.Wait(freezeLong)
	w.WaitLeft(moveLimit, Group, n)
	w.Did(frozenNode, e, "the others have its partitions")
	n.Cont()
	n.StartIfGone(testcluster.WakeLimit)
	w.Settle()
}

// freezeHandlers freezes the handlers of a node only.
func (w *World) freezeHandlers(kind Kind, length time.Duration) {
	w.T.Helper()
	n := w.Pick()
	handlers := n.Handlers()
	e := n.Struck()
	release := n.HoldHandlers()
	w.Wait(length)
	left := 0
	for _, pid := range handlers {
		if process.Alive(pid) {
			left++
		}
	}
	if killed := left == 0; killed != (length > handlerTimeout) {
		w.T.Errorf("after %s %d of %d handlers are left", length, left, len(handlers))
	}
	w.Did(kind, history.Event{Node: e.Node}, "%d handlers stood still for %s, %d of them are left", len(handlers), length,
		left)
	release()
}

// starve leaves nodes little time to run.
func (w *World) starve(kind Kind, nodes ...*testcluster.Node) {
	w.T.Helper()
	for _, n := range nodes {
		g := w.Grouped(n)
		n.Struck()
		w.must(g.CPU(0.1))
	}
	w.Wait(strain)
	for _, n := range nodes {
		g := w.GroupOf(n)
		effects, err := g.Effects()
		w.must(err)
		if effects.Throttled < 5 {
			w.T.Fatalf("%s was not held back: %+v", n.Name, effects)
		}
		w.must(g.CPU(0))
		w.Did(kind, history.Event{Node: n.Name}, "held back in %d of %d periods, for %s", effects.Throttled, effects.Periods,
			effects.ThrottledFor.Round(time.Millisecond))
	}
	for _, n := range nodes {
		n.StartIfGone(testcluster.WakeLimit)
	}
	w.Settle()
}

// outOfMemory starts a node where there is too little memory for it.
func (w *World) outOfMemory() {
	w.T.Helper()
	n := w.Pick()
	g := w.GroupOf(n)
	n.Term()
	w.must(g.Memory(tooLittle))
	for i := range 3 {
		n.Start()
		w.must(g.Add(n.PID()))
		n.WaitFailed(time.Minute)
		effects, err := g.Effects()
		w.must(err)
		if effects.OOMKills <= int64(i) {
			w.T.Fatalf("it was killed by something else: %+v", effects)
		}
		w.Did(outOfMemory, history.Event{Node: n.Name}, "%d processes killed for memory", effects.OOMKills)
	}
	w.must(g.Memory(0))
	w.startAgain(n)
}

// orphans kills a node whose handlers do not care.
func (w *World) orphans() {
	w.T.Helper()
	n := w.Pick()
	handlers := n.Handlers()
	killed := time.Now()
	e := n.Kill()
	testcluster.Eventually(w.T, slack*time.Second, func() error {
		for _, pid := range handlers {
			if process.Alive(pid) {
				return fmt.Errorf("handler %d of %s lives on", pid, n.Name)
			}
		}
		return nil
	})
	w.Did(killDeaf, e, "%d handlers gone within %s", len(handlers), time.Since(killed).Round(time.Millisecond))
	w.comeBack(n)
}

// crashLoop watches the group whose handler ends at once.
func (w *World) crashLoop() {
	w.T.Helper()
	count := func() (n int) {
		for _, node := range w.Nodes {
			n += strings.Count(node.Log(), "group=crashing")
		}
		return n
	}
	first := count()
	w.Wait(strain)
	more := count() - first
	s, err := w.Status()
	w.must(err)
	// A loop without a pause would start hundreds a second.
	if lag := s.Group("crashing").Lag; first == 0 || more > 60*int(strain.Seconds()) || lag != nil && *lag == 0 {
		w.T.Errorf("%d lines of the crashing group, then %d in %s, lag %v", first, more, strain, lag)
	}
	w.Did(crashLoop, history.Event{}, "%d lines about it at first, %d in %s", first, more, strain)
}

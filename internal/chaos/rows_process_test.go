package chaos

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"leasehold/internal/chaos/hostile"
	"leasehold/internal/chaos/process"
	"leasehold/internal/history"
	"leasehold/internal/skewclock"
	"leasehold/internal/testcluster"
)

// Kinds of faults of processes, their clocks and their clients.
const (
	frozenShort    Kind = "node and handlers frozen, shorter than the ttl"
	frozenLong     Kind = "node and handlers frozen, longer than the ttl"
	frozenNode     Kind = "node frozen, its handlers not"
	frozenHandlers Kind = "handlers frozen, the node not"
	frozenTimeout  Kind = "handlers frozen past their timeout"
	starvedOne     Kind = "a tenth of a core for a node"
	starvedAll     Kind = "a tenth of a core for each node"
	outOfMemory    Kind = "out of memory at the start"
	littleMemory   Kind = "attack under a memory limit"
	outOfFiles     Kind = "no more files and connections"
	wallAhead      Kind = "wall clock an hour ahead"
	wallBehind     Kind = "wall clock an hour behind"
	wallDrift      Kind = "wall clock that gains 100 ms a second"
	bootJump       Kind = "boot-time clock jumps a minute ahead"
	attacked       Kind = "hostile bytes on every port"
	idleClients    Kind = "thousands of idle clients"
	orphaned       Kind = "kill -9, handlers deaf to it"
	crashLoop      Kind = "handler that ends at once, for 20 s"
)

const (
	freezeShort = 3 * time.Second
	freezeLong  = 20 * time.Second
	// handlerTimeout is the default of a group's timeout.
	handlerTimeout = 30 * time.Second
	// strain is how long nodes are starved, attacked and limited.
	strain = 20 * time.Second
	// wakeLimit is how long a node may take to end itself when it wakes up to
	// find itself declared dead.
	wakeLimit = 2 * time.Second

	littleBytes = 256 << 20
	// tooLittle is less than the program needs to be there at all.
	tooLittle = 24 << 20
	idleCount = 10_000
)

// processRows freeze, starve and limit processes, put clocks wrong and let strangers in.
var processRows = []Row{
	{
		Name: "freeze-short", Expect: "nothing moves", CI: true, Load: Backlogged, Needs: []Need{Groups}, Rules: pausesOnly,
		Stall: 5 * time.Second, Gap: 10 * time.Second,
		Round: func(w *World) { w.freezeTree(frozenShort, freezeShort) },
	},
	{
		Name: "freeze-long", Expect: "the others take its partitions; one late call for each of them at most", CI: true, Load: Backlogged,
		Needs: []Need{Groups}, Rules: pausesOnly, Stall: 10 * time.Second, Gap: 10 * time.Second,
		Round: func(w *World) { w.freezeTree(frozenLong, freezeLong) },
	},
	{
		Name: "freeze-node", Expect: "its handlers end the calls that they have; the others take its partitions", Load: Backlogged,
		Rules: pausesOnly, Stall: 10 * time.Second, Gap: 10 * time.Second,
		Round: func(w *World) { w.freezeNode(w.Pick()) },
	},
	{
		Name: "freeze-handlers", Expect: "their calls take so long; nothing moves, nothing is repeated", Load: Steady,
		Rules: nothingMoves, Stall: freezeLong, Gap: time.Second,
		Round: func(w *World) { w.freezeHandlers(frozenHandlers, freezeLong) },
	},
	{
		Name: "freeze-handlers-past-timeout", Expect: "they are killed at the timeout, and their calls made again", Load: Steady,
		Rules: struckOnly, Stall: handlerTimeout + 5*time.Second, Gap: time.Second,
		Round: func(w *World) { w.freezeHandlers(frozenTimeout, handlerTimeout+10*time.Second) },
	},
	{
		Name: "starve-one", Expect: "slower; no two owners at once", Load: Slow, Needs: []Need{Groups},
		Rules: struckOnly, Stall: 15 * time.Second, Gap: 15 * time.Second,
		Round: func(w *World) { w.starve(starvedOne, w.Pick()) },
	},
	{
		Name: "starve-all", Expect: "slower; no two owners at once", Load: Slow, Needs: []Need{Groups},
		Rules: struckOnly, Stall: strain + 10*time.Second, Gap: strain + 10*time.Second,
		Round: func(w *World) { w.starve(starvedAll, w.Nodes...) },
	},
	{
		Name: "out-of-memory", Expect: "the kernel kills it, again and again; the others go on", Load: Steady, Needs: []Need{Groups},
		Stall: 10 * time.Second, Gap: 10 * time.Second,
		Round: (*World).outOfMemory,
	},
	{
		Name: "little-memory", Expect: "256 MiB are enough, whatever clients send", Load: Steady, Needs: []Need{Groups},
		Rules: nothingMoves, Stall: 5 * time.Second, Gap: 5 * time.Second,
		Round: (*World).littleMemory,
	},
	{
		Name: "out-of-files", Expect: "it refuses connections, stays up and recovers by itself", CI: true, Load: Steady,
		Rules: struckOnly, Stall: 10 * time.Second, Gap: 10 * time.Second,
		Round: (*World).outOfFiles,
	},
	{
		Name: "wall-clock", Expect: "nothing moves, nothing is repeated", Load: Steady, Spec: skewed, Rules: nothingMoves,
		Stall: 2 * time.Second, Gap: time.Second,
		Round: func(w *World) { w.wallClock(w.follower()) },
	},
	{
		Name: "wall-clock-leader", Expect: "nothing moves, nothing is repeated", CI: true, Load: Steady, Spec: skewed, Rules: nothingMoves,
		Stall: 2 * time.Second, Gap: time.Second,
		Round: func(w *World) { w.wallClock(w.Leader()) },
	},
	{
		Name: "boot-clock", Expect: "its lanes are fenced at once; it renews and goes on", CI: true, Load: Backlogged, Spec: skewed,
		Rules: struckOnly, Stall: 7 * time.Second, Gap: 5 * time.Second,
		Round: func(w *World) { w.bootClock(w.Pick()) },
	},
	{
		Name: "hostile", Expect: "no crash, no growth, nobody else notices", CI: true, Load: Steady, Rules: nothingMoves,
		Stall: 5 * time.Second, Gap: 5 * time.Second,
		Round: (*World).hostile,
	},
	{
		Name: "idle-clients", Expect: "nobody else notices", Load: Steady, Rules: nothingMoves, Stall: 5 * time.Second, Gap: 5 * time.Second,
		Round: (*World).idleClients,
	},
	{
		Name: "orphans", Expect: "handlers that do not listen are gone with their node", CI: true,
		Load:  Workload{Partitions: 16, Keys: 200, Rate: 20, Delay: 2 * time.Second, Deaf: true},
		Stall: 10 * time.Second, Gap: 10 * time.Second,
		Round: (*World).orphans,
	},
	{
		Name: "handler-crash-loop", Expect: "it is started less and less often; its node and the other group do not notice", Load: Steady,
		Rules: nothingMoves, Stall: 2 * time.Second, Gap: time.Second, CI: true,
		Spec: func(_ *World, s *testcluster.Spec) {
			s.Groups = append(s.Groups, testcluster.Group{Name: "crashing", Topic: Topic, Handler: `{ kind = "subprocess", command = ["false"] }`})
		},
		Round: (*World).crashLoop,
	},
}

// pausesOnly: a paused node may end one call late.
func pausesOnly(r *history.Rules) { r.AllowStaleTail = true }

// struckOnly: calls may be repeated, and none may be late.
func struckOnly(r *history.Rules) { r.MinKills = 0 }

func skewed(_ *World, s *testcluster.Spec) { s.Skewed = true }

// unmoved wants every partition to be whose it was.
func (w *World) unmoved(before testcluster.Owners) {
	w.T.Helper()
	w.Settle()
	if err := testcluster.SameOwners(before, w.Owners(Group)); err != nil {
		w.T.Errorf("seed %d: %v", w.Seed, err)
	}
}

// freezeTree freezes a node with its handlers.
func (w *World) freezeTree(kind Kind, length time.Duration) {
	w.T.Helper()
	n, before := w.Pick(), w.Owners(Group)
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
	n.StartIfGone(wakeLimit)
	w.Settle()
	if length < ttl {
		w.unmoved(before)
	}
}

// freezeNode freezes the node only.
func (w *World) freezeNode(n *testcluster.Node) {
	w.T.Helper()
	e := n.Stop()
	w.Wait(freezeLong)
	w.WaitLeft(moveLimit, Group, n)
	w.Did(frozenNode, e, "the others have its partitions")
	n.Cont()
	n.StartIfGone(wakeLimit)
	w.Settle()
}

// freezeHandlers freezes the handlers of a node only.
func (w *World) freezeHandlers(kind Kind, length time.Duration) {
	w.T.Helper()
	n, before := w.Pick(), w.Owners(Group)
	handlers := n.Handlers()
	e := n.Struck()
	testcluster.SignalAll(w.T, handlers, syscall.SIGSTOP)
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
	w.Did(kind, history.Event{Node: e.Node}, "%d handlers stood still for %s, %d of them are left", len(handlers), length, left)
	testcluster.SignalAll(w.T, handlers, syscall.SIGCONT)
	w.unmoved(before)
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
		g := w.Groups[w.Place(n)]
		effects, err := g.Effects()
		w.must(err)
		if effects.Throttled < 5 {
			w.T.Fatalf("%s was not held back: %+v", n.Name, effects)
		}
		w.must(g.CPU(0))
		w.Did(kind, history.Event{Node: n.Name}, "held back in %d of %d periods, for %s", effects.Throttled, effects.Periods, effects.ThrottledFor.Round(time.Millisecond))
	}
	for _, n := range nodes {
		n.StartIfGone(wakeLimit)
	}
	w.Settle()
}

// outOfMemory starts a node where there is too little memory for it.
func (w *World) outOfMemory() {
	w.T.Helper()
	n := w.Pick()
	g := w.Groups[w.Place(n)]
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
	n.Start()
	w.Settle()
}

// littleMemory attacks a node that has not much memory.
func (w *World) littleMemory() {
	w.T.Helper()
	n := w.Pick()
	g := w.Groups[w.Place(n)]
	n.Term()
	w.must(g.Memory(littleBytes))
	n.Start()
	w.must(g.Add(n.PID()))
	w.Settle()
	report := w.attack(n.Listeners(), strain)
	effects, err := g.Effects()
	w.must(err)
	if effects.OOMKills > 0 {
		w.T.Errorf("%d processes killed for memory", effects.OOMKills)
	}
	w.Did(littleMemory, history.Event{Node: n.Name}, "%v; it had %d MiB at most", report.Total, effects.MemoryPeak>>20)
	w.must(g.Memory(0))
	w.Settle()
}

// outOfFiles lets a node have no more files than it has, and strangers take what becomes free.
func (w *World) outOfFiles() {
	w.T.Helper()
	n := w.Pick()
	open, _, err := process.OpenFiles(n.PID())
	w.must(err)
	e := n.Struck()
	w.must(process.LimitFiles(n.PID(), open))
	report, err := hostile.Attack(context.Background(), hostile.Spec{
		Addresses: n.Listeners(), For: strain, Attackers: -1, Idle: 100, Hello: "CONNECT {}\r\nPING\r\n",
	})
	w.must(err)
	before := open
	open, limit, err := process.OpenFiles(n.PID())
	w.must(err)
	if open < limit-5 {
		w.T.Fatalf("%d files open, it may have %d", open, limit)
	}
	w.Did(outOfFiles, e, "%d files open before, %d of %d then; of 100 connections %d were turned away", before, open, limit, report.Idle.Closed+report.Idle.Refused)
	w.must(process.LimitFiles(n.PID(), 0))
	n.StartIfGone(wakeLimit)
	w.Settle()
}

// skew puts a node's clocks wrong and waits until it says that they are.
func (w *World) skew(n *testcluster.Node, s skewclock.Skew) (said string) {
	w.T.Helper()
	n.Skew(s)
	said = fmt.Sprintf("skewclock: wall %v, drift %g, boot %v", s.Wall, s.Drift, s.Boot)
	testcluster.Eventually(w.T, 10*time.Second, func() error {
		if !strings.Contains(w.log(n), said+"\n") {
			return fmt.Errorf("%s did not say %q", n.Name, said)
		}
		return nil
	})
	return said
}

func (w *World) log(n *testcluster.Node) string {
	w.T.Helper()
	text, err := os.ReadFile(n.LogFile)
	w.must(err)
	return string(text)
}

// wallClock puts the wall clock of a node wrong, and right again by a step.
func (w *World) wallClock(n *testcluster.Node) {
	w.T.Helper()
	before := w.Owners(Group)
	for _, f := range []struct {
		kind Kind
		skew skewclock.Skew
	}{
		{wallAhead, skewclock.Skew{Wall: time.Hour}},
		{wallBehind, skewclock.Skew{Wall: -time.Hour}},
		{wallDrift, skewclock.Skew{Drift: 0.1}},
	} {
		said := w.skew(n, f.skew)
		w.Wait(ttl + 3*time.Second)
		w.Did(f.kind, history.Event{Node: n.Name}, "it says %s", said)
	}
	n.Skew(skewclock.Skew{})
	w.Wait(ttl)
	w.unmoved(before)
}

// bootClock lets a node's boot-time clock jump, as a suspend does.
func (w *World) bootClock(n *testcluster.Node) {
	w.T.Helper()
	fenced := strings.Count(w.log(n), "lane fenced")
	e := n.Struck()
	said := w.skew(n, skewclock.Skew{Boot: time.Minute})
	testcluster.Eventually(w.T, moveLimit, func() error {
		if strings.Count(w.log(n), "lane fenced") == fenced {
			return fmt.Errorf("%s fenced no lane", n.Name)
		}
		return nil
	})
	w.Did(bootJump, e, "it says %s, and fenced %d lanes", said, strings.Count(w.log(n), "lane fenced")-fenced)
	w.Wait(ttl + 2*time.Second) // what a late burial would need
	n.StartIfGone(wakeLimit)
	w.Settle()
}

// attack attacks ports and wants every node to live.
func (w *World) attack(addresses []string, length time.Duration) hostile.Report {
	w.T.Helper()
	report, err := hostile.Attack(context.Background(), hostile.Spec{Addresses: addresses, For: length, Seed: w.Seed})
	w.must(err)
	w.T.Logf("the attack:\n%v", report)
	if report.Total.Made < 100 || report.Total.Closed == 0 {
		w.T.Errorf("hardly an attack: %v", report.Total)
	}
	return report
}

// hostile attacks every port of every node.
func (w *World) hostile() {
	w.T.Helper()
	before, pids := w.Owners(Group), make(map[string]int)
	var all []string
	for _, n := range w.Nodes {
		all = append(all, n.Listeners()...)
		pids[n.Name] = n.PID()
	}
	report := w.attack(all, strain)
	w.Did(attacked, history.Event{}, "%v", report.Total)
	w.unmoved(before)
	for _, n := range w.Nodes {
		resident, err := process.Memory(n.PID())
		w.must(err)
		w.T.Logf("%s has %d MiB afterwards", n.Name, resident>>20)
		if resident > 2*littleBytes {
			w.T.Errorf("%s has %d MiB after the attack", n.Name, resident>>20)
		}
	}
}

// idleClients connects very many clients to one node, which do nothing.
func (w *World) idleClients() {
	w.T.Helper()
	n, before := w.Pick(), w.Owners(Group)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan hostile.Report, 1)
	go func() {
		// What could be wrong with it shows below, where nobody has connected.
		report, _ := hostile.Attack(ctx, hostile.Spec{
			Addresses: n.Listeners()[:1], For: 5 * time.Minute, Attackers: -1, Idle: idleCount, Hello: "CONNECT {\"verbose\":false}\r\nPING\r\n",
		})
		done <- report
	}()
	testcluster.Eventually(w.T, moveLimit, func() error {
		if open, limit, err := process.OpenFiles(n.PID()); err != nil || open < idleCount {
			return fmt.Errorf("%d files open of %d, %w", open, limit, err)
		}
		return nil
	})
	w.Wait(strain)
	open, _, err := process.OpenFiles(n.PID())
	w.must(err)
	resident, err := process.Memory(n.PID())
	w.must(err)
	cancel()
	report := <-done
	if report.Idle.Closed > 0 || open < idleCount {
		w.T.Errorf("idle clients: %v; %d files open", report.Idle, open)
	}
	w.Did(idleClients, history.Event{Node: n.Name}, "%v; %d files open, %d MiB", report.Idle, open, resident>>20)
	w.unmoved(before)
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
	w.Did(orphaned, e, "%d handlers gone within %s", len(handlers), time.Since(killed).Round(time.Millisecond))
	w.WaitLeft(moveLimit, Group, n)
	n.Start()
	w.Settle()
}

// crashLoop watches the group whose handler ends at once.
func (w *World) crashLoop() {
	w.T.Helper()
	count := func() (n int) {
		for _, node := range w.Nodes {
			n += strings.Count(w.log(node), "group=crashing")
		}
		return n
	}
	before, first := w.Owners(Group), count()
	w.Wait(strain)
	more := count() - first
	s, err := w.Status()
	w.must(err)
	// A loop without a pause would start hundreds a second.
	if lag := s.Group("crashing").Lag; first == 0 || more > 60*int(strain.Seconds()) || lag != nil && *lag == 0 {
		w.T.Errorf("%d lines of the crashing group, then %d in %s, lag %v", first, more, strain, lag)
	}
	w.Did(crashLoop, history.Event{}, "%d lines about it at first, %d in %s", first, more, strain)
	w.unmoved(before)
}

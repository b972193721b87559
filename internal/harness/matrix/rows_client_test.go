package matrix

import (
	"context"
	"fmt"
	"time"

	"leasehold/internal/harness/fault/hostile"
	"leasehold/internal/harness/fault/process"
	"leasehold/internal/harness/history"
	"leasehold/internal/harness/testcluster"
)

const (
	littleBytes = 256 << 20 // of memory
	largeCount  = 300       // messages of 1 MB
	idleCount   = 10_000
	idleRate    = 500 // a second
)

// clientRows let strangers in.
var clientRows = []Row{
	{
		Name: "little-memory", Expect: "256 MiB are enough, whatever clients send", Load: Steady, Needs: []Need{Groups},
		Spec: (*World).letStrangersIn, Rules: nothingMoves, Stall: 5 * time.Second, Gap: 5 * time.Second,
		Round: (*World).littleMemory,
	},
	{
		Name: "large-messages", Expect: "256 MiB for each node and its handlers are enough for messages of 1 MB", Load: Large,
		Needs:  []Need{Groups},
		Memory: littleBytes, Rules: nothingMoves, Stall: 5 * time.Second, Gap: 5 * time.Second,
		Round: (*World).largeMessages,
	},
	{
		Name: "out-of-files", Expect: "it refuses connections, stays up and recovers by itself", CI: true, Load: Steady,
		Stall: 10 * time.Second, Gap: 10 * time.Second,
		Round: (*World).outOfFiles,
	},
	{
		Name: "hostile", Expect: "no crash, no growth, nobody else notices", CI: true, Load: Watched, Needs: []Need{Groups},
		Memory: littleBytes, Spec: (*World).letStrangersIn, Rules: nothingMoves, Stall: 5 * time.Second, Gap: 5 * time.Second,
		Round: (*World).hostile,
	},
	{
		Name: "idle-clients", Expect: "nothing moves", Load: Steady, Stall: 5 * time.Second, Gap: 5 * time.Second,
		Round: (*World).idleClients,
	},
	{
		Name: "client-storm", Expect: "their node may be fenced, even end itself, when all come or go at once; nothing is " +
			"lost", Load: Steady,
		Stall: 15 * time.Second, Gap: 15 * time.Second,
		Round: (*World).clientStorm,
	},
}

// littleMemory attacks a node that has not much memory.
func (w *World) littleMemory() {
	w.T.Helper()
	n := w.Pick()
	g := w.GroupOf(n)
	n.Term()
	w.must(g.Memory(littleBytes))
	n.Within = g.Within()
	n.Start()
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

// largeMessages sends what is as large as it may be to nodes that have not much memory.
func (w *World) largeMessages() {
	w.T.Helper()
	w.staysWhile(func() { w.Flows(largeCount) })
	peaks := ""
	for _, n := range w.Nodes {
		effects, err := w.GroupOf(n).Effects()
		w.must(err)
		if effects.OOMKills > 0 {
			w.T.Errorf("%s: %d processes killed for memory", n.Name, effects.OOMKills)
		}
		peaks += fmt.Sprintf(" %s %d MiB", n.Name, effects.MemoryPeak>>20)
	}
	w.Did(largeMessages, history.Event{}, "%d messages of %d bytes; at most:%s", largeCount, w.Row.Load.Size, peaks)
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
	w.Did(outOfFiles, e, "%d files open before, %d of %d then; of 100 connections %d were turned away", before, open,
		limit, report.Idle.Closed+report.Idle.Refused)
	w.must(process.LimitFiles(n.PID(), 0))
	n.StartIfGone(testcluster.WakeLimit)
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

// hello is what a client says that wants nothing.
const hello = "CONNECT {\"verbose\":false}\r\nPING\r\n"

// idleClients connects very many clients to one node, which do nothing.
func (w *World) idleClients() {
	w.T.Helper()
	w.staysWhile(func() { w.connectIdle(w.Pick()) })
}

// connectIdle connects them, looks at the node while they are there, and lets them go.
func (w *World) connectIdle(n *testcluster.Node) {
	w.T.Helper()
	e := n.Struck()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan hostile.Report, 1)
	go func() {
		// What could be wrong with it shows below, where nobody has connected.
		report, _ := hostile.Attack(ctx, hostile.Spec{
			Addresses: n.Listeners()[:1], For: 5 * time.Minute, Attackers: -1, Idle: idleCount, IdleRate: idleRate, Hello: hello,
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
	w.Did(idleClients, history.Event{Node: e.Node}, "%v; %d files open, %d MiB", report.Idle, open, resident>>20)
}

// clientStorm lets as many come as fast as they can, and go all at once.
func (w *World) clientStorm() {
	w.T.Helper()
	n := w.Pick()
	e := n.Struck()
	report, err := hostile.Attack(context.Background(), hostile.Spec{
		Addresses: n.Listeners()[:1], For: strain, Attackers: -1, Idle: idleCount, Hello: hello,
	})
	w.must(err)
	n.Struck()
	if report.Idle.Made < 1000 {
		w.T.Errorf("hardly a storm: %v", report.Idle)
	}
	w.Did(clientStorm, history.Event{Node: e.Node}, "%v", report.Idle)
	n.StartIfGone(ttl)
	w.Settle()
}

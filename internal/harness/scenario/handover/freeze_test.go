package handover

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"leasehold/internal/harness/history"
	"leasehold/internal/harness/monotonic"
	"leasehold/internal/harness/scenario"
	"leasehold/internal/harness/testcluster"
)

var (
	freezesFlag = flag.Int("freezes", 1,
		"how many rounds of freezes TestLongFreeze makes, four freezes each; 3 for figures")
	freezeFlag = flag.Duration("freeze", 8*time.Second, "how long a long freeze of TestLongFreeze lasts; 20s for figures")
)

const (
	freezeShort = 3 * time.Second
	// outage is three sessions' lives without a quorum.
	outage = 3 * sessionTTL
	// Calls of 70 ms and a backlog in every partition, so that a freeze falls
	// into a call nearly everywhere.
	freezeKeys  = 1009
	freezeRate  = 350
	freezeBurst = 4000
)

func startFreezeRun(t *testing.T) (*testcluster.Cluster, *testcluster.Load) {
	return startRun(t, runSpec{
		partitions: scenario.Partitions, keys: freezeKeys, handler: testcluster.CallLogOptions{Delay: faultDelay},
		rate: freezeRate, burst: freezeBurst,
	})
}

// judgeFreezes wants one late call for each partition and freeze, at most.
func judgeFreezes(t *testing.T, c *testcluster.Cluster, load *testcluster.Load, freezes int) history.History {
	return scenario.Judge(t, c, load, history.Rules{
		Groups: []string{scenario.Group}, Repeats: history.RepeatsAfterAnyKill, AllowStaleTail: true,
		MinAcked: freezeBurst, MinKeys: freezeKeys / 2, MinKills: freezes,
	})
}

// freeze is one stop of a node, and what came of it.
type freeze struct {
	node         string
	handlers     bool // They were stopped, too.
	length       time.Duration
	stop, cont   history.Event
	claims, back int // Claims while it was frozen, and from then until the balance was back.
	died         bool
}

// A node that is stopped inside its calls and goes on, with or without its
// handlers. A short stop moves nothing. After one that outlives the session,
// a partition has at most one late call: the one that was in flight, under an
// older epoch than that of the new owner.
func TestLongFreeze(t *testing.T) {
	if testing.Short() {
		t.Skip("make test-long runs it")
	}
	c, load := startFreezeRun(t)
	var freezes []freeze
	for range *freezesFlag {
		for _, length := range []time.Duration{freezeShort, *freezeFlag} {
			for _, handlers := range []bool{false, true} {
				n := c.Nodes[len(freezes)%len(c.Nodes)]
				freezes = append(freezes, freezeNode(c, n, length, handlers))
			}
		}
	}
	h := judgeFreezes(t, c, load, len(freezes))
	t.Log(freezeTable(h, freezes))
}

func freezeNode(c *testcluster.Cluster, n *testcluster.Node, length time.Duration, handlers bool) freeze {
	c.T.Helper()
	f := freeze{node: n.Name, handlers: handlers, length: length}
	before := c.Owners(scenario.Group)
	f.stop = n.Stop()
	release := func() {}
	if handlers {
		release = n.HoldHandlers()
	}
	testcluster.Pass(length)
	release()
	f.cont = n.Cont()
	if length > sessionTTL {
		f.claims = before.Claims(ownersSeenBy(c, c.Without(n)))
	}
	f.died = n.StartIfGone(testcluster.WakeLimit)
	c.WaitReady(testcluster.StartLimit)
	c.WaitBalanced(testcluster.MoveLimit, scenario.Group)
	testcluster.Pass(time.Second) // what a late burial would need
	c.WaitBalanced(testcluster.MoveLimit, scenario.Group)
	after := c.Owners(scenario.Group)
	f.back = before.Claims(after) - f.claims
	if length < sessionTTL-time.Second {
		if err := testcluster.SameOwners(before, after); err != nil {
			c.T.Errorf("%s was stopped for %s, handlers too: %v: %v", n.Name, length, handlers, err)
		}
	}
	return f
}

// freezeTable shows what each freeze did to the partitions of its node.
func freezeTable(h history.History, freezes []freeze) string {
	head := "FREEZE\tHANDLERS\tFOR\tCLAIMED MEANWHILE\tAND BACK\tENDED\tIN FLIGHT\tLATE\tCUT\tSTARTED LATE\tUNTIL A " +
		"PARTITION WENT ON, FROM THE STOP"
	return scenario.Table(head, func(row func(...any)) {
		for i, f := range freezes {
			until := int64(1<<63 - 1)
			if i+1 < len(freezes) {
				until = freezes[i+1].stop.At
			}
			inFlight, late, cut, started := f.tails(h, until)
			row(fmt.Sprintf("%d: %s", i+1, f.node), f.handlers, f.length, f.claims, f.back, f.died,
				inFlight, late, cut, started, history.Summarize(f.wentOn(h)))
		}
	})
}

// tails counts the node's calls that were in flight when it stopped: all,
// those that ended after another owner's first call, those that never ended;
// and the calls it started after another owner had.
func (f freeze) tails(h history.History, until int64) (inFlight, late, cut, started int) {
	others := make(map[int]int64) // when another owner's first call started
	for _, call := range scenario.InOrder(h.Calls) {
		if _, seen := others[call.Partition]; !seen && call.Node != f.node && call.Start > f.stop.At && call.Start < until {
			others[call.Partition] = call.Start
		}
	}
	for _, call := range h.Calls {
		other, moved := others[call.Partition]
		if call.Node != f.node || call.Start > f.cont.At+int64(time.Second) {
			continue
		}
		switch {
		case call.Start > f.stop.At:
			if moved && call.Start > other {
				started++
			}
		case call.End == 0 && call.Start > f.stop.At-int64(time.Second):
			inFlight, cut = inFlight+1, cut+1
		case call.End > f.stop.At:
			inFlight++
			if moved && call.End > other {
				late++
			}
		}
	}
	return inFlight, late, cut, started
}

// wentOn is, for each partition that the node had, the time from the stop, or
// from the publish of the message if that was later, until somebody started a
// call of it: another node, or itself once awake.
func (f freeze) wentOn(h history.History) []time.Duration {
	acked := scenario.NewGaps(h).Acked
	had := make(map[int]bool)
	on := make(map[int]time.Duration)
	for _, call := range scenario.InOrder(h.Calls) {
		// A call that starts right after the signal was sent before it.
		if call.Start < f.stop.At+int64(100*time.Millisecond) {
			had[call.Partition] = call.Node == f.node
			continue
		}
		if _, known := on[call.Partition]; had[call.Partition] && !known {
			on[call.Partition] = time.Duration(call.Start - max(f.stop.At, acked[call.ID]))
		}
	}
	return slices.Collect(maps.Values(on))
}

// ownersSeenBy is what the first of the nodes sees, complete.
func ownersSeenBy(c *testcluster.Cluster, nodes []*testcluster.Node) testcluster.Owners {
	c.T.Helper()
	var seen testcluster.Owners
	testcluster.Eventually(c.T, testcluster.MoveLimit, func() error {
		s, err := nodes[0].Status()
		if err != nil {
			return err
		}
		seen = testcluster.Owners(s.Group(scenario.Group).Partitions)
		return seen.Agree(seen)
	})
	return seen
}

// Without a quorum for three sessions' lives nobody can bury anybody, and
// afterwards nobody does: each partition goes on with the owner that it had.
func TestLongNoQuorumMovesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("make test-long runs it")
	}
	c, load := startFreezeRun(t)
	var rows [][]any
	outages := [][]*testcluster.Node{c.Nodes, c.Nodes[1:]}
	if *freezesFlag == 1 {
		outages = outages[:1] // The matrix of faults has the other one, too.
	}
	for _, stopped := range outages {
		rows = append(rows, loseQuorum(c, stopped))
	}
	judgeFreezes(t, c, load, len(c.Nodes))
	t.Log(scenario.Table("STOPPED\tFOR\tMOVED\tUNTIL A PARTITION WENT ON, FROM THE END", func(row func(...any)) {
		for _, cells := range rows {
			row(cells...)
		}
	}))
}

// loseQuorum stops the nodes, lets them go on and waits for every partition.
func loseQuorum(c *testcluster.Cluster, stopped []*testcluster.Node) []any {
	c.T.Helper()
	before := c.Owners(scenario.Group)
	for _, n := range stopped {
		n.Stop()
	}
	testcluster.Pass(outage)
	healed := monotonic.Now()
	for _, n := range stopped {
		n.Cont()
	}
	var took []time.Duration
	testcluster.Eventually(c.T, testcluster.StartLimit, func() error {
		took = firstCalls(c, healed)
		if len(took) < scenario.Partitions {
			return fmt.Errorf("%d of %d partitions go on", len(took), scenario.Partitions)
		}
		return nil
	})
	c.WaitReady(testcluster.StartLimit)
	// Whoever saw nothing of a session for its life since then buries it.
	testcluster.Pass(sessionTTL + 2*time.Second)
	c.WaitBalanced(testcluster.MoveLimit, scenario.Group)
	after := c.Owners(scenario.Group)
	if err := testcluster.SameOwners(before, after); err != nil {
		c.T.Errorf("after an outage with %d nodes stopped: %v", len(stopped), err)
	}
	return []any{fmt.Sprintf("%d of %d", len(stopped), len(c.Nodes)), outage, before.Claims(after),
		history.Summarize(took)}
}

// firstCalls is, for each partition, when its first call since then started.
func firstCalls(c *testcluster.Cluster, since int64) []time.Duration {
	first := make(map[int]time.Duration)
	for _, call := range c.Calls() {
		after := time.Duration(call.Start - since)
		if old, seen := first[call.Partition]; after > 0 && (!seen || after < old) {
			first[call.Partition] = after
		}
	}
	var took []time.Duration
	for _, d := range first {
		took = append(took, d)
	}
	return took
}

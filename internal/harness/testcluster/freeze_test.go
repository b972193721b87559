package testcluster

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"leasehold/internal/harness/history"
	"leasehold/internal/harness/testcluster/monotonic"
)

var (
	freezesFlag = flag.Int("freezes", 1, "how many rounds of freezes TestFreeze makes, four freezes each; 3 for figures")
	freezeFlag  = flag.Duration("freeze", 8*time.Second, "how long a long freeze of TestFreeze lasts; 20s for figures")
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

func startFreezeRun(t *testing.T) (*Cluster, *Load) {
	return startRun(t, runSpec{
		partitions: faultPartitions, keys: freezeKeys, handler: CallLogOptions{Delay: faultDelay},
		rate: freezeRate, burst: freezeBurst,
	})
}

// judgeFreezes wants one late call for each partition and freeze, at most.
func judgeFreezes(t *testing.T, c *Cluster, load *Load, freezes int) history.History {
	return judge(t, c, load, history.Rules{
		Groups: []string{faultGroup}, Repeats: history.RepeatsAfterAnyKill, AllowStaleTail: true,
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
func TestFreeze(t *testing.T) {
	c, load := startFreezeRun(t)
	var freezes []freeze
	for range *freezesFlag {
		for _, length := range []time.Duration{freezeShort, *freezeFlag} {
			for _, handlers := range []bool{false, true} {
				n := c.Nodes[len(freezes)%len(c.Nodes)]
				freezes = append(freezes, c.freeze(n, length, handlers))
			}
		}
	}
	h := judgeFreezes(t, c, load, len(freezes))
	t.Log(freezeTable(h, freezes))
}

func (c *Cluster) freeze(n *Node, length time.Duration, handlers bool) freeze {
	c.t.Helper()
	f := freeze{node: n.Name, handlers: handlers, length: length}
	before := c.Owners(faultGroup)
	f.stop = n.Stop()
	release := func() {}
	if handlers {
		release = n.HoldHandlers()
	}
	pass(length)
	release()
	f.cont = n.Cont()
	if length > sessionTTL {
		f.claims = before.claims(c.ownersSeenBy(c.without(n)))
	}
	f.died = n.StartIfGone(WakeLimit)
	c.WaitReady(startLimit)
	c.WaitBalanced(moveLimit, faultGroup)
	pass(time.Second) // what a late burial would need
	c.WaitBalanced(moveLimit, faultGroup)
	after := c.Owners(faultGroup)
	f.back = before.claims(after) - f.claims
	if length < sessionTTL-time.Second {
		if err := SameOwners(before, after); err != nil {
			c.t.Errorf("%s was stopped for %s, handlers too: %v: %v", n.Name, length, handlers, err)
		}
	}
	return f
}

// freezeTable shows what each freeze did to the partitions of its node.
func freezeTable(h history.History, freezes []freeze) string {
	head := "FREEZE\tHANDLERS\tFOR\tCLAIMED MEANWHILE\tAND BACK\tENDED\tIN FLIGHT\tLATE\tCUT\tSTARTED LATE\tUNTIL A PARTITION WENT ON, FROM THE STOP"
	return table(head, func(row func(...any)) {
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
	for _, call := range inOrder(h.Calls) {
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
	acked := newGaps(h).acked
	had := make(map[int]bool)
	on := make(map[int]time.Duration)
	for _, call := range inOrder(h.Calls) {
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
func (c *Cluster) ownersSeenBy(nodes []*Node) Owners {
	c.t.Helper()
	var seen Owners
	Eventually(c.t, moveLimit, func() error {
		s, err := nodes[0].Status()
		if err != nil {
			return err
		}
		seen = Owners(s.Group(faultGroup).Partitions)
		return seen.agree(seen)
	})
	return seen
}

// Without a quorum for three sessions' lives nobody can bury anybody, and
// afterwards nobody does: each partition goes on with the owner that it had.
func TestNoQuorumMovesNothing(t *testing.T) {
	c, load := startFreezeRun(t)
	var rows [][]any
	outages := [][]*Node{c.Nodes, c.Nodes[1:]}
	if *freezesFlag == 1 {
		outages = outages[:1] // The matrix of faults has the other one, too.
	}
	for _, stopped := range outages {
		rows = append(rows, c.outage(stopped))
	}
	judgeFreezes(t, c, load, len(c.Nodes))
	t.Log(table("STOPPED\tFOR\tMOVED\tUNTIL A PARTITION WENT ON, FROM THE END", func(row func(...any)) {
		for _, cells := range rows {
			row(cells...)
		}
	}))
}

// outage stops the nodes, lets them go on and waits for every partition.
func (c *Cluster) outage(stopped []*Node) []any {
	c.t.Helper()
	before := c.Owners(faultGroup)
	for _, n := range stopped {
		n.Stop()
	}
	pass(outage)
	healed := monotonic.Now()
	for _, n := range stopped {
		n.Cont()
	}
	var took []time.Duration
	Eventually(c.t, startLimit, func() error {
		took = c.firstCalls(healed)
		if len(took) < faultPartitions {
			return fmt.Errorf("%d of %d partitions go on", len(took), faultPartitions)
		}
		return nil
	})
	c.WaitReady(startLimit)
	// Whoever saw nothing of a session for its life since then buries it.
	pass(sessionTTL + 2*time.Second)
	c.WaitBalanced(moveLimit, faultGroup)
	after := c.Owners(faultGroup)
	if err := SameOwners(before, after); err != nil {
		c.t.Errorf("after an outage with %d nodes stopped: %v", len(stopped), err)
	}
	return []any{fmt.Sprintf("%d of %d", len(stopped), len(c.Nodes)), outage, before.claims(after), history.Summarize(took)}
}

// firstCalls is, for each partition, when its first call since then started.
func (c *Cluster) firstCalls(since int64) []time.Duration {
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

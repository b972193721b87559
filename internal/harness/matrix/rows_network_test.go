package matrix

import (
	"errors"
	"net"
	"syscall"
	"time"

	"leasehold/internal/harness/fault/network"
	"leasehold/internal/harness/history"
	"leasehold/internal/harness/testcluster"
)

// away is how long a node is cut off where it is to be taken over: a few times its ttl.
const away = 20 * time.Second

// Bounds of how long publishes go without an acknowledgement, for a publisher that leaves a server which is of no use
// for 6 s. In a cut of a minute one that stays is over leaveGap, slack included.
const (
	roamGap  = 15 * time.Second
	leaveGap = 11 * time.Second
)

// diverged is how many entries a leader that is cut off takes alone. A try for each would take some minutes.
const diverged = 200

// networkRows cut, slow and falsify what is between nodes, and between nodes and clients.
var networkRows = []Row{
	{
		Name: "cut-leader", Expect: "another leads, the others take its partitions; it starts no call after its lease",
		CI: true, Needs: []Need{Network}, Load: Steady, Stall: 25 * time.Second, Gap: roamGap,
		Round: func(w *World) {
			n := w.Leader()
			w.cutOff(cutLeader, n, away, func() { w.Net.Isolate(w.Host(n)) })
		},
	},
	{
		Name: "cut-minute", Expect: "the others take its partitions; it starts no call after its lease",
		CI: true, Needs: []Need{Network}, Load: Slow, Stall: 25 * time.Second, Gap: leaveGap,
		Round: func(w *World) {
			n := w.follower()
			w.cutOff(cutMinute, n, time.Minute, func() { w.Net.Isolate(w.Host(n)) })
		},
	},
	{
		// A client is not told that its node has no quorum; the publisher leaves a node that answers nothing.
		Name: "cut-serving", Expect: "the publisher goes to another node; what was not answered is stored once",
		CI: true, Needs: []Need{Network}, Load: Steady, Stall: 25 * time.Second, Gap: leaveGap,
		Round: func(w *World) {
			n := w.serving()
			w.cutOff(cutServing, n, time.Minute, func() { w.Net.Isolate(w.Host(n)) })
		},
	},
	{
		Name: "cut-diverged", Expect: "what only the leader had taken is given up; its copy is current soon after, not a " +
			"try a message later",
		CI: true, Needs: []Need{Network}, Load: Steady, Stall: 6 * time.Second, Gap: roamGap,
		Round: (*World).diverge,
	},
	{
		Name: "unheard", Expect: "the others take its partitions and go on without it", CI: true, Needs: []Need{Network},
		Load: Steady, Stall: 30 * time.Second, Gap: roamGap,
		Round: func(w *World) {
			n := w.Pick()
			w.cutOff(unheard, n, away, func() { w.oneWay(n, w.Net.Cut) })
		},
	},
	{
		Name: "deaf", Expect: "the others take its partitions and go on without it", CI: true, Needs: []Need{Network},
		Load: Steady, Stall: 30 * time.Second, Gap: roamGap,
		Round: func(w *World) {
			n := w.Pick()
			w.cutOff(deaf, n, away, func() { w.oneWay(n, func(n, other int) { w.Net.Cut(other, n) }) })
		},
	},
	{
		Name: "cut-pair", Expect: "the third carries on with either", Needs: []Need{Network}, Load: Steady,
		Stall: 30 * time.Second, Gap: 15 * time.Second,
		Round: (*World).cutPair,
	},
	{
		Name: "flapping-link", Expect: "nothing is lost or overlaps, however often", CI: true, Needs: []Need{Network},
		Load: Steady, Stall: 60 * time.Second, Gap: 30 * time.Second, Rounds: 12,
		Round: func(w *World) {
			n := w.Pick()
			e := n.Struck()
			w.Net.Isolate(w.Host(n))
			w.Wait(w.Between(2*time.Second, 8*time.Second))
			w.healed(flapped, history.Event{Node: e.Node})
			w.Wait(w.Between(2*time.Second, 8*time.Second))
		},
	},
	{
		Name: "cut-clients", Expect: "owners stay; a publish whose outcome was unknown is stored once", CI: true,
		Needs: []Need{Network},
		Load:  Steady, Stall: 30 * time.Second, Gap: 30 * time.Second,
		Rules: nothingMoves,
		Round: (*World).cutAllClients,
	},
	{
		Name: "far-apart", Expect: "owners stay, nothing is repeated", CI: true, Needs: []Need{Switched},
		Load:  Workload{Partitions: 16, Keys: 200, Rate: 60, Delay: 2 * time.Millisecond},
		Stall: 10 * time.Second, Gap: 10 * time.Second,
		Rules: nothingMoves,
		Round: (*World).goFarApart,
	},
	{
		Name: "lossy-link", Expect: "nothing is lost or overlaps", Needs: []Need{Network}, Load: Steady,
		Stall: 60 * time.Second, Gap: 30 * time.Second,
		Round: func(w *World) {
			n := w.Pick()
			w.Net.Lose(w.Host(n), 30)
			for range int(time.Minute / ttl) { // It may lose a lease, and what it could not commit, at any time.
				n.Struck()
				w.Wait(ttl)
			}
			w.healed(lossy, history.Event{Node: n.Name})
			w.Settle()
		},
	},
	{
		Name: "slow-link", Expect: "a node catches up over a slow link, the others do not notice", Needs: []Need{Network},
		Load: Steady, Stall: 10 * time.Second, Gap: 10 * time.Second,
		Round: (*World).catchUpSlowly,
	},
	{
		Name: "unplugged", Expect: "the others take its partitions; it starts no call after its lease", CI: true,
		Needs: []Need{Network},
		Load:  Steady, Stall: 25 * time.Second, Gap: roamGap,
		Round: (*World).unplug,
	},
	{
		Name: "refuse", Expect: "refused connections alone do not make a live node dead: owners stay", CI: true,
		Needs: []Need{Network},
		Load:  Steady, Stall: 10 * time.Second, Gap: 10 * time.Second,
		Rules: nothingMoves,
		Round: func(w *World) {
			w.staysWhile(func() { w.refuse(refused, w.Pick(), false, false) })
		},
	},
	{
		Name: "refuse-cut", Expect: "its death may be believed, as documented; no call of two owners overlaps, none is " +
			"under an older epoch", CI: true, Needs: []Need{Network},
		Load: Backlogged, Stall: 25 * time.Second, Gap: 15 * time.Second, Rounds: 2,
		Round: func(w *World) { w.refuse(refusedCut, w.Pick(), true, false) },
	},
	{
		Name: "refuse-both", Expect: "the same with no way back for its own attempts", CI: true, Needs: []Need{Network},
		Load: Backlogged, Stall: 25 * time.Second, Gap: 15 * time.Second, Rounds: 2,
		Round: func(w *World) { w.refuse(refusedBoth, w.Pick(), true, true) },
	},
}

// healed heals the network and counts the fault by the packets that it touched.
func (w *World) healed(kind Kind, e history.Event) {
	w.T.Helper()
	touched := w.Net.Effect()
	w.Net.Heal()
	if touched == 0 {
		w.T.Errorf("%s: no packet came by", kind)
		return
	}
	w.Did(kind, e, "%d packets", touched)
}

// cutOff strikes a node for so long. The others must have its partitions and go on handling long before it is over.
func (w *World) cutOff(kind Kind, n *testcluster.Node, length time.Duration, cut func()) {
	w.T.Helper()
	over := time.Now().Add(length)
	e := n.Struck()
	cut()
	w.WaitLeft(moveLimit, Group, n)
	w.Wait(time.Until(over))
	w.healed(kind, e)
	w.Settle()
}

// oneWay cuts between a node and each other one.
func (w *World) oneWay(n *testcluster.Node, cut func(n, other int)) {
	w.T.Helper()
	for _, other := range w.Others(n) {
		cut(w.Host(n), w.Host(other))
	}
}

// diverge cuts the leader of the topic off, and leaves entries in its Raft log that no other has.
func (w *World) diverge() {
	w.T.Helper()
	n := w.topicLeader()
	w.cutOff(cutDiverged, n, away, func() {
		w.Net.Isolate(w.Host(n))
		w.Load.PublishAt(w.T, w.URLs()[w.Place(n)], diverged, 5*time.Millisecond)
	})
}

// cutPair cuts any two nodes off from each other; handling must go on while they are.
func (w *World) cutPair() {
	w.T.Helper()
	third := w.Pick()
	two := w.Others(third)
	for _, n := range two {
		n.Struck()
	}
	w.Net.CutBoth(w.Host(two[0]), w.Host(two[1]))
	w.Wait(away)
	w.Flows(50)
	w.healed(cutPair, history.Event{Node: two[0].Name})
	w.Settle()
}

// cutAllClients keeps clients from all nodes for a while; the nodes see one another.
func (w *World) cutAllClients() {
	w.T.Helper()
	w.staysWhile(func() {
		for _, n := range w.Nodes {
			w.Net.CutClients(w.Host(n))
		}
		w.Wait(w.Between(5*time.Second, 15*time.Second))
		w.healed(cutClients, history.Event{})
		w.Flows(50)
	})
}

// goFarApart makes the nodes' network one of long and bad lines for a while.
func (w *World) goFarApart() {
	w.T.Helper()
	w.staysWhile(func() {
		w.Switch.SetAll(network.Link{Delay: 50 * time.Millisecond, Jitter: 20 * time.Millisecond, Loss: 0.02, Reorder: true})
		w.Switch.Effect()
		w.Wait(45 * time.Second)
		f := w.Switch.Effect()
		w.Switch.SetAll(network.Link{})
		if f.Delayed == 0 || f.Dropped == 0 || f.Overtaken == 0 {
			w.T.Errorf("%s: %+v", farApart, f)
			return
		}
		w.Did(farApart, history.Event{}, "%d frames delayed, %d lost, %d overtaken", f.Delayed, f.Dropped, f.Overtaken)
	})
}

// catchUpSlowly lets a node miss some time, and then come back over a slow link.
func (w *World) catchUpSlowly() {
	w.T.Helper()
	n := w.follower()
	n.Term()
	w.WaitLeft(moveLimit, Group, n)
	w.Flows(3000)
	w.Net.Throttle(w.Host(n), 1_000_000)
	n.Start()
	w.Wait(away)
	w.healed(slowLink, history.Event{Node: n.Name})
	w.Settle()
}

// unplug pulls a node's cable, which is no rule that counts: the effect is that nobody reaches it.
func (w *World) unplug() {
	w.T.Helper()
	n := w.Pick()
	e := n.Struck()
	over := time.Now().Add(away)
	w.Net.Unplug(w.Host(n))
	w.WaitLeft(moveLimit, Group, n)
	_, err := n.Status()
	if err == nil {
		w.T.Fatalf("%s answers without a cable", n.Name)
	}
	w.Wait(time.Until(over))
	w.Net.Heal()
	w.Did(unplugged, e, "no answer: %v", err)
	w.Settle()
}

// refuse lets a node's host refuse connections to the cluster port for a while, reset those there are, and refuse the
// node's own.
func (w *World) refuse(kind Kind, n *testcluster.Node, cut, dials bool) {
	w.T.Helper()
	e := history.Event{Node: n.Name}
	if cut {
		e = n.Struck()
	}
	if dials {
		w.Net.RejectDials(w.Host(n))
	}
	w.Net.Reject(w.Host(n), n.ClusterPort(), cut)
	err := w.dialFrom(w.Others(n)[0], n.Listeners()[1])
	if !errors.Is(err, syscall.ECONNREFUSED) {
		w.T.Errorf("%s: a connection to the cluster port of %s: %v", kind, n.Name, err)
	}
	w.Wait(2*ttl + time.Second)
	w.healed(kind, history.Event{Node: e.Node})
	w.Settle()
}

// dialFrom opens a connection as the node's host would.
func (w *World) dialFrom(n *testcluster.Node, address string) error {
	return w.Net.Host(w.Host(n)).Enter(func() error {
		c, err := net.DialTimeout("tcp", address, 5*time.Second)
		if err == nil {
			c.Close()
		}
		return err
	})
}

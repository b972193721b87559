package chaos

import (
	"fmt"
	"time"

	"leasehold/internal/history"
	"leasehold/internal/testcluster"
)

// Kinds of faults of memberships and quorums.
const (
	joined   Kind = "join of a fourth node, another killed meanwhile"
	left     Kind = "leave and removal of the fourth node, another killed meanwhile"
	noQuorum Kind = "no quorum for three ttls"
)

// ttl is how long a session lives under the timing lan.
const ttl = 5 * time.Second

// memberRows let nodes join and leave, and take the quorum away.
var memberRows = []Row{
	{
		Name: "no-quorum", Expect: "nobody is buried, nothing moves, all goes on with its owner", CI: true, Load: Steady,
		Stall: 4 * ttl, Gap: 4*ttl + 10*time.Second,
		Rules: func(r *history.Rules) { r.AllowStaleTail = true },
		Round: func(w *World) { w.withoutQuorum(3 * ttl) },
	},
	{
		Name: "join-leave-kill", Expect: "balance within one partition after each, nothing lost", CI: true, Load: Steady,
		Stall: 20 * time.Second, Gap: 20 * time.Second,
		Round: (*World).joinAndLeave,
	},
}

// withoutQuorum stops two of three nodes for so long, and wants every partition to be whose it was.
func (w *World) withoutQuorum(length time.Duration) {
	w.T.Helper()
	w.Settle()
	before := w.Owners(Group)
	acked := w.Load.Published()
	stopped := w.Others(w.Pick())
	for _, n := range stopped {
		n.Stop()
	}
	w.Wait(length)
	w.Did(noQuorum, history.Event{}, "%d publishes came to an end meanwhile", w.Load.Published()-acked)
	for _, n := range stopped {
		n.Cont()
	}
	w.WaitReady(startLimit)
	w.Flows(50)
	w.Wait(ttl + time.Second) // what a late burial would need
	w.Settle()
	if err := testcluster.SameOwners(before, w.Owners(Group)); err != nil {
		w.T.Errorf("after %s without a quorum: %v", length, err)
	}
}

// joinAndLeave adds a node and takes it away for good, while another is killed in the middle of each.
func (w *World) joinAndLeave() {
	w.T.Helper()
	old := w.Others()
	fourth := w.AddNode(fmt.Sprintf("x%d", len(w.faults)), old...)
	defer func() { w.Nodes = old }()
	w.meanwhile(func() {
		fourth.Start()
	}, old)
	w.Did(joined, history.Event{}, "%s owns its share", fourth.Name)
	w.meanwhile(func() {
		fourth.Term()
	}, old)
	testcluster.Eventually(w.T, moveLimit, func() error {
		code, out := old[0].Command("node", "remove", fourth.Name, "--yes")
		if code != 0 {
			return fmt.Errorf("node remove: %d: %s", code, out)
		}
		return nil
	})
	w.Did(left, history.Event{}, "%s is removed", fourth.Name)
	w.Settle()
}

// meanwhile does something, and kills one of the nodes a moment later and starts it again.
func (w *World) meanwhile(do func(), nodes []*testcluster.Node) {
	w.T.Helper()
	do()
	w.Wait(w.Between(0, 3*time.Second))
	n := nodes[w.Random.IntN(len(nodes))]
	n.Kill()
	w.Wait(w.Between(0, 3*time.Second))
	n.Start()
	w.Settle()
}

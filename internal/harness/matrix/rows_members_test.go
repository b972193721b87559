package matrix

import (
	"fmt"
	"time"

	"leasehold/internal/harness/history"
	"leasehold/internal/harness/testcluster"
)

// memberRows let nodes join and leave, and take the quorum away.
var memberRows = []Row{
	{
		Name: "no-quorum", Expect: "nobody is buried, nothing moves, all goes on with its owner", CI: true, Load: Steady,
		Stall: 4 * ttl, Gap: 4*ttl + 10*time.Second,
		Rules: lateTails,
		Round: func(w *World) {
			w.staysWhile(func() { w.withoutQuorum(3 * ttl) })
		},
	},
	{
		Name: "join-leave-kill", Expect: "balance within one partition after each, nothing lost", CI: true, Load: Steady,
		Stall: 20 * time.Second, Gap: 20 * time.Second,
		Round: (*World).joinAndLeave,
	},
}

// withoutQuorum stops two of three nodes for so long.
func (w *World) withoutQuorum(length time.Duration) {
	w.T.Helper()
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
	w.remove(fourth)
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

package matrix

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"leasehold/internal/harness/fault/cgroup"
	"leasehold/internal/harness/fault/disk"
	"leasehold/internal/harness/testcluster"
)

// Pick is any node.
func (w *World) Pick() *testcluster.Node { return w.Nodes[w.Random.IntN(len(w.Nodes))] }

// Others are all nodes but these.
func (w *World) Others(not ...*testcluster.Node) []*testcluster.Node {
	return slices.DeleteFunc(slices.Clone(w.Nodes), func(n *testcluster.Node) bool { return slices.Contains(not, n) })
}

// other is any node but this one.
func (w *World) other(n *testcluster.Node) *testcluster.Node {
	others := w.Others(n)
	return others[w.Random.IntN(len(others))]
}

// Leader is the node that leads, which the nodes must know.
func (w *World) Leader() *testcluster.Node {
	w.T.Helper()
	var leader *testcluster.Node
	testcluster.Eventually(w.T, moveLimit, func() error {
		s, err := w.Status()
		if err != nil {
			return err
		}
		i := slices.IndexFunc(w.Nodes, func(n *testcluster.Node) bool { return n.Name == s.Leader })
		if i < 0 {
			return fmt.Errorf("%s knows no leader", s.Node)
		}
		leader = w.Nodes[i]
		return nil
	})
	return leader
}

// follower is any node that leads nothing of the broker's own.
func (w *World) follower() *testcluster.Node {
	w.T.Helper()
	return w.other(w.Leader())
}

// topicLeader is the node that leads the topic's stream: the last to log that it does.
func (w *World) topicLeader() *testcluster.Node {
	w.T.Helper()
	var leader *testcluster.Node
	last := ""
	for _, n := range w.Nodes {
		log := n.Log()
		at := strings.LastIndex(log, "new stream leader for 'LEASEHOLD > "+Topic+"'")
		if at < 0 {
			continue
		}
		line := log[strings.LastIndexByte(log[:at], '\n')+1:]
		if stamp, _, _ := strings.Cut(line, " "); stamp > last {
			leader, last = n, stamp
		}
	}
	if leader == nil {
		w.T.Fatalf("no node says that it leads %s", Topic)
	}
	return leader
}

// serving is the node that the load is connected to.
func (w *World) serving() *testcluster.Node {
	w.T.Helper()
	for _, n := range w.Nodes {
		connected, err := exec.Command("ss", "-Htn", "state", "established", "dst", n.Listeners()[0]).Output()
		if err != nil {
			w.T.Fatalf("look at connections to %s: %v", n.Name, err)
		}
		if len(connected) > 0 {
			return n
		}
	}
	w.T.Fatal("the load is connected to no node")
	return nil
}

// Place is the node's place in Nodes, Disks and Groups; its host in Net is one higher.
func (w *World) Place(n *testcluster.Node) int { return slices.Index(w.Nodes, n) }

// Host is the number of the node's host in Net or Switch.
func (w *World) Host(n *testcluster.Node) int { return w.Place(n) + 1 }

// DiskOf is the node's disk.
func (w *World) DiskOf(n *testcluster.Node) *disk.Disk { return w.Disks[w.Place(n)] }

// GroupOf is the node's control group. What is in it is said by Add; see Grouped.
func (w *World) GroupOf(n *testcluster.Node) *cgroup.Group { return w.Groups[w.Place(n)] }

// Grouped is the node's control group, with its present life and its handlers in it.
func (w *World) Grouped(n *testcluster.Node) *cgroup.Group {
	w.T.Helper()
	g := w.GroupOf(n)
	w.must(g.Add(n.PID()))
	return g
}

// hold stops a node and its handlers, and returns what lets them go on.
func (w *World) hold(n *testcluster.Node) (release func()) {
	w.T.Helper()
	n.Stop()
	letHandlersGo := n.HoldHandlers()
	return func() {
		letHandlersGo()
		n.Cont()
		n.StartIfGone(testcluster.WakeLimit)
	}
}

// end makes sure that the node's process is gone, whether it has ended by itself or not.
func (w *World) end(n *testcluster.Node) {
	w.T.Helper()
	select {
	case <-n.Exited():
		w.T.Logf("%s had ended with exit code %d", n.Name, n.WaitExit())
	default:
		n.Kill()
	}
}

// remove takes an identity that is gone for good out of the cluster.
func (w *World) remove(n *testcluster.Node) {
	w.T.Helper()
	other := w.Others(n)[0]
	testcluster.Eventually(w.T, moveLimit, func() error {
		if code, out := other.Command("node", "remove", n.Name, "--yes"); code != 0 {
			return fmt.Errorf("node remove: %d: %s", code, out)
		}
		return nil
	})
}

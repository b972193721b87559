package membership

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"leasehold/internal/api"
	"leasehold/internal/harness/history"
	"leasehold/internal/harness/scenario"
	"leasehold/internal/harness/testcluster"
	"leasehold/partitioner"
)

// waitOwned waits until each of these nodes owns so many partitions of the group, and nothing is without an owner.
func waitOwned(c *testcluster.Cluster, asked *testcluster.Node, group string, owned map[*testcluster.Node]int) {
	c.T.Helper()
	testcluster.Eventually(c.T, testcluster.MoveLimit, func() error {
		s, err := asked.Status()
		if err != nil {
			return err
		}
		g := s.Group(group)
		for n, want := range owned {
			if got := g.Owned(n.Name); got != want || g.Unowned > 0 {
				return fmt.Errorf("%s says that %s owns %d of group %s, want %d; unowned %d of %d",
					asked.Name, n.Name, got, group, want, g.Unowned, len(g.Partitions))
			}
		}
		return nil
	})
}

// One node lacks a group and a topic: they are never planned to it, nor the topic's housekeeping. Then the group goes
// out of every config: it holds messages back until it is removed, and its name is used up.
func TestGroupsAndTopicsOfSomeNodesOnly(t *testing.T) {
	orders, extra := testcluster.Topic{Name: "orders", Partitions: 8}, testcluster.Topic{Name: "extra", Partitions: 4}
	calls := testcluster.Group{Name: "calls", Topic: "orders", Handler: `{ kind = "discard" }`}
	audit := testcluster.Group{Name: "audit", Topic: "orders", Handler: `{ kind = "discard" }`}
	side := testcluster.Group{Name: "side", Topic: "extra", Handler: `{ kind = "discard" }`}
	c := testcluster.New(t, testcluster.Spec{Topics: []testcluster.Topic{orders, extra},
		Groups: []testcluster.Group{calls, audit, side}})
	n1, n2, n3 := c.Nodes[0], c.Nodes[1], c.Nodes[2]
	less := n3.Own()
	less.Topics, less.Groups = []testcluster.Topic{orders}, []testcluster.Group{calls}
	n3.Configure(less)
	c.StartAll(testcluster.StartLimit)

	for _, asked := range []*testcluster.Node{n1, n3} { // also the node that has none of it shows all
		waitOwned(c, asked, "audit", map[*testcluster.Node]int{n1: 4, n2: 4, n3: 0})
		waitOwned(c, asked, "side", map[*testcluster.Node]int{n1: 2, n2: 2, n3: 0})
		asked.WaitOutput(testcluster.MoveLimit, 0, []string{"audit", "served", "n1, n2"}, "group", "list")
	}
	c.WaitBalanced(testcluster.MoveLimit, "calls")
	n1.WaitOutput(testcluster.MoveLimit, 0, []string{"node n3 runs with other topic or group settings"}, "status")

	c.Publish(orders, 400)
	c.Publish(extra, 100)
	testcluster.Eventually(t, testcluster.MoveLimit, func() error { // the janitor does its work where the topic is
		d, err := n3.Topic("extra")
		if err == nil && (d.Floor == 0 || strings.Join(d.Nodes, " ") != "n1 n2") {
			err = fmt.Errorf("%+v", d)
		}
		return err
	})
	if strings.Contains(n3.Log(), "lease._housekeeping_extra") ||
		!strings.Contains(n1.Log()+n2.Log(), "lease._housekeeping_extra") {
		t.Error("n3, which lacks the topic, had its housekeeping, or nobody had it")
	}
	if strings.Contains(n3.Log(), "lease.audit") {
		t.Error("n3 ran a lane of a group that it lacks")
	}
	n1.Want(11, []string{"served by n1, n2"}, "group", "remove", "audit", "--yes")
	n1.Want(5, nil, "group", "remove", "nope", "--yes")

	for _, n := range []*testcluster.Node{n1, n2} { // rolled out one by one
		n.Term()
		own := n.Own()
		own.Groups = []testcluster.Group{calls, side}
		n.Configure(own)
		n.Start()
		c.WaitReady(testcluster.StartLimit)
	}
	n3.WaitOutput(testcluster.MoveLimit, 0, []string{"group audit is in no live node's config",
		"leasehold group remove audit"}, "status")
	c.Publish(orders, 1000)
	c.WaitDrained(testcluster.MoveLimit, "calls")
	if d, err := n1.Topic("orders"); err != nil || d.FirstSeq > 401 {
		t.Errorf("messages that an idle group has not finished are gone: %+v, %v", d, err)
	}
	n1.Want(0, []string{"up to sequence"}, "group", "remove", "audit", "--dry-run")
	n1.Want(0, []string{"removed"}, "group", "remove", "audit", "--yes")
	testcluster.Eventually(t, testcluster.MoveLimit, func() error {
		d, err := n1.Topic("orders")
		if err == nil && d.Floor <= 400 { // the last of each partition's messages lie after that
			err = fmt.Errorf("purged up to %d of %d", d.Floor, d.LastSeq)
		}
		return err
	})
	n3.Want(0, []string{"removed"}, "group", "list")

	n2.Term()
	own := n2.Own()
	own.Groups = []testcluster.Group{calls, audit, side}
	n2.Configure(own)
	n2.Start()
	if code := n2.WaitExit(); code != 2 || !strings.Contains(n2.Log(), `group "audit" was removed`) {
		t.Errorf("a config with a removed group: exit code %d", code)
	}
}

// voters asks a node how many vote, and how many of them live.
func voters(n *testcluster.Node) (api.Voters, error) {
	var list api.NodeList
	err := n.Ask(&list, "node", "list")
	return list.Voters, err
}

func waitVoters(c *testcluster.Cluster, asked *testcluster.Node, count, alive int) {
	c.T.Helper()
	testcluster.Eventually(c.T, testcluster.MoveLimit, func() error {
		v, err := voters(asked)
		if err == nil && (v.Count != count || v.Alive != alive || v.Quorum != count/2+1) {
			err = fmt.Errorf("%+v, want %d voters, %d alive", v, count, alive)
		}
		return err
	})
}

// A fourth and a fifth node join a cluster whose nodes do not list them, and read topics that they have no copy of. One
// is killed and removed, another comes back with an empty disk. All the while messages come in: none is lost, and the
// order of each key holds.
func TestLongNodesJoinAndAreRemovedUnderLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("make test-long runs it")
	}
	const partitions = 20
	c := testcluster.New(t, testcluster.Spec{Cluster: scenario.SlowTakeover,
		Topics: []testcluster.Topic{{Name: "orders", Partitions: partitions}}})
	c.AddGroup(testcluster.Group{Name: scenario.Group, Topic: "orders",
		Handler: c.CallLogHandler(testcluster.CallLogOptions{Delay: 5 * time.Millisecond})})
	c.StartAll(testcluster.StartLimit)
	c.WaitBalanced(testcluster.MoveLimit, scenario.Group)
	n1, n2, n3 := c.Nodes[0], c.Nodes[1], c.Nodes[2]
	load := testcluster.StartLoad(t, c.URLs(),
		testcluster.LoadSpec{Topic: partitioner.Topic{Name: "orders", Partitions: partitions}, Keys: 100, Rate: 100,
			Burst: 500})

	n4 := c.AddNode("n4", n1, n2, n3)
	n4.Start()
	c.WaitReady(testcluster.StartLimit)
	c.WaitBalanced(testcluster.MoveLimit, scenario.Group)
	n1.WaitOutput(testcluster.MoveLimit, 0, []string{"4 voters, which survive the loss of no more nodes than 3",
		"node n4: not in this node's cluster.nodes"}, "status")
	n5 := c.AddNode("n5", n1, n2, n3, n4)
	n5.Start()
	c.WaitReady(testcluster.StartLimit)
	c.WaitBalanced(testcluster.MoveLimit, scenario.Group)
	waitVoters(c, n5, 5, 5)
	if d, err := n1.Topic("orders"); err != nil || len(d.Replicas) != 3 {
		t.Errorf("copies of the topic: %v, %v", d.Replicas, err)
	}

	n1.Want(11, []string{"node n4 is alive"}, "node", "remove", "n4", "--yes")
	n1.Want(5, []string{"no node n9"}, "node", "remove", "n9", "--yes")
	n5.Kill()
	n1.Want(11, []string{"its session is live"}, "node", "remove", "n5", "--yes")
	c.WaitLeft(testcluster.MoveLimit, scenario.Group, n5)
	n1.WaitOutput(testcluster.MoveLimit, 0, []string{"before: 5 voters, 4 alive, 3 needed",
		"after:  4 voters, 4 alive, 3 needed"}, "node", "remove", "n5", "--dry-run")
	n1.Want(0, []string{"removed; now 4 voters"}, "node", "remove", "n5", "--yes")
	waitVoters(c, n2, 4, 4)
	n5.Start()
	if code := n5.WaitExit(); code != 2 || !strings.Contains(n5.Log(), "was removed from the cluster") {
		t.Errorf("a removed identity: exit code %d", code)
	}

	n4.Kill()
	n4.WipeDisk()
	n4.Start()
	n4.WaitNotReady(testcluster.MoveLimit, "leasehold node remove n4")
	n1.WaitOutput(testcluster.MoveLimit, 0, []string{"former", "joining", "5 voters, 4 alive, 3 needed"}, "node", "list")
	n1.WaitOutput(testcluster.MoveLimit, 0, []string{"removed; now 4 voters"}, "node", "remove", "n4", "--yes")
	c.WaitReady(testcluster.StartLimit)
	c.WaitBalanced(testcluster.MoveLimit, scenario.Group)

	n4.Term() // back to three
	n1.WaitOutput(testcluster.MoveLimit, 0, []string{"removed; now 3 voters"}, "node", "remove", "n4", "--yes")
	c.WaitBalanced(testcluster.MoveLimit, scenario.Group)
	n1.WaitOutput(testcluster.MoveLimit, 0, []string{"OK: cluster"}, "status")
	scenario.Judge(t, c, load, history.Rules{
		Groups: []string{scenario.Group}, Repeats: history.RepeatsAfterAnyKill, RepeatWithin: 15 * time.Second,
		MinAcked: 500, MinKeys: 100, MinKills: 2,
	})
}

// Of three nodes one loses its disk: it says what to do, and is whole again once its former identity is removed, so
// that another may fail. Before, a second machine takes its name, and is turned away without leaving a trace.
func TestLongLostDiskAndSecondMachine(t *testing.T) {
	if testing.Short() {
		t.Skip("make test-long runs it")
	}
	c := testcluster.New(t, testcluster.Spec{Topics: []testcluster.Topic{{Name: "orders", Partitions: 6}},
		Groups: []testcluster.Group{{Name: scenario.Group, Topic: "orders", Handler: `{ kind = "discard" }`}}})
	c.StartAll(testcluster.StartLimit)
	c.WaitBalanced(testcluster.MoveLimit, scenario.Group)
	n1, n2, n3 := c.Nodes[0], c.Nodes[1], c.Nodes[2]

	twin := c.AddNode("n2", n1, n2, n3)
	twin.Start()
	alive := fmt.Sprintf("another node n2 is alive at 127.0.0.1:%d", n2.Ports.Cluster)
	if code := twin.WaitExit(); code != 2 || !strings.Contains(twin.Log(), alive) {
		t.Errorf("a second machine with another address: exit code %d, want %q in its log", code, alive)
	}
	waitVoters(c, n1, 3, 3)
	twin.WipeDisk()
	twin.Ports.Cluster = n2.Ports.Cluster
	twin.Configure(twin.Own())
	twin.Start()
	if code := twin.WaitExit(); code == 0 || !strings.Contains(twin.Log(), "in use") {
		t.Errorf("a second machine at the same address: exit code %d", code)
	}
	c.Nodes = c.Nodes[:3]
	if err := n2.Ready(); err != nil {
		t.Errorf("the first of that name: %v", err)
	}

	c.Publish(testcluster.Topic{Name: "orders", Partitions: 6}, 200)
	n2.Kill()
	n2.WipeDisk()
	n2.Start()
	n2.WaitNotReady(testcluster.MoveLimit, "leasehold node remove n2")
	n2.WaitOutput(testcluster.MoveLimit, 0, []string{"former", "joining"}, "node", "list")
	n1.WaitOutput(testcluster.MoveLimit, 10, []string{"node n2: an earlier identity, still a voter"}, "status")
	n1.WaitOutput(testcluster.MoveLimit, 0, []string{"removed; now 3 voters, 3 alive, 2 needed"}, "node", "remove", "n2",
		"--yes")
	c.WaitReady(testcluster.StartLimit)
	c.WaitBalanced(testcluster.MoveLimit, scenario.Group)
	testcluster.Eventually(t, testcluster.MoveLimit, func() error {
		d, err := n1.Topic("orders")
		if err == nil && strings.Count(strings.Join(d.Replicas, " "), "n2") != 1 {
			err = fmt.Errorf("copies of the topic are on %v", d.Replicas)
		}
		return err
	})
	n3.Kill() // any one may fail again
	c.WaitLeft(testcluster.MoveLimit, scenario.Group, n3)
	c.Publish(testcluster.Topic{Name: "orders", Partitions: 6}, 300)
	c.WaitDrained(testcluster.MoveLimit, scenario.Group)
}

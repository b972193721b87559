package testcluster

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"leasehold/internal/api"
	"leasehold/internal/harness/history"
	"leasehold/partitioner"
)

// want runs a command and checks its exit code, and that its output has each part.
func (n *Node) want(code int, parts []string, args ...string) {
	n.cluster.t.Helper()
	if err := n.check(code, parts, args...); err != nil {
		n.cluster.t.Error(err)
	}
}

func (n *Node) check(code int, parts []string, args ...string) error {
	got, out := n.Command(args...)
	if got != code {
		return fmt.Errorf("%v on %s: exit code %d, want %d:\n%s", args, n.Name, got, code, out)
	}
	for _, p := range parts {
		if !strings.Contains(out, p) {
			return fmt.Errorf("%v on %s: no %q in:\n%s", args, n.Name, p, out)
		}
	}
	return nil
}

// waitOutput waits until a command ends so.
func (n *Node) waitOutput(limit time.Duration, code int, parts []string, args ...string) {
	n.cluster.t.Helper()
	Eventually(n.cluster.t, limit, func() error { return n.check(code, parts, args...) })
}

// waitOwned waits until each of these nodes owns so many partitions of the group, and nothing is without an owner.
func (c *Cluster) waitOwned(asked *Node, group string, owned map[*Node]int) {
	c.t.Helper()
	Eventually(c.t, moveLimit, func() error {
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

// topic asks a node about a topic.
func (n *Node) topic(name string) (api.TopicDetail, error) {
	var list api.TopicList
	if err := n.ask(&list, "topic", "list"); err != nil {
		return api.TopicDetail{}, err
	}
	for _, t := range list.Topics {
		if t.Name == name {
			return t, nil
		}
	}
	return api.TopicDetail{}, errors.New("no such topic")
}

// publish publishes until there are so many messages in all: the ids of a second call begin like those of the first.
func (c *Cluster) publish(topic Topic, messages int) {
	c.t.Helper()
	load := StartLoad(c.t, c.URLs()[:1], LoadSpec{
		Topic: partitioner.Topic{Name: topic.Name, Partitions: topic.Partitions}, Keys: 50, Burst: messages, Seed: uint64(messages),
	})
	Eventually(c.t, moveLimit, func() error {
		if n := load.Published(); n < messages {
			return fmt.Errorf("%d of %d published", n, messages)
		}
		return nil
	})
	load.Stop(c.t, drainLimit)
}

// One node lacks a group and a topic: they are never planned to it, nor the topic's chores. Then the group goes out of
// every config: it holds messages back until it is removed, and its name is used up.
func TestGroupsAndTopicsOfSomeNodesOnly(t *testing.T) {
	orders, extra := Topic{Name: "orders", Partitions: 8}, Topic{Name: "extra", Partitions: 4}
	calls := Group{Name: "calls", Topic: "orders", Handler: `{ kind = "discard" }`}
	audit := Group{Name: "audit", Topic: "orders", Handler: `{ kind = "discard" }`}
	side := Group{Name: "side", Topic: "extra", Handler: `{ kind = "discard" }`}
	c := New(t, Spec{Topics: []Topic{orders, extra}, Groups: []Group{calls, audit, side}})
	n1, n2, n3 := c.Nodes[0], c.Nodes[1], c.Nodes[2]
	less := n3.Own()
	less.Topics, less.Groups = []Topic{orders}, []Group{calls}
	n3.configure(less)
	c.StartAll(startLimit)

	for _, asked := range []*Node{n1, n3} { // also the node that has none of it shows all
		c.waitOwned(asked, "audit", map[*Node]int{n1: 4, n2: 4, n3: 0})
		c.waitOwned(asked, "side", map[*Node]int{n1: 2, n2: 2, n3: 0})
		asked.waitOutput(moveLimit, 0, []string{"audit", "served", "n1, n2"}, "group", "list")
	}
	c.WaitBalanced(moveLimit, "calls")
	n1.waitOutput(moveLimit, 0, []string{"node n3 runs with other topic or group settings"}, "status")

	c.publish(orders, 400)
	c.publish(extra, 100)
	Eventually(t, moveLimit, func() error { // the janitor does its work where the topic is
		d, err := n3.topic("extra")
		if err == nil && (d.Floor == 0 || strings.Join(d.Nodes, " ") != "n1 n2") {
			err = fmt.Errorf("%+v", d)
		}
		return err
	})
	if strings.Contains(n3.Log(), "lease._chores_extra") || !strings.Contains(n1.Log()+n2.Log(), "lease._chores_extra") {
		t.Error("n3, which lacks the topic, had its chores, or nobody had them")
	}
	if strings.Contains(n3.Log(), "lease.audit") {
		t.Error("n3 ran a lane of a group that it lacks")
	}
	n1.want(11, []string{"served by n1, n2"}, "group", "remove", "audit", "--yes")
	n1.want(5, nil, "group", "remove", "nope", "--yes")

	for _, n := range []*Node{n1, n2} { // rolled out one by one
		n.Term()
		own := n.Own()
		own.Groups = []Group{calls, side}
		n.configure(own)
		n.Start()
		c.WaitReady(startLimit)
	}
	n3.waitOutput(moveLimit, 0, []string{"group audit is in no live node's config", "leasehold group remove audit"}, "status")
	c.publish(orders, 1000)
	c.WaitDrained(moveLimit, "calls")
	if d, err := n1.topic("orders"); err != nil || d.FirstSeq > 401 {
		t.Errorf("messages that an idle group has not finished are gone: %+v, %v", d, err)
	}
	n1.want(0, []string{"up to sequence"}, "group", "remove", "audit", "--dry-run")
	n1.want(0, []string{"removed"}, "group", "remove", "audit", "--yes")
	Eventually(t, moveLimit, func() error {
		d, err := n1.topic("orders")
		if err == nil && d.Floor <= 400 { // the last of each partition's messages lie after that
			err = fmt.Errorf("purged up to %d of %d", d.Floor, d.LastSeq)
		}
		return err
	})
	n3.want(0, []string{"removed"}, "group", "list")

	n2.Term()
	own := n2.Own()
	own.Groups = []Group{calls, audit, side}
	n2.configure(own)
	n2.Start()
	if code := n2.WaitExit(); code != 2 || !strings.Contains(n2.Log(), `group "audit" was removed`) {
		t.Errorf("a config with a removed group: exit code %d", code)
	}
}

// voters asks a node how many vote, and how many of them live.
func (n *Node) voters() (api.Voters, error) {
	var list api.NodeList
	err := n.ask(&list, "node", "list")
	return list.Voters, err
}

func (c *Cluster) waitVoters(asked *Node, count, alive int) {
	c.t.Helper()
	Eventually(c.t, moveLimit, func() error {
		v, err := asked.voters()
		if err == nil && (v.Count != count || v.Alive != alive || v.Quorum != count/2+1) {
			err = fmt.Errorf("%+v, want %d voters, %d alive", v, count, alive)
		}
		return err
	})
}

// waitNotReady waits until a node that runs is not ready for a reason that has the text.
func (n *Node) waitNotReady(limit time.Duration, text string) {
	n.cluster.t.Helper()
	Eventually(n.cluster.t, limit, func() error {
		err := n.Ready()
		if err == nil || !strings.Contains(err.Error(), text) {
			return fmt.Errorf("readiness of %s: %v, want %q", n.Name, err, text)
		}
		return nil
	})
}

// A fourth and a fifth node join a cluster whose nodes do not list them, and read topics that they have no copy of. One
// is killed and removed, another comes back with an empty disk. All the while messages come in: none is lost, and the
// order of each key holds.
func TestNodesJoinAndAreRemovedUnderLoad(t *testing.T) {
	const partitions = 20
	c := New(t, Spec{Cluster: slowTakeover, Topics: []Topic{{Name: "orders", Partitions: partitions}}})
	c.addGroup(Group{Name: faultGroup, Topic: "orders", Handler: c.CallLogHandler(CallLogOptions{Delay: 5 * time.Millisecond})})
	c.StartAll(startLimit)
	c.WaitBalanced(moveLimit, faultGroup)
	n1, n2, n3 := c.Nodes[0], c.Nodes[1], c.Nodes[2]
	load := StartLoad(t, c.URLs(), LoadSpec{Topic: partitioner.Topic{Name: "orders", Partitions: partitions}, Keys: 100, Rate: 100, Burst: 500})

	n4 := c.AddNode("n4", n1, n2, n3)
	n4.Start()
	c.WaitReady(startLimit)
	c.WaitBalanced(moveLimit, faultGroup)
	n1.waitOutput(moveLimit, 0, []string{"4 voters, which survive the loss of no more nodes than 3", "node n4: not in this node's cluster.nodes"}, "status")
	n5 := c.AddNode("n5", n1, n2, n3, n4)
	n5.Start()
	c.WaitReady(startLimit)
	c.WaitBalanced(moveLimit, faultGroup)
	c.waitVoters(n5, 5, 5)
	if d, err := n1.topic("orders"); err != nil || len(d.Replicas) != 3 {
		t.Errorf("copies of the topic: %v, %v", d.Replicas, err)
	}

	n1.want(11, []string{"node n4 is alive"}, "node", "remove", "n4", "--yes")
	n1.want(5, []string{"no node n9"}, "node", "remove", "n9", "--yes")
	n5.Kill()
	n1.want(11, []string{"its session is live"}, "node", "remove", "n5", "--yes")
	c.WaitLeft(moveLimit, faultGroup, n5)
	n1.waitOutput(moveLimit, 0, []string{"before: 5 voters, 4 alive, 3 needed", "after:  4 voters, 4 alive, 3 needed"}, "node", "remove", "n5", "--dry-run")
	n1.want(0, []string{"removed; now 4 voters"}, "node", "remove", "n5", "--yes")
	c.waitVoters(n2, 4, 4)
	n5.Start()
	if code := n5.WaitExit(); code != 2 || !strings.Contains(n5.Log(), "was removed from the cluster") {
		t.Errorf("a removed identity: exit code %d", code)
	}

	n4.Kill()
	n4.WipeDisk()
	n4.Start()
	n4.waitNotReady(moveLimit, "leasehold node remove n4")
	n1.waitOutput(moveLimit, 0, []string{"former", "joining", "5 voters, 4 alive, 3 needed"}, "node", "list")
	n1.waitOutput(moveLimit, 0, []string{"removed; now 4 voters"}, "node", "remove", "n4", "--yes")
	c.WaitReady(startLimit)
	c.WaitBalanced(moveLimit, faultGroup)

	n4.Term() // back to three
	n1.waitOutput(moveLimit, 0, []string{"removed; now 3 voters"}, "node", "remove", "n4", "--yes")
	c.WaitBalanced(moveLimit, faultGroup)
	n1.waitOutput(moveLimit, 0, []string{"OK: cluster"}, "status")
	judge(t, c, load, history.Rules{
		Groups: []string{faultGroup}, Repeats: history.RepeatsAfterAnyKill, RepeatWithin: 15 * time.Second,
		MinAcked: 500, MinKeys: 100, MinKills: 2,
	})
}

// Of three nodes one loses its disk: it says what to do, and is whole again once its former identity is removed, so that
// another may fail. Before, a second machine takes its name, and is turned away without leaving a trace.
func TestLostDiskAndSecondMachine(t *testing.T) {
	c := New(t, Spec{Topics: []Topic{{Name: "orders", Partitions: 6}}, Groups: []Group{{Name: faultGroup, Topic: "orders", Handler: `{ kind = "discard" }`}}})
	c.StartAll(startLimit)
	c.WaitBalanced(moveLimit, faultGroup)
	n1, n2, n3 := c.Nodes[0], c.Nodes[1], c.Nodes[2]

	twin := c.AddNode("n2", n1, n2, n3)
	twin.Start()
	alive := fmt.Sprintf("another node n2 is alive at 127.0.0.1:%d", n2.ports.cluster)
	if code := twin.WaitExit(); code != 2 || !strings.Contains(twin.Log(), alive) {
		t.Errorf("a second machine with another address: exit code %d, want %q in its log", code, alive)
	}
	c.waitVoters(n1, 3, 3)
	twin.WipeDisk()
	twin.ports.cluster = n2.ports.cluster
	twin.configure(twin.Own())
	twin.Start()
	if code := twin.WaitExit(); code == 0 || !strings.Contains(twin.Log(), "in use") {
		t.Errorf("a second machine at the same address: exit code %d", code)
	}
	c.Nodes = c.Nodes[:3]
	if err := n2.Ready(); err != nil {
		t.Errorf("the first of that name: %v", err)
	}

	c.publish(Topic{Name: "orders", Partitions: 6}, 200)
	n2.Kill()
	n2.WipeDisk()
	n2.Start()
	n2.waitNotReady(moveLimit, "leasehold node remove n2")
	n2.waitOutput(moveLimit, 0, []string{"former", "joining"}, "node", "list")
	n1.waitOutput(moveLimit, 10, []string{"node n2: an earlier identity, still a voter"}, "status")
	n1.waitOutput(moveLimit, 0, []string{"removed; now 3 voters, 3 alive, 2 needed"}, "node", "remove", "n2", "--yes")
	c.WaitReady(startLimit)
	c.WaitBalanced(moveLimit, faultGroup)
	Eventually(t, moveLimit, func() error {
		d, err := n1.topic("orders")
		if err == nil && strings.Count(strings.Join(d.Replicas, " "), "n2") != 1 {
			err = fmt.Errorf("copies of the topic are on %v", d.Replicas)
		}
		return err
	})
	n3.Kill() // any one may fail again
	c.WaitLeft(moveLimit, faultGroup, n3)
	c.publish(Topic{Name: "orders", Partitions: 6}, 300)
	c.WaitDrained(moveLimit, faultGroup)
}

package testcluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"leasehold/internal/api"
	"leasehold/partitioner"
)

// roll gives a node another config and restarts it, by SIGTERM or kill -9, and waits until every node that runs is ready.
func (c *Cluster) roll(n *Node, o Own, stop func(*Node)) {
	c.t.Helper()
	stop(n)
	n.configure(o)
	n.Start()
	c.WaitReady(startLimit)
}

func term(n *Node) { n.Term() }
func kill(n *Node) { n.Kill() }

// streamDir is where a node's copy of a stream is.
func (n *Node) streamDir(stream string) string {
	return filepath.Join(n.DataDir(), "jetstream", "LEASEHOLD", "streams", stream)
}

// waitNoStream waits until no node has a copy of a stream on its disk.
func (c *Cluster) waitNoStream(stream string) {
	c.t.Helper()
	Eventually(c.t, moveLimit, func() error {
		for _, n := range c.Nodes {
			if _, err := os.Stat(n.streamDir(stream)); err == nil {
				return fmt.Errorf("%s still has a copy of %s", n.Name, stream)
			}
		}
		return nil
	})
}

// Every change of topics, groups and sizes that operators make, rolled out one node at a time and in part by kill -9, with sizes left
// to their defaults: every node gets ready with each, whatever the others' configs say, and what is published meanwhile is handled.
func TestNoChangeOfSizesKeepsANodeFromWorking(t *testing.T) {
	events, orders := Topic{Name: "events", Partitions: 6}, Topic{Name: "orders", Partitions: 6}
	group := func(name, topic string) Group {
		return Group{Name: name, Topic: topic, Handler: `{ kind = "discard" }`}
	}
	judge, second := group("judge", "events"), group("second", "events")
	c := New(t, Spec{Topics: []Topic{events}, Groups: []Group{judge, second}, Server: `max_store = "2GiB"`})
	c.StartAll(startLimit)
	n1, n2, n3 := c.Nodes[0], c.Nodes[1], c.Nodes[2]
	config := func(topics []Topic, groups ...Group) Own { return Own{Peers: c.Nodes, Topics: topics, Groups: groups} }
	old, less := config([]Topic{events}, judge, second), config([]Topic{events}, judge)
	load := StartLoad(t, c.URLs(), LoadSpec{Topic: partitioner.Topic{Name: "events", Partitions: 6}, Keys: 20, Rate: 20, Seed: 1})

	c.roll(n1, less, term) // a group less, with a step back and a crash of a node with the old config
	c.roll(n2, old, kill)
	c.roll(n1, old, term)
	for _, n := range c.Nodes {
		c.roll(n, less, term)
	}
	n2.waitOutput(moveLimit, 0, []string{"group second is in no live node's config"}, "status")
	n2.want(0, []string{"removed", "of max_store are free"}, "group", "remove", "second", "--yes")
	c.waitNoStream("dlq_second")

	more := config([]Topic{events}, judge, group("third", "events"))
	c.roll(n1, more, kill) // a group more and another max_store, on one node
	c.spec.Server = `max_store = "3GiB"`
	c.roll(n2, less, kill)
	c.spec.Server = `max_store = "512MiB"`
	c.roll(n3, config([]Topic{events, {Name: "extra", Partitions: 2}}, judge), kill)
	c.waitSize(n1, "extra", 64<<20) // More than n3 has room for: n1 or n2 gives it.
	if !strings.Contains(n3.Log(), "size does not fit into max_store") || !strings.Contains(n1.Log()+n2.Log(), "stream raised: there is room in max_store") {
		t.Error("n3 had room for the topic, or neither n1 nor n2 gave it")
	}
	c.roll(n1, less, term)
	n1.want(0, nil, "group", "remove", "third", "--yes")

	load.Stop(t, drainLimit)
	c.WaitDrained(drainLimit, "judge")

	renamed := config([]Topic{orders}, group("bill", "orders"))
	for _, n := range c.Nodes {
		c.roll(n, renamed, term)
	}
	n3.waitOutput(moveLimit, 0, []string{"topic events is in no live node's config and reserves 256 MiB", "leasehold topic remove events"}, "status")
	n3.want(11, []string{"still has the groups judge"}, "topic", "remove", "events", "--yes")
	n3.want(0, nil, "group", "remove", "judge", "--yes")
	n2.Kill()
	n3.want(11, []string{"in the config of"}, "topic", "remove", "orders", "--yes")
	n3.waitOutput(moveLimit, 0, []string{"removed"}, "topic", "remove", "events", "--yes")
	n2.Start() // its copy, too, goes
	n1.waitOutput(moveLimit, 0, []string{"removed"}, "topic", "remove", "extra", "--yes")
	c.WaitReady(startLimit)
	c.waitNoStream("events")
	c.waitNoStream("extra")
	c.waitNoStream("dlq_judge")
	c.publish(orders, 200)
	c.WaitDrained(drainLimit, "bill")

	c.stateSizes(renamed)
}

// waitSize waits until a topic may hold so many bytes.
func (c *Cluster) waitSize(asked *Node, topic string, want int64) {
	c.t.Helper()
	Eventually(c.t, moveLimit, func() error {
		d, err := asked.topic(topic)
		if err == nil && d.MaxBytes != want {
			err = fmt.Errorf("%s may hold %d bytes, want %d", topic, d.MaxBytes, want)
		}
		return err
	})
}

// stateSizes has two nodes state the size and the retain of one topic: the one that started last decides, and one that states
// none leaves them.
func (c *Cluster) stateSizes(o Own) {
	c.t.Helper()
	for _, step := range []struct {
		node *Node
		line string
		size int64
		keep int64 // Milliseconds.
	}{
		{c.Nodes[0], "max_bytes = \"100MiB\"\nretain = \"1h\"", 100 << 20, 3_600_000},
		{c.Nodes[1], `max_bytes = "50MiB"`, 50 << 20, 3_600_000},
		{c.Nodes[2], `retain = "1m"`, 50 << 20, 60_000},
	} {
		o.Topics = []Topic{{Name: "orders", Partitions: 6, Extra: step.line}}
		c.roll(step.node, o, term)
		c.waitSize(step.node, "orders", step.size)
		if d, err := step.node.topic("orders"); err != nil || d.RetainMS != step.keep {
			c.t.Errorf("after %s started with %q the topic is %+v, %v", step.node.Name, step.line, d, err)
		}
	}
	var list api.TopicList
	states := map[string]string{}
	err := c.Nodes[0].ask(&list, "topic", "list")
	for _, topic := range list.Topics {
		states[topic.Name] = topic.State
	}
	if fmt.Sprint(states) != "map[events:removed extra:removed orders:used]" || err != nil {
		c.t.Errorf("%v, %v", states, err)
	}
	if log := c.Nodes[0].Log() + c.Nodes[1].Log() + c.Nodes[2].Log(); strings.Contains(log, "insufficient storage") {
		c.t.Error("a broker refused something for want of storage")
	}
}

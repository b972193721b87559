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
	c.roll(n3, less, kill)
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
	c.WaitReady(startLimit)
	c.waitNoStream("events")
	c.waitNoStream("dlq_judge")
	c.publish(orders, 200)
	c.WaitDrained(drainLimit, "bill")

	c.stateSizes(renamed)
}

// stateSizes has two nodes state a size of one topic: the one that started last decides, and one that states none leaves it.
func (c *Cluster) stateSizes(o Own) {
	c.t.Helper()
	for _, step := range []struct {
		node *Node
		line string
		want int64
	}{{c.Nodes[0], `max_bytes = "100MiB"`, 100 << 20}, {c.Nodes[1], `max_bytes = "50MiB"`, 50 << 20}, {c.Nodes[2], "", 50 << 20}} {
		o.Topics = []Topic{{Name: "orders", Partitions: 6, Extra: step.line}}
		c.roll(step.node, o, term)
		Eventually(c.t, moveLimit, func() error {
			d, err := step.node.topic("orders")
			if err == nil && d.MaxBytes != step.want {
				err = fmt.Errorf("after %s said %q orders may hold %d, want %d", step.node.Name, step.line, d.MaxBytes, step.want)
			}
			return err
		})
	}
	var list api.TopicList
	if err := c.Nodes[0].ask(&list, "topic", "list"); err != nil || len(list.Topics) != 2 || list.Topics[0].State+list.Topics[1].State != "removedused" {
		c.t.Errorf("%+v, %v", list, err)
	}
	if log := c.Nodes[0].Log() + c.Nodes[1].Log() + c.Nodes[2].Log(); strings.Contains(log, "insufficient storage") {
		c.t.Error("a broker refused something for want of storage")
	}
}

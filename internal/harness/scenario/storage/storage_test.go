package storage

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"leasehold/internal/api"
	"leasehold/internal/harness/testcluster"
	"leasehold/partitioner"
)

// roll gives a node another config and restarts it, by SIGTERM or kill -9, and waits until every node that runs is
// ready.
func roll(c *testcluster.Cluster, n *testcluster.Node, o testcluster.Own, stop func(*testcluster.Node)) {
	c.T.Helper()
	stop(n)
	n.Configure(o)
	n.Start()
	c.WaitReady(testcluster.StartLimit)
}

func term(n *testcluster.Node) { n.Term() }
func kill(n *testcluster.Node) { n.Kill() }

// streamDir is where a node's copy of a stream is.
func streamDir(n *testcluster.Node, stream string) string {
	return filepath.Join(n.DataDir(), "jetstream", "LEASEHOLD", "streams", stream)
}

// waitNoStream waits until no node has a copy of a stream on its disk.
func waitNoStream(c *testcluster.Cluster, stream string) {
	c.T.Helper()
	testcluster.Eventually(c.T, testcluster.MoveLimit, func() error {
		for _, n := range c.Nodes {
			if _, err := os.Stat(streamDir(n, stream)); err == nil {
				return fmt.Errorf("%s still has a copy of %s", n.Name, stream)
			}
		}
		return nil
	})
}

// Every change of topics, groups and sizes that operators make, rolled out one node at a time and in part by kill -9,
// with sizes left to their defaults: every node gets ready with each, whatever the others' configs say, and what is
// published meanwhile is handled.
func TestLongNoChangeOfSizesKeepsANodeFromWorking(t *testing.T) {
	if testing.Short() {
		t.Skip("make test-long runs it")
	}
	events, orders := testcluster.Topic{Name: "events", Partitions: 6}, testcluster.Topic{Name: "orders", Partitions: 6}
	group := func(name, topic string) testcluster.Group {
		return testcluster.Group{Name: name, Topic: topic, Handler: `{ kind = "discard" }`}
	}
	judge, second := group("judge", "events"), group("second", "events")
	c := testcluster.New(t, testcluster.Spec{Topics: []testcluster.Topic{events},
		Groups: []testcluster.Group{judge, second}, Server: `max_store = "2GiB"`})
	c.StartAll(testcluster.StartLimit)
	n1, n2, n3 := c.Nodes[0], c.Nodes[1], c.Nodes[2]
	config := func(topics []testcluster.Topic, groups ...testcluster.Group) testcluster.Own {
		return testcluster.Own{Peers: c.Nodes, Topics: topics, Groups: groups}
	}
	old, less := config([]testcluster.Topic{events}, judge, second), config([]testcluster.Topic{events}, judge)
	load := testcluster.StartLoad(t, c.URLs(),
		testcluster.LoadSpec{Topic: partitioner.Topic{Name: "events", Partitions: 6}, Keys: 20, Rate: 20, Seed: 1})

	roll(c, n1, less, term) // a group less, with a step back and a crash of a node with the old config
	roll(c, n2, old, kill)
	roll(c, n1, old, term)
	for _, n := range c.Nodes {
		roll(c, n, less, term)
	}
	n2.WaitOutput(testcluster.MoveLimit, 0, []string{"group second is in no live node's config"}, "status")
	n2.Want(0, []string{"removed", "of max_store are free"}, "group", "remove", "second", "--yes")
	waitNoStream(c, "dlq_second")

	more := config([]testcluster.Topic{events}, judge, group("third", "events"))
	roll(c, n1, more, kill) // a group more and another max_store, on one node
	c.Spec.Server = `max_store = "3GiB"`
	roll(c, n2, less, kill)
	c.Spec.Server = `max_store = "512MiB"`
	roll(c, n3, config([]testcluster.Topic{events, {Name: "extra", Partitions: 2}}, judge), kill)
	waitSize(c, n1, "extra", 64<<20) // More than n3 has room for: n1 or n2 gives it.
	if !strings.Contains(n3.Log(), "size does not fit into max_store") ||
		!strings.Contains(n1.Log()+n2.Log(), "stream raised: there is room in max_store") {
		t.Error("n3 had room for the topic, or neither n1 nor n2 gave it")
	}
	roll(c, n1, less, term)
	n1.Want(0, nil, "group", "remove", "third", "--yes")

	load.Stop(t, testcluster.DrainLimit)
	c.WaitDrained(testcluster.DrainLimit, "judge")

	renamed := config([]testcluster.Topic{orders}, group("bill", "orders"))
	for _, n := range c.Nodes {
		roll(c, n, renamed, term)
	}
	n3.WaitOutput(testcluster.MoveLimit, 0, []string{"topic events is in no live node's config and reserves 256 MiB",
		"leasehold topic remove events"}, "status")
	n3.Want(11, []string{"still has the groups judge"}, "topic", "remove", "events", "--yes")
	n3.Want(0, nil, "group", "remove", "judge", "--yes")
	n2.Kill()
	n3.Want(11, []string{"in the config of"}, "topic", "remove", "orders", "--yes")
	n3.WaitOutput(testcluster.MoveLimit, 0, []string{"removed"}, "topic", "remove", "events", "--yes")
	n2.Start() // its copy, too, goes
	n1.WaitOutput(testcluster.MoveLimit, 0, []string{"removed"}, "topic", "remove", "extra", "--yes")
	c.WaitReady(testcluster.StartLimit)
	waitNoStream(c, "events")
	waitNoStream(c, "extra")
	waitNoStream(c, "dlq_judge")
	c.Publish(orders, 200)
	c.WaitDrained(testcluster.DrainLimit, "bill")

	stateSizes(c, renamed)
}

// waitSize waits until a topic may hold so many bytes.
func waitSize(c *testcluster.Cluster, asked *testcluster.Node, topic string, want int64) {
	c.T.Helper()
	testcluster.Eventually(c.T, testcluster.MoveLimit, func() error {
		d, err := asked.Topic(topic)
		if err == nil && d.MaxBytes != want {
			err = fmt.Errorf("%s may hold %d bytes, want %d", topic, d.MaxBytes, want)
		}
		return err
	})
}

// stateSizes has two nodes state the size and the retain of one topic: the one that started last decides, and one that
// states none leaves them.
func stateSizes(c *testcluster.Cluster, o testcluster.Own) {
	c.T.Helper()
	for _, step := range []struct {
		node *testcluster.Node
		line string
		size int64
		keep int64 // Milliseconds.
	}{
		{c.Nodes[0], "max_bytes = \"100MiB\"\nretain = \"1h\"", 100 << 20, 3_600_000},
		{c.Nodes[1], `max_bytes = "50MiB"`, 50 << 20, 3_600_000},
		{c.Nodes[2], `retain = "1m"`, 50 << 20, 60_000},
	} {
		o.Topics = []testcluster.Topic{{Name: "orders", Partitions: 6, Extra: step.line}}
		roll(c, step.node, o, term)
		waitSize(c, step.node, "orders", step.size)
		if d, err := step.node.Topic("orders"); err != nil || d.RetainMS != step.keep {
			c.T.Errorf("after %s started with %q the topic is %+v, %v", step.node.Name, step.line, d, err)
		}
	}
	var list api.TopicList
	states := map[string]string{}
	err := c.Nodes[0].Ask(&list, "topic", "list")
	for _, topic := range list.Topics {
		states[topic.Name] = topic.State
	}
	if fmt.Sprint(states) != "map[events:removed extra:removed orders:used]" || err != nil {
		c.T.Errorf("%v, %v", states, err)
	}
	if log := c.Nodes[0].Log() + c.Nodes[1].Log() + c.Nodes[2].Log(); strings.Contains(log, "insufficient storage") {
		c.T.Error("a broker refused something for want of storage")
	}
}

package testcluster

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"leasehold/partitioner"
)

// How a node's log says why another one was declared dead.
const (
	buriedText = "node declared dead"
	byWitness  = "process gone"
	bySilence  = "silent for"
)

const (
	deathGroup      = "calls"
	deathPartitions = 8
	busyFor         = 2 * time.Second
)

func startWitnessRun(t *testing.T, cluster string, o CallLogOptions) *Cluster {
	t.Helper()
	c := New(t, Spec{Topics: []Topic{{Name: "orders", Partitions: deathPartitions}}, Cluster: cluster})
	c.StartGroup(Group{Name: deathGroup, Topic: "orders", Handler: c.CallLogHandler(o)})
	return c
}

// burials are the lines of the nodes' logs that say that a node was declared dead, and why.
func (c *Cluster) burials(dead *Node) (lines []string) {
	c.t.Helper()
	for _, n := range c.without(dead) {
		for line := range strings.Lines(n.Log()) {
			if strings.Contains(line, buriedText) && strings.Contains(line, "node="+dead.Name) {
				lines = append(lines, strings.TrimSpace(line))
			}
		}
	}
	return lines
}

// wantBurial waits until a node is declared dead and its partitions are gone, and wants it to have been for that reason.
func (c *Cluster) wantBurial(dead *Node, reason string) {
	c.t.Helper()
	Eventually(c.t, moveLimit, func() error {
		if len(c.burials(dead)) == 0 {
			return fmt.Errorf("%s is not declared dead", dead.Name)
		}
		return nil
	})
	c.WaitLeft(moveLimit, deathGroup, dead)
	lines := c.burials(dead)
	if len(lines) != 1 || !strings.Contains(lines[0], reason) {
		c.t.Errorf("%s was declared dead otherwise than because %s:\n%s", dead.Name, reason, strings.Join(lines, "\n"))
	}
}

// follower is a node that does not lead the cluster.
func (c *Cluster) follower() *Node {
	c.t.Helper()
	s, err := c.Status()
	if err != nil {
		c.t.Fatal(err)
	}
	for _, n := range c.Nodes {
		if n.Name != s.Leader {
			return n
		}
	}
	c.t.Fatal("every node leads")
	return nil
}

// A killed process is seen to be gone, and nobody waits for its ttl.
func TestKilledNodeIsBuriedByWitnesses(t *testing.T) {
	c := startWitnessRun(t, "", CallLogOptions{})
	n := c.follower()
	n.Kill()
	c.wantBurial(n, byWitness)
	n.Start()
	c.WaitReady(startLimit)
	c.WaitBalanced(moveLimit, deathGroup)
	if lines := c.burials(n); len(lines) != 1 {
		t.Errorf("%s was declared dead again under its next boot:\n%s", n.Name, strings.Join(lines, "\n"))
	}
}

func TestKilledNodeIsBuriedForItsSilenceWithoutFastTakeover(t *testing.T) {
	c := startWitnessRun(t, slowTakeover, CallLogOptions{})
	n := c.follower()
	n.Kill()
	c.wantBurial(n, bySilence)
}

// A process that is stopped is not gone: its connections stay, and its port takes more.
func TestFrozenNodeIsBuriedForItsSilence(t *testing.T) {
	c := startWitnessRun(t, "", CallLogOptions{})
	n := c.follower()
	n.Stop()
	defer func() { _ = n.proc.cmd.Process.Signal(syscall.SIGCONT) }()
	c.wantBurial(n, bySilence)
}

// Nodes whose handlers are busy for longer than a death takes to be seen, and one that stops in order, are not declared
// dead by anybody.
func TestBusyNodesAndStopsAreNoDeaths(t *testing.T) {
	c := startWitnessRun(t, "", CallLogOptions{Delay: busyFor})
	load := StartLoad(t, c.URLs(), LoadSpec{Topic: partitioner.Topic{Name: "orders", Partitions: deathPartitions}, Keys: 50, Rate: 10})
	pass(2 * busyFor)
	load.Stop(t, drainLimit)
	if len(c.Calls()) == 0 {
		t.Error("no handler was busy")
	}
	n := c.follower()
	n.Term()
	c.WaitLeft(moveLimit, deathGroup, n)
	pass(2 * busyFor)
	for _, n := range c.Nodes {
		if lines := c.burials(n); len(lines) > 0 {
			t.Errorf("%s was declared dead:\n%s", n.Name, strings.Join(lines, "\n"))
		}
	}
}

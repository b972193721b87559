package handover

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"leasehold/internal/harness/scenario"
	"leasehold/internal/harness/testcluster"
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

func startWitnessRun(t *testing.T, cluster string, o testcluster.CallLogOptions) *testcluster.Cluster {
	t.Helper()
	c := testcluster.New(t, testcluster.Spec{Topics: []testcluster.Topic{{Name: "orders", Partitions: deathPartitions}},
		Cluster: cluster})
	c.StartGroup(testcluster.Group{Name: deathGroup, Topic: "orders", Handler: c.CallLogHandler(o)})
	return c
}

// burials are the lines of the nodes' logs that say that a node was declared dead, and why.
func burials(c *testcluster.Cluster, dead *testcluster.Node) (lines []string) {
	c.T.Helper()
	for _, n := range c.Without(dead) {
		for line := range strings.Lines(n.Log()) {
			if strings.Contains(line, buriedText) && strings.Contains(line, "node="+dead.Name) {
				lines = append(lines, strings.TrimSpace(line))
			}
		}
	}
	return lines
}

// wantBurial waits until a node is declared dead and its partitions are gone, and wants it to have been for that
// reason.
func wantBurial(c *testcluster.Cluster, dead *testcluster.Node, reason string) {
	c.T.Helper()
	testcluster.Eventually(c.T, testcluster.MoveLimit, func() error {
		if len(burials(c, dead)) == 0 {
			return fmt.Errorf("%s is not declared dead", dead.Name)
		}
		return nil
	})
	c.WaitLeft(testcluster.MoveLimit, deathGroup, dead)
	lines := burials(c, dead)
	if len(lines) != 1 || !strings.Contains(lines[0], reason) {
		c.T.Errorf("%s was declared dead otherwise than because %s:\n%s", dead.Name, reason, strings.Join(lines, "\n"))
	}
}

// One cluster: whom nobody declared dead works on, and is killed then.
func TestWitnessesSeeWhoIsDead(t *testing.T) {
	c := startWitnessRun(t, "", testcluster.CallLogOptions{Delay: busyFor})
	stopped := busyNodesAndStopsAreNoDeaths(t, c)
	stopped.Start()
	c.WaitReady(testcluster.StartLimit)
	c.WaitBalanced(testcluster.MoveLimit, deathGroup)
	killedNodeIsBuried(t, c)
}

// A killed process is seen to be gone, and nobody waits for its ttl.
func killedNodeIsBuried(t *testing.T, c *testcluster.Cluster) {
	t.Helper()
	n := c.Follower()
	n.Kill()
	wantBurial(c, n, byWitness)
	n.Start()
	c.WaitReady(testcluster.StartLimit)
	c.WaitBalanced(testcluster.MoveLimit, deathGroup)
	if lines := burials(c, n); len(lines) != 1 {
		t.Errorf("%s was declared dead again under its next boot:\n%s", n.Name, strings.Join(lines, "\n"))
	}
}

func TestKilledNodeIsBuriedForItsSilenceWithoutFastTakeover(t *testing.T) {
	c := startWitnessRun(t, scenario.SlowTakeover, testcluster.CallLogOptions{})
	n := c.Follower()
	n.Kill()
	wantBurial(c, n, bySilence)
}

// A process that is stopped is not gone: its connections stay, and its port takes more.
func TestLongFrozenNodeIsBuriedForItsSilence(t *testing.T) {
	if testing.Short() {
		t.Skip("make test-long runs it")
	}
	c := startWitnessRun(t, "", testcluster.CallLogOptions{})
	n := c.Follower()
	n.Stop()
	defer n.Cont()
	wantBurial(c, n, bySilence)
}

// Nodes whose handlers are busy for longer than a death takes to be seen, and one that stops in order, are not declared
// dead by anybody.
func busyNodesAndStopsAreNoDeaths(t *testing.T, c *testcluster.Cluster) (stopped *testcluster.Node) {
	t.Helper()
	load := testcluster.StartLoad(t, c.URLs(), testcluster.LoadSpec{Topic: partitioner.Topic{Name: "orders",
		Partitions: deathPartitions}, Keys: 50, Rate: 10})
	testcluster.Pass(2 * busyFor)
	load.Stop(t, testcluster.DrainLimit)
	if len(c.Calls()) == 0 {
		t.Error("no handler was busy")
	}
	n := c.Follower()
	n.Term()
	c.WaitLeft(testcluster.MoveLimit, deathGroup, n)
	testcluster.Pass(2 * busyFor)
	for _, n := range c.Nodes {
		if lines := burials(c, n); len(lines) > 0 {
			t.Errorf("%s was declared dead:\n%s", n.Name, strings.Join(lines, "\n"))
		}
	}
	return n
}

package storage

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"leasehold/internal/harness/history"
	"leasehold/internal/harness/scenario"
	"leasehold/internal/harness/testcluster"
	"leasehold/partitioner"
)

// One flipped bit, which the broker does not notice; after a kill -9 its copy lacks the rest of the file, and it calls
// itself healthy and current. The node finds it before it takes a partition, serves nothing from it, tells a person,
// and fetches the copy anew from the others.
func TestLongDamagedCopyIsFoundAndFetchedAnew(t *testing.T) {
	if testing.Short() {
		t.Skip("make test-long runs it")
	}
	const burst = 3000
	c := testcluster.New(t, testcluster.Spec{Topics: []testcluster.Topic{{Name: "orders", Partitions: scenario.Partitions,
		Extra: `retain = "1h"`}}})
	c.AddGroup(testcluster.Group{Name: scenario.Group, Topic: "orders",
		Handler: c.CallLogHandler(testcluster.CallLogOptions{})})
	c.StartAll(testcluster.StartLimit)
	load := testcluster.StartLoad(t, c.URLs(), testcluster.LoadSpec{
		Topic: partitioner.Topic{Name: "orders", Partitions: scenario.Partitions}, Keys: scenario.Keys, Rate: 50,
		Burst: burst,
	})
	load.Flows(t, testcluster.MoveLimit, burst)
	n1 := c.Nodes[0]
	n1.Term()
	n1.FlipPayload("orders")
	n1.Start()
	c.WaitReady(testcluster.StartLimit)
	load.Flows(t, testcluster.MoveLimit, 200)
	n1.Kill()
	n2, n3 := c.Nodes[1], c.Nodes[2]
	n3.Kill()
	n1.Start()
	waitWarning(n2, "node n1 has a corrupt replica of topic orders", "waits for n3-")
	if aside := aside(n1); len(aside) > 0 {
		t.Errorf("%v was given up while another copy was away", aside)
	}
	n3.Start()
	c.WaitReady(testcluster.StartLimit)

	_, found, told := strings.Cut(n1.Log(), "replica is corrupt")
	meanwhile, _, mended := strings.Cut(found, "replica was fetched again and is whole")
	if !told || !mended || !strings.Contains(meanwhile, "corrupt replica moved away") {
		t.Errorf("the log of n1 does not tell of the damage and its end: %v, %v", told, mended)
	}
	if strings.Contains(meanwhile, "lane started") {
		t.Error("n1 worked on partitions although its copy was damaged")
	}
	if aside := aside(n1); len(aside) != 1 {
		t.Errorf("set aside are %v", aside)
	}
	testcluster.Eventually(t, testcluster.MoveLimit, func() error {
		s, err := n2.Status()
		for _, w := range s.Warning {
			err = errors.Join(err, errors.New(w))
		}
		return err
	})
	scenario.Judge(t, c, load, history.Rules{
		Groups: []string{scenario.Group}, Repeats: history.RepeatsAfterAnyKill, MinAcked: burst, MinKeys: scenario.Keys,
		MinKills: 2,
	})
}

// aside lists the copies that the node has given up.
func aside(n *testcluster.Node) []string {
	n.Cluster.T.Helper()
	found, err := filepath.Glob(filepath.Join(n.Host.DataDir, "damaged", "*"))
	if err != nil {
		n.Cluster.T.Fatal(err)
	}
	return found
}

// waitWarning waits until the node's status warns of all the parts in one line.
func waitWarning(n *testcluster.Node, parts ...string) {
	n.Cluster.T.Helper()
	testcluster.Eventually(n.Cluster.T, testcluster.MoveLimit, func() error {
		s, err := n.Status()
		if err != nil {
			return err
		}
		for _, w := range s.Warning {
			if !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(w, p) }) {
				return nil
			}
		}
		return fmt.Errorf("warnings of %s are %q, want one with %q", n.Name, s.Warning, parts)
	})
}

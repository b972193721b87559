package testcluster

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"leasehold/internal/harness/history"
	"leasehold/partitioner"
)

// One flipped bit, which the broker does not notice; after a kill -9 its copy lacks the rest of the file, and it calls
// itself healthy and current. The node finds it before it takes a partition, serves nothing from it, tells a person, and
// fetches the copy anew from the others.
func TestDamagedCopyIsFoundAndFetchedAnew(t *testing.T) {
	const burst = 3000
	c := New(t, Spec{Topics: []Topic{{Name: "orders", Partitions: faultPartitions, Extra: `retain = "1h"`}}})
	c.addGroup(Group{Name: faultGroup, Topic: "orders", Handler: c.CallLogHandler(CallLogOptions{})})
	c.StartAll(startLimit)
	load := StartLoad(t, c.URLs(), LoadSpec{
		Topic: partitioner.Topic{Name: "orders", Partitions: faultPartitions}, Keys: faultKeys, Rate: 50, Burst: burst,
	})
	load.Flows(t, moveLimit, burst)
	n1 := c.Nodes[0]
	n1.Term()
	n1.FlipPayload("orders")
	n1.Start()
	c.WaitReady(startLimit)
	load.Flows(t, moveLimit, 200)
	n1.Kill()
	n2, n3 := c.Nodes[1], c.Nodes[2]
	n3.Kill()
	n1.Start()
	n2.waitWarning("node n1 has a corrupt replica of topic orders", "waits for n3-")
	if aside := n1.aside(); len(aside) > 0 {
		t.Errorf("%v was given up while another copy was away", aside)
	}
	n3.Start()
	c.WaitReady(startLimit)

	_, found, told := strings.Cut(n1.Log(), "replica is corrupt")
	meanwhile, _, mended := strings.Cut(found, "replica was fetched again and is whole")
	if !told || !mended || !strings.Contains(meanwhile, "corrupt replica moved away") {
		t.Errorf("the log of n1 does not tell of the damage and its end: %v, %v", told, mended)
	}
	if strings.Contains(meanwhile, "lane started") {
		t.Error("n1 worked on partitions although its copy was damaged")
	}
	if aside := n1.aside(); len(aside) != 1 {
		t.Errorf("set aside are %v", aside)
	}
	Eventually(t, moveLimit, func() error {
		s, err := n2.Status()
		for _, w := range s.Warning {
			err = errors.Join(err, errors.New(w))
		}
		return err
	})
	judge(t, c, load, history.Rules{
		Groups: []string{faultGroup}, Repeats: history.RepeatsAfterAnyKill, MinAcked: burst, MinKeys: faultKeys, MinKills: 2,
	})
}

// aside lists the copies that the node has given up.
func (n *Node) aside() []string {
	n.cluster.t.Helper()
	found, err := filepath.Glob(filepath.Join(n.host.DataDir, "damaged", "*"))
	if err != nil {
		n.cluster.t.Fatal(err)
	}
	return found
}

// waitWarning waits until the node's status warns of all the parts in one line.
func (n *Node) waitWarning(parts ...string) {
	n.cluster.t.Helper()
	Eventually(n.cluster.t, moveLimit, func() error {
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

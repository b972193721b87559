package testcluster

import (
	"os"
	"path/filepath"
	"slices"

	"leasehold/internal/harness/history"
)

// Own is what one node's config says instead of the cluster's.
type Own struct {
	Peers  []*Node // The list of nodes, this one included.
	Topics []Topic
	Groups []Group
}

// Own is what the node's config says now, to be changed and given back to
// configure.
func (n *Node) Own() Own {
	if n.own != nil {
		return *n.own
	}
	s := n.Cluster.Spec
	return Own{Peers: slices.Clone(n.Cluster.Nodes), Topics: slices.Clone(s.Topics), Groups: slices.Clone(s.Groups)}
}

// Configure writes the node's config anew, for its next start. From then on
// it does not follow the cluster's.
func (n *Node) Configure(o Own) {
	n.Cluster.T.Helper()
	n.own = &o
	n.Cluster.Write(n.ConfigFile, n.Cluster.config(n))
}

// AddNode adds a node that is yet to start, with a disk and ports of its own.
// Its list of nodes is the given one and itself; the others keep theirs. A
// name that is there already makes a second machine of that name, whose list
// has itself in the other's place.
func (c *Cluster) AddNode(name string, peers ...*Node) *Node {
	c.T.Helper()
	label := name
	for c.labelled(label) {
		label += "x"
	}
	for _, n := range c.Nodes { // their lists stay what they are
		n.Configure(n.Own())
	}
	free := FreePorts(c.T, 3)
	n := &Node{
		Name: name, Cluster: c, Host: Host{Address: "127.0.0.1", DataDir: filepath.Join(c.Dir, label)},
		ConfigFile: filepath.Join(c.Dir, label+".toml"), logFile: filepath.Join(c.Dir, label+".log"),
		Ports: Ports{free[0], free[1], free[2]},
	}
	list := slices.DeleteFunc(slices.Clone(peers), func(p *Node) bool { return p.Name == name })
	c.Nodes = append(c.Nodes, n)
	n.Configure(Own{Peers: append(list, n), Topics: c.Spec.Topics, Groups: c.Spec.Groups})
	return n
}

func (c *Cluster) labelled(label string) bool {
	return slices.ContainsFunc(c.Nodes, func(n *Node) bool { return n.Host.DataDir == filepath.Join(c.Dir, label) })
}

// WipeDisk removes the data directory of a node that does not run.
func (n *Node) WipeDisk() {
	n.Cluster.T.Helper()
	if n.proc != nil {
		n.Cluster.T.Fatalf("%s is running", n.Name)
	}
	if err := os.RemoveAll(n.Host.DataDir); err != nil {
		n.Cluster.T.Fatal(err)
	}
}

// WaitExit waits until the node has ended by itself, and returns its code.
func (n *Node) WaitExit() int {
	n.Cluster.T.Helper()
	if !n.proc.Wait(exitLimit) {
		n.Cluster.T.Fatalf("%s does not end", n.Name)
	}
	code := n.proc.cmd.ProcessState.ExitCode()
	n.Cluster.note(history.Term, n)
	n.proc = nil
	return code
}

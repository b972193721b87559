package testcluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
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
	s := n.cluster.spec
	return Own{Peers: slices.Clone(n.cluster.Nodes), Topics: slices.Clone(s.Topics), Groups: slices.Clone(s.Groups)}
}

// configure writes the node's config anew, for its next start. From then on
// it does not follow the cluster's.
func (n *Node) configure(o Own) {
	n.cluster.t.Helper()
	n.own = &o
	n.cluster.write(n.ConfigFile, n.cluster.config(n))
}

// AddNode adds a node that is yet to start, with a disk and ports of its own.
// Its list of nodes is the given one and itself; the others keep theirs. A
// name that is there already makes a second machine of that name, whose list
// has itself in the other's place.
func (c *Cluster) AddNode(name string, peers ...*Node) *Node {
	c.t.Helper()
	label := name
	for c.labelled(label) {
		label += "x"
	}
	for _, n := range c.Nodes { // their lists stay what they are
		n.configure(n.Own())
	}
	free := freePorts(c.t, 3)
	n := &Node{
		Name: name, cluster: c, host: Host{Address: "127.0.0.1", DataDir: filepath.Join(c.Dir, label)},
		ConfigFile: filepath.Join(c.Dir, label+".toml"), logFile: filepath.Join(c.Dir, label+".log"),
		ports: ports{free[0], free[1], free[2]},
	}
	list := slices.DeleteFunc(slices.Clone(peers), func(p *Node) bool { return p.Name == name })
	c.Nodes = append(c.Nodes, n)
	n.configure(Own{Peers: append(list, n), Topics: c.spec.Topics, Groups: c.spec.Groups})
	return n
}

func (c *Cluster) labelled(label string) bool {
	return slices.ContainsFunc(c.Nodes, func(n *Node) bool { return n.host.DataDir == filepath.Join(c.Dir, label) })
}

// WipeDisk removes the data directory of a node that does not run.
func (n *Node) WipeDisk() {
	n.cluster.t.Helper()
	if n.proc != nil {
		n.cluster.t.Fatalf("%s is running", n.Name)
	}
	if err := os.RemoveAll(n.host.DataDir); err != nil {
		n.cluster.t.Fatal(err)
	}
}

// WaitExit waits until the node has ended by itself, and returns its code.
func (n *Node) WaitExit() int {
	n.cluster.t.Helper()
	if !n.proc.wait(exitLimit) {
		n.cluster.t.Fatalf("%s does not end", n.Name)
	}
	code := n.proc.cmd.ProcessState.ExitCode()
	n.cluster.note(history.Term, n)
	n.proc = nil
	return code
}

// Command runs a command of the leasehold binary against the node's socket.
func (n *Node) Command(args ...string) (code int, output string) {
	n.cluster.t.Helper()
	cmd := exec.Command(leaseholdBinary(n.cluster.t), append(args, "--addr", filepath.Join(n.host.DataDir, "leasehold.sock"))...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		n.cluster.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String()
}

// ask runs a command with -o json and decodes what it prints.
func (n *Node) ask(into any, args ...string) error {
	code, out := n.Command(append(args, "-o", "json")...)
	if code != 0 {
		return errors.New(out)
	}
	return json.Unmarshal([]byte(out), into)
}

package testcluster

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	proc "leasehold/internal/harness/fault/process"
)

// Generous, for two shared cores: they catch hangs.
const (
	StartLimit = 2 * time.Minute
	MoveLimit  = time.Minute
	DrainLimit = 4 * time.Minute
)

// StartGroup starts all nodes with one more group and waits until each has its
// share of its partitions. Its handler may be of any kind.
func (c *Cluster) StartGroup(g Group) {
	c.T.Helper()
	c.AddGroup(g)
	c.StartAll(StartLimit)
	c.WaitBalanced(MoveLimit, g.Name)
}

// KillAndReturn kills a node (kill -9), waits until the others have its
// partitions, starts it and waits until it has its share again.
func (c *Cluster) KillAndReturn(n *Node, group string) {
	c.T.Helper()
	n.Kill()
	c.ComeBack(n, group)
}

// RestartAndReturn is the same with a clean stop.
func (c *Cluster) RestartAndReturn(n *Node, group string) {
	c.T.Helper()
	n.Term()
	c.ComeBack(n, group)
}

// ComeBack waits until the others have the partitions of a node that is gone, starts it
// and waits until it has its share again.
func (c *Cluster) ComeBack(n *Node, group string) {
	c.T.Helper()
	c.WaitLeft(MoveLimit, group, n)
	n.Start()
	c.WaitReady(StartLimit)
	c.WaitBalanced(MoveLimit, group)
}

// FreezeAndReturn stops a node and its handlers (SIGSTOP) for a time, and
// waits until it has its share again. A node may end when it wakes up to find
// itself declared dead; then it is started.
func (c *Cluster) FreezeAndReturn(n *Node, group string, length time.Duration) {
	c.T.Helper()
	n.Stop()
	release := n.HoldHandlers()
	Pass(length)
	release()
	n.Cont()
	n.StartIfGone(WakeLimit)
	c.WaitReady(StartLimit)
	c.WaitBalanced(MoveLimit, group)
}

// WakeLimit is how long a node may take to end itself when it wakes up to find
// itself declared dead.
const WakeLimit = 2 * time.Second

// HoldHandlers stops what the node has of handlers (SIGSTOP), and returns what lets them
// go on. Where the node is stopped, too, they go on before it: what they finish
// then is as late as it can be.
func (n *Node) HoldHandlers() (release func()) {
	t := n.Cluster.T
	t.Helper()
	handlers := n.children()
	signalAll(t, handlers, syscall.SIGSTOP)
	return func() {
		t.Helper()
		signalAll(t, handlers, syscall.SIGCONT)
	}
}

// Pass lets time pass.
func Pass(d time.Duration) { <-time.NewTimer(d).C }

// StartIfGone tells whether the node ends within the limit, and starts it
// again if it does.
func (n *Node) StartIfGone(limit time.Duration) bool {
	if !n.proc.Wait(limit) {
		return false
	}
	n.Cluster.T.Logf("%s ended after it woke up: %v", n.Name, n.proc.err)
	n.proc = nil
	n.Start()
	return true
}

// Handlers are the child processes of the node, of which there must be some.
func (n *Node) Handlers() []int {
	n.Cluster.T.Helper()
	pids := n.children()
	if len(pids) == 0 {
		n.Cluster.T.Errorf("%s has no handlers", n.Name)
	}
	return pids
}

// children are the handlers that there are: none at a node that has just come
// up and owns nothing yet.
func (n *Node) children() []int {
	n.Cluster.T.Helper()
	pids, err := proc.Children(n.PID())
	if err != nil {
		n.Cluster.T.Fatal(err)
	}
	return pids
}

// signalAll sends the signal to those of the processes that are there.
func signalAll(t testing.TB, pids []int, sig syscall.Signal) {
	t.Helper()
	for _, pid := range pids {
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Fatalf("%s to %d: %v", sig, pid, err)
		}
	}
}

// FlipPayload flips one bit of a payload in the middle of the first file of messages in a node's copy of a topic. The
// node is down.
func (n *Node) FlipPayload(topic string) {
	t := n.Cluster.T
	t.Helper()
	files, err := filepath.Glob(filepath.Join(n.Host.DataDir, "jetstream", "LEASEHOLD", "streams", topic, "msgs", "*.blk"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no messages of %s on %s: %v", topic, n.Name, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(text[len(text)/2:], []byte(`{"n":`))
	if at < 0 {
		t.Fatalf("no payload in the second half of %s", files[0])
	}
	text[len(text)/2+at] ^= 1
	if err := os.WriteFile(files[0], text, 0o600); err != nil {
		t.Fatal(err)
	}
}

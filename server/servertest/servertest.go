// Package servertest runs real brokers in a test's process, with data in the test's temporary directory and ports of
// their own. They stop when the test ends.
package servertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"leasehold/internal/bytesize"
	"leasehold/internal/freeport"
	"leasehold/server"
	"leasehold/server/datadir"
	"leasehold/server/raft"
)

// ReadyLimit is how long a broker may take to become ready; far more than it needs, for loaded machines.
const ReadyLimit = 60 * time.Second

// Options are a broker's options and where its data is. Dir is opened by Start.
type Options struct {
	server.Options
	Path string
}

// Node is a broker that Start has started.
type Node struct {
	*server.Server
	Options Options

	cancel context.CancelFunc
	done   chan struct{}
	err    error // of Run and of the directory; read after done is closed
}

// Single runs one stand-alone broker and returns when it is ready. Local clients may publish to "orders.*".
func Single(t testing.TB) *server.Server {
	t.Helper()
	n := Start(t, SingleOptions(t))
	n.WaitReady(t)
	return n.Server
}

// Cluster runs n ≥ 3 brokers, named n1, n2, …, and returns when all are ready.
func Cluster(t testing.TB, n int) []*server.Server {
	t.Helper()
	var servers []*server.Server
	for _, node := range StartCluster(t, n) {
		node.WaitReady(t)
		servers = append(servers, node.Server)
	}
	return servers
}

// StartCluster starts n brokers without waiting until they are ready. For tests that stop and restart them.
func StartCluster(t testing.TB, n int) []*Node {
	t.Helper()
	var nodes []*Node
	for _, o := range ClusterOptions(t, n) {
		nodes = append(nodes, Start(t, o))
	}
	return nodes
}

// SingleOptions are those of Single, to be changed before Start.
func SingleOptions(t testing.TB) Options {
	return Options{Path: t.TempDir(), Options: server.Options{
		Config: config(), Identity: datadir.Identity{Node: "n1", Cluster: "test", Mode: datadir.Single},
		PublishSubjects: []string{"orders.*"}, Unlimited: true, Logger: Logger(t).Named("n1"),
	}}
}

// ClusterOptions are those of Cluster, one set per node, with free ports, a common secret and lan timing.
func ClusterOptions(t testing.TB, n int) []Options {
	t.Helper()
	timing, err := raft.TimingByName("lan")
	if err != nil {
		t.Fatal(err)
	}
	var peers []server.Peer
	for i := range n {
		peers = append(peers, server.Peer{Name: fmt.Sprintf("n%d", i+1), Address: FreeAddress(t)})
	}
	var all []Options
	for _, p := range peers {
		o := SingleOptions(t)
		o.Identity = datadir.Identity{Node: p.Name, Cluster: "test", Mode: datadir.Cluster}
		o.ClusterListen, o.Peers, o.Timing = p.Address, peers, timing
		o.Secrets = [][]byte{bytes.Repeat([]byte{7}, 32)}
		o.Logger = Logger(t).Named(p.Name)
		all = append(all, o)
	}
	return all
}

// config is the smallest that tests need. process-safe: nothing cuts the power, and syncing costs seconds.
func config() server.Config {
	c := server.DefaultConfig()
	c.Listen, c.Durability, c.MaxStore, c.Ballast = "127.0.0.1:0", "process-safe", bytesize.GiB, 0
	return c
}

// Start runs a broker and returns when its listeners are up. It is stopped at the end of the test.
func Start(t testing.TB, o Options) *Node {
	t.Helper()
	dir, err := datadir.Open(o.Path, o.Identity)
	if err != nil {
		t.Fatalf("open the data directory: %v", err)
	}
	o.Dir = dir
	s, err := server.New(o.Options)
	if err != nil {
		t.Fatalf("build the broker: %v", errors.Join(err, dir.Close()))
	}
	ctx, cancel := context.WithCancel(context.Background())
	n := &Node{Server: s, Options: o, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(n.done)
		n.err = errors.Join(s.Run(ctx), dir.Close())
	}()
	t.Cleanup(func() { _ = n.Stop() })
	select {
	case <-s.Started():
	case <-n.done:
		t.Fatalf("start %s: %v", o.Node, n.err)
	case <-time.After(ReadyLimit):
		t.Fatalf("start %s: no listener after %s", o.Node, ReadyLimit)
	}
	return n
}

// Stop ends the broker cleanly, closes its data directory and returns what Run returned. A second Stop returns the
// same.
func (n *Node) Stop() error {
	n.cancel()
	<-n.done
	return n.err
}

// Restart stops the broker if it runs and starts another on the same directory and ports.
func (n *Node) Restart(t testing.TB) *Node {
	t.Helper()
	_ = n.Stop()
	return Start(t, n.Options)
}

// WaitReady returns when the broker is ready; its last reason is the failure.
func (n *Node) WaitReady(t testing.TB) {
	t.Helper()
	Eventually(t, ReadyLimit, func() error {
		if why := n.Ready(); len(why) > 0 {
			return fmt.Errorf("%s is not ready: %s", n.Options.Node, strings.Join(why, "; "))
		}
		return nil
	})
}

// Eventually calls f until it returns nil. After limit, f's last error fails the test.
func Eventually(t testing.TB, limit time.Duration, f func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %s: %v", limit, err)
		}
		<-tick.C
	}
}

// FreeAddress finds a loopback address with a port nobody listens on, another one every time.
func FreeAddress(t testing.TB) string {
	t.Helper()
	port, err := freeport.Row(1)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", port)
}

// Logger writes to the test's log, and nothing any more once the test has ended.
func Logger(t testing.TB) hclog.Logger {
	w := &testWriter{out: t.Output()}
	t.Cleanup(w.stop)
	return hclog.New(&hclog.LoggerOptions{Level: hclog.Debug, Output: w})
}

// testWriter guards a test's output: writing to it after the test has ended would panic.
type testWriter struct {
	mu  sync.Mutex
	out io.Writer // nil after stop
}

func (w *testWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.out == nil {
		return len(p), nil
	}
	return w.out.Write(p)
}

func (w *testWriter) stop() {
	w.mu.Lock()
	w.out = nil
	w.mu.Unlock()
}

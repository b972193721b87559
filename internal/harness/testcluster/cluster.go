package testcluster

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"leasehold/internal/harness/history"
)

// Cluster is a set of agents with a directory of their own. At the end of the
// test everything is killed and the directory removed; if the test failed, it
// is kept, with logs and history, and named.
type Cluster struct {
	Nodes []*Node
	// Dir holds the configs, logs, data directories and histories.
	Dir string
	// T is the test that failures are reported to.
	T testing.TB
	// Spec is what the configs are written from.
	Spec Spec

	token  string // that the test shows where HTTP is open to the network; any will do elsewhere
	events []history.Event
}

// New makes the directory, finds ports and starts nothing. Groups whose
// handler needs the cluster are added by addGroup before StartAll.
func New(t testing.TB, spec Spec) *Cluster {
	t.Helper()
	if spec.Nodes == 0 {
		spec.Nodes = 3
	}
	if spec.LogLevel == "" {
		spec.LogLevel = "debug"
	}
	dir, err := os.MkdirTemp("", "leasehold-test-")
	if err != nil {
		t.Fatal(err)
	}
	c := &Cluster{Dir: dir, T: t, Spec: spec}
	t.Cleanup(c.cleanUp)
	free := FreePorts(t, 3*spec.Nodes)
	for i := range spec.Nodes {
		name := fmt.Sprintf("n%d", i+1)
		c.Nodes = append(c.Nodes, &Node{
			Name: name, Cluster: c, Host: c.hostOf(i, name),
			ConfigFile: filepath.Join(dir, name+".toml"), logFile: filepath.Join(dir, name+".log"),
			Ports: Ports{free[3*i], free[3*i+1], free[3*i+2]},
		})
	}
	secret := make([]byte, 32)
	rand.Read(secret)
	c.Write(c.secretFile(), hex.EncodeToString(secret)+"\n")
	c.makeCredentials()
	c.writeConfigs()
	return c
}

// hostOf is where the i-th node runs, complete.
func (c *Cluster) hostOf(i int, name string) Host {
	h := Host{Address: "127.0.0.1", DataDir: filepath.Join(c.Dir, name)}
	if i < len(c.Spec.Hosts) {
		given := c.Spec.Hosts[i]
		h.Namespace = given.Namespace
		h.Address = cmp.Or(given.Address, h.Address)
		h.DataDir = cmp.Or(given.DataDir, h.DataDir)
	}
	return h
}

func (c *Cluster) secretFile() string { return filepath.Join(c.Dir, "cluster_secret") }

// CallDir is where logging handlers write their calls.
func (c *Cluster) CallDir() string { return filepath.Join(c.Dir, "calls") }

// AddGroup adds a group to the config of nodes that are yet to start.
func (c *Cluster) AddGroup(g Group) {
	c.Spec.Groups = append(c.Spec.Groups, g)
	c.writeConfigs()
}

func (c *Cluster) writeConfigs() {
	for _, n := range c.Nodes {
		c.Write(n.ConfigFile, c.config(n))
	}
}

// Write writes a file that only its owner can read.
func (c *Cluster) Write(path, text string) {
	c.T.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		c.T.Fatal(err)
	}
}

// CallLogOptions tune the logging handler.
type CallLogOptions struct {
	Delay      time.Duration // how long a call takes
	RetryEvery uint64        // every n-th sequence fails at first; 0: none
	Processes  int           // default 2
	Deaf       bool          // the handler finishes its calls although its node is gone
}

// CallLogHandler is the inline table of a group whose calls go into the
// history.
func (c *Cluster) CallLogHandler(o CallLogOptions) string {
	c.T.Helper()
	if err := os.MkdirAll(c.CallDir(), 0o755); err != nil {
		c.T.Fatal(err)
	}
	if o.Processes == 0 {
		o.Processes = 2
	}
	return fmt.Sprintf(`{ kind = "subprocess", command = [%q, "log"], processes = %d, `+
		`config = { dir = %q, delay_ms = %d, retry_every = %d, deaf = %t } }`,
		HandlerBinary(c.T), o.Processes, c.CallDir(), o.Delay.Milliseconds(), o.RetryEvery, o.Deaf)
}

// StartAll starts every node and waits until all are ready.
func (c *Cluster) StartAll(limit time.Duration) {
	c.T.Helper()
	for _, n := range c.Nodes {
		n.Start()
	}
	c.WaitReady(limit)
}

// WaitReady waits until every node that runs says that it is ready. It fails
// at once if one of them has exited.
func (c *Cluster) WaitReady(limit time.Duration) {
	c.T.Helper()
	Eventually(c.T, limit, func() error {
		var errs []error
		for _, n := range c.Running() {
			select {
			case <-n.Exited():
				c.T.Fatalf("%s exited: %v", n.Name, n.ExitError())
			default:
				errs = append(errs, n.Ready())
			}
		}
		return errors.Join(errs...)
	})
}

// WaitBalanced waits until every partition of the group has an owner and each
// running node owns its share, to ±1.
func (c *Cluster) WaitBalanced(limit time.Duration, group string) {
	c.T.Helper()
	Eventually(c.T, limit, func() error {
		g, err := c.Group(group)
		if err != nil {
			return err
		}
		running := c.Running()
		share := len(g.Partitions) / len(running)
		for _, n := range running {
			if owned := g.Owned(n.Name); owned < share || owned > share+1 {
				return fmt.Errorf("%s owns %d of %d partitions, its share is %d", n.Name, owned, len(g.Partitions), share)
			}
		}
		return nil
	})
}

// WaitLeft waits until every other running node says that this one owns
// nothing and no partition of the group is without an owner.
func (c *Cluster) WaitLeft(limit time.Duration, group string, n *Node) {
	c.T.Helper()
	Eventually(c.T, limit, func() error {
		for _, other := range c.Without(n) {
			s, err := other.Status()
			if err != nil {
				return err
			}
			g := s.Group(group)
			if owned := g.Owned(n.Name); len(g.Partitions) == 0 || owned != 0 || g.Unowned != 0 {
				return fmt.Errorf("%s says that of %d partitions %s owns %d, and nobody %d", other.Name, len(g.Partitions), n.Name,
					owned, g.Unowned)
			}
		}
		return nil
	})
}

// WaitDrained waits until the group's lag is known and 0.
func (c *Cluster) WaitDrained(limit time.Duration, group string) {
	c.T.Helper()
	Eventually(c.T, limit, func() error {
		g, err := c.Group(group)
		switch {
		case err != nil:
			return err
		case g.Lag == nil:
			return errors.New("lag is not known")
		case *g.Lag != 0:
			return fmt.Errorf("lag is %d, %d partitions unowned", *g.Lag, g.Unowned)
		}
		return nil
	})
}

// Group asks a running node for the group's status.
func (c *Cluster) Group(name string) (GroupStatus, error) {
	s, err := c.Status()
	if err != nil {
		return GroupStatus{}, err
	}
	g := s.Group(name)
	if len(g.Partitions) == 0 {
		return g, fmt.Errorf("%s shows no partitions of group %q", s.Node, name)
	}
	return g, nil
}

// Status is the view of the first running node that answers.
func (c *Cluster) Status() (Status, error) {
	err := errors.New("no node is running")
	for _, n := range c.Running() {
		var s Status
		if s, err = n.Status(); err == nil {
			return s, nil
		}
	}
	return Status{}, err
}

// CLI runs a command of the command line with the config of the first node
// that runs, and returns what it printed.
func (c *Cluster) CLI(args ...string) ([]byte, error) {
	running := c.Running()
	if len(running) == 0 {
		return nil, errors.New("no node is running")
	}
	cmd := exec.Command(LeaseholdBinary(c.T), append(args, "--config", running[0].ConfigFile)...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("leasehold %s: %w: %s", strings.Join(args, " "), err, errs.String())
	}
	return out, err
}

// Running are the nodes that were started and have not ended.
func (c *Cluster) Running() []*Node {
	var nodes []*Node
	for _, n := range c.Nodes {
		if n.proc != nil {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// Without are the running nodes but one.
func (c *Cluster) Without(n *Node) []*Node {
	return slices.DeleteFunc(c.Running(), func(o *Node) bool { return o == n })
}

// URLs are the client URLs of all nodes.
func (c *Cluster) URLs() []string {
	var urls []string
	for _, n := range c.Nodes {
		urls = append(urls, n.ClientURL())
	}
	return urls
}

// Eventually tries until there is no error; the last one is the failure.
func Eventually(t testing.TB, limit time.Duration, try func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %v", limit, err)
		}
		<-tick.C
	}
}

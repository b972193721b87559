package testcluster

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"leasehold/internal/harness/history"
	"leasehold/internal/harness/monotonic"
)

// Struck notes that something was done to the node other than by a signal:
// cut off, starved, its disk or its clock.
func (n *Node) Struck() history.Event { return n.Cluster.note(history.Struck, n) }

// Sought records that the groups are about to be moved by a seek.
func (c *Cluster) Sought() {
	c.events = append(c.events, history.Event{Kind: history.Sought, At: monotonic.Now()})
}

// note records an event of the node.
func (c *Cluster) note(kind history.EventKind, n *Node) history.Event {
	e := history.Event{Kind: kind, Node: n.Name, At: monotonic.Now()}
	c.events = append(c.events, e)
	return e
}

// Paused and Resumed record a Stop and a Cont that the test makes, right after,
// by other means than signals.
func (n *Node) Paused() history.Event { return n.Cluster.note(history.Stop, n) }

// Resumed is the other half of Paused.
func (n *Node) Resumed() history.Event { return n.Cluster.note(history.Cont, n) }

// Calls reads what the logging handlers wrote so far.
func (c *Cluster) Calls() []history.Call {
	c.T.Helper()
	var calls []history.Call
	for _, name := range c.callFiles() {
		f, err := os.Open(name)
		if err != nil {
			c.T.Fatal(err)
		}
		some, err := history.ReadCalls(f)
		f.Close()
		if err != nil {
			c.T.Fatalf("%s: %v", name, err)
		}
		calls = append(calls, some...)
	}
	return calls
}

func (c *Cluster) callFiles() []string {
	c.T.Helper()
	files, err := filepath.Glob(filepath.Join(c.CallDir(), "*.calls"))
	if err != nil {
		c.T.Fatal(err)
	}
	return files
}

// CallTail reads what the logging handlers write as it comes.
type CallTail struct {
	cluster *Cluster
	read    map[string]int64 // bytes, by file
}

// TailCalls begins with what they wrote so far.
func (c *Cluster) TailCalls() *CallTail { return &CallTail{cluster: c, read: make(map[string]int64)} }

// Next are the lines since the last time: one for each start of a call, and one
// for each end, which has a result.
func (t *CallTail) Next() []history.Call {
	t.cluster.T.Helper()
	var lines []history.Call
	for _, name := range t.cluster.callFiles() {
		some, err := t.more(name)
		if err != nil {
			t.cluster.T.Fatalf("%s: %v", name, err)
		}
		lines = append(lines, some...)
	}
	return lines
}

// more are the whole lines that a file has now.
func (t *CallTail) more(name string) ([]history.Call, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.NewSectionReader(f, t.read[name], math.MaxInt64-t.read[name]))
	if err != nil {
		return nil, err
	}
	text = text[:bytes.LastIndexByte(text, '\n')+1]
	t.read[name] += int64(len(text))
	return history.Read[history.Call](bytes.NewReader(text))
}

// History is the run so far, with what the load published. It is written to
// Dir, where it stays if the test fails.
func (c *Cluster) History(published []history.PublishRecord) history.History {
	c.T.Helper()
	h := history.History{Publishes: published, Calls: c.Calls(), Events: slices.Clone(c.events)}
	save(c, "publishes.ndjson", h.Publishes)
	save(c, "events.ndjson", h.Events)
	return h
}

func save[T history.Record](c *Cluster, name string, records []T) {
	c.T.Helper()
	f, err := os.Create(filepath.Join(c.Dir, name))
	if err == nil {
		err = errors.Join(history.Write(f, records), f.Close())
	}
	if err != nil {
		c.T.Fatal(err)
	}
}

// keepVariable keeps the directory of a test that passed, if it is set.
const keepVariable = "LEASEHOLD_KEEP"

// shownLog is how much of each node's log a failed test shows, in bytes.
const shownLog = 4 << 10

// OrphanLimit is how long handlers may outlive their node.
const OrphanLimit = 10 * time.Second

// cleanUp kills what runs, looks for handlers that outlived their nodes, and
// keeps or removes the directory.
func (c *Cluster) cleanUp() {
	for _, n := range c.Running() {
		n.proc.Kill()
		n.proc = nil
	}
	c.checkOrphans()
	if !c.T.Failed() && os.Getenv(keepVariable) == "" {
		os.RemoveAll(c.Dir)
		return
	}
	if c.T.Failed() {
		for _, n := range c.Nodes {
			c.T.Logf("end of the log of %s:\n%s", n.Name, n.logTail(shownLog))
		}
	}
	c.T.Logf("logs and history are in %s", c.Dir)
}

// checkOrphans fails the test if a handler lives on after its node. It looks
// only at processes that run our own build of the handler.
func (c *Cluster) checkOrphans() {
	deadline := time.Now().Add(OrphanLimit)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		orphans := c.orphans()
		if len(orphans) == 0 {
			return
		}
		if time.Now().After(deadline) {
			c.T.Errorf("handlers outlived their nodes: pids %v", orphans)
			return
		}
		<-tick.C
	}
}

// orphans are the handler processes of this cluster; nothing of it runs any
// more when this is called.
func (c *Cluster) orphans() []int {
	seen := make(map[int]bool)
	var pids []int
	for _, call := range c.Calls() {
		if seen[call.PID] {
			continue
		}
		seen[call.PID] = true
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", call.PID))
		if err == nil && filepath.Dir(exe) == binaries.dir {
			pids = append(pids, call.PID)
		}
	}
	return pids
}

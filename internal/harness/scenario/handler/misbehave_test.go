package handler

import (
	"flag"
	"fmt"
	"strings"
	"testing"
	"time"

	"leasehold/internal/harness/history"
	"leasehold/internal/harness/scenario"
	"leasehold/internal/harness/testcluster"
	"leasehold/partitioner"
)

var misbehaveFlag = flag.Int("misbehave", 1000,
	"how many messages TestLongHandlerThatMisbehaves publishes, one in a hundred for each way to misbehave")

const (
	misbehaveGroup      = "calls"
	misbehavePartitions = 12
	misbehaveProcesses  = 2
	misbehaveTimeout    = time.Second
	// What a node may log of a child's output: worker's outputBurst for each life and outputRate for each second.
	outputBurst, outputRate = 200, 50
	// misbehaveMemory is how much more memory a node may need than before, in MiB.
	misbehaveMemory = 200
)

// misbehaviours are what one message in a hundred each makes the backend do.
var misbehaviours = []string{"die", "hang", "noise", "twice", "stranger", "flood", "fork"}

// misbehaviour is what the i-th message does; empty: nothing special.
func misbehaviour(i int) string {
	if n := i % 100; n%10 == 5 && n/10 < len(misbehaviours) {
		return misbehaviours[n/10]
	}
	return ""
}

// TestLongHandlerThatMisbehaves: a handler that crashes, hangs, prints garbage, answers twice or for another message,
// floods its log and leaves processes behind costs its own messages some retries. It harms neither the node nor the
// order, and nothing of it is left in the end.
func TestLongHandlerThatMisbehaves(t *testing.T) {
	if testing.Short() {
		t.Skip("make test-long runs it")
	}
	c := testcluster.New(t, testcluster.Spec{Topics: []testcluster.Topic{{Name: "orders",
		Partitions: misbehavePartitions}}, LogLevel: "info"})
	c.AddGroup(testcluster.Group{
		Name: misbehaveGroup, Topic: "orders", Handler: c.BackendHandler(misbehaveProcesses, scenario.MarkVariable+"="+c.Dir),
		Extra: fmt.Sprintf("timeout = %q\nbackoff = { initial = \"20ms\", max = \"200ms\" }", misbehaveTimeout),
	})
	c.StartAll(testcluster.StartLimit)
	c.WaitBalanced(testcluster.MoveLimit, misbehaveGroup)
	before := map[string]testcluster.Usage{}
	for _, n := range c.Nodes {
		before[n.Name] = n.Usage()
	}
	w := scenario.WatchNodes(t, c)
	published := publishMisbehaviour(c)
	c.WaitDrained(testcluster.DrainLimit, misbehaveGroup)
	w.End()
	checkUnharmed(c, w, before)
	checkMisbehaviour(c, published)
	if w.Left == 0 {
		t.Error("no process that a handler had left behind was ever seen: the look for them proves nothing")
	}
	for _, n := range c.Nodes {
		n.Term()
	}
	testcluster.Eventually(t, testcluster.OrphanLimit, func() error {
		if left := scenario.Marked(c); len(left) > 0 {
			return fmt.Errorf("left of handlers when all nodes have stopped: %v", left)
		}
		return nil
	})
}

func publishMisbehaviour(c *testcluster.Cluster) []history.PublishRecord {
	c.T.Helper()
	load := testcluster.StartLoad(c.T, c.URLs(), testcluster.LoadSpec{
		Topic: partitioner.Topic{Name: "orders", Partitions: misbehavePartitions}, Keys: 60, Burst: *misbehaveFlag,
		Data: func(i int, _ string) []byte {
			if say := misbehaviour(i); say != "" {
				return fmt.Appendf(nil, `{"n":%d,"say":[%q]}`, i, say)
			}
			return fmt.Appendf(nil, `{"n":%d}`, i)
		},
	})
	testcluster.Eventually(c.T, testcluster.DrainLimit, func() error {
		if n := load.Published(); n < *misbehaveFlag {
			return fmt.Errorf("%d of %d published", n, *misbehaveFlag)
		}
		return nil
	})
	return load.Stop(c.T, testcluster.DrainLimit)
}

// checkUnharmed holds what the nodes suffered against what they may.
func checkUnharmed(c *testcluster.Cluster, w *scenario.Watch, before map[string]testcluster.Usage) {
	c.T.Helper()
	seconds := int(w.Ended.Sub(w.Began).Seconds()) + 1
	c.T.Log(scenario.Table("NODE\tCHILDREN\tOUTPUT LINES\tLOG KiB\tRSS MiB BEFORE\tPEAK\tNOT READY FOR",
		func(row func(...any)) {
			for _, n := range c.Nodes {
				log, peak := n.Log(), n.ProcNumber("status", "VmHWM:")/1024
				children, lines := strings.Count(log, "handler child ready"), strings.Count(log, "handler output:")
				row(n.Name, children, lines, len(log)>>10, before[n.Name].RSS, peak, scenario.Short(w.Unready[n.Name]))
				if most := children*outputBurst + misbehaveProcesses*seconds*outputRate; lines > most {
					c.T.Errorf("%s logged %d lines of %d children in %d s, at most %d may be", n.Name, lines, children, seconds, most)
				}
				if peak-before[n.Name].RSS > misbehaveMemory {
					c.T.Errorf("%s came from %d to %d MiB of memory", n.Name, before[n.Name].RSS, peak)
				}
				if w.Unready[n.Name] > scenario.UnreadyLimit {
					c.T.Errorf("%s was not ready for %s", n.Name, w.Unready[n.Name])
				}
				if err := n.Ready(); err != nil {
					c.T.Error(err)
				}
			}
		}))
	c.T.Logf("%d looks; at most %d processes left behind by handlers at a time", w.Polls, w.Left)
}

// checkMisbehaviour judges the history, and what each way to misbehave came to.
func checkMisbehaviour(c *testcluster.Cluster, published []history.PublishRecord) {
	c.T.Helper()
	h := c.History(published)
	report := history.Check(h, history.Rules{
		Groups: []string{misbehaveGroup}, Repeats: history.RepeatsAlways, MinAcked: *misbehaveFlag, MinKeys: 50,
	})
	c.T.Log(report)
	if report.Err() != nil {
		c.T.Error(report.Err())
	}
	if letters := c.Letters(misbehaveGroup); len(letters) != 0 {
		c.T.Errorf("dead letters: %v", letters)
	}
	attempts := map[string][]int{}
	for _, call := range scenario.InOrder(h.Calls) {
		attempts[call.ID] = append(attempts[call.ID], call.Attempt)
	}
	messages, calls := map[string]int{}, map[string]int{}
	for i := range *misbehaveFlag {
		say, got := misbehaviour(i), attempts[fmt.Sprintf("m%d", i)]
		messages[say]++
		calls[say] += len(got)
		if again := say == "die" || say == "hang"; !steady(got, false) || again && len(got) < 2 {
			c.T.Errorf("m%d (%s) was called with attempts %v", i, say, got)
		}
	}
	c.T.Log(scenario.Table("WHAT THE HANDLER DOES\tMESSAGES\tCALLS", func(row func(...any)) {
		row("as it should", messages[""], calls[""])
		for _, say := range misbehaviours {
			row(say, messages[say], calls[say])
		}
	}))
}

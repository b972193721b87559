package testcluster

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"leasehold/internal/harness/history"
	"leasehold/partitioner"
)

var misbehaveFlag = flag.Int("misbehave", 1000, "how many messages TestHandlerThatMisbehaves publishes, one in a hundred for each way to misbehave")

const (
	misbehaveGroup      = "calls"
	misbehavePartitions = 12
	misbehaveProcesses  = 2
	misbehaveTimeout    = time.Second
	// What a node may log of a child's output: worker's outputBurst for each life and outputRate for each second.
	outputBurst, outputRate = 200, 50
	// misbehaveMemory is how much more memory a node may need than before, in MiB.
	misbehaveMemory = 200
	// misbehaveUnready is how long a node may be not ready, on a starved machine.
	misbehaveUnready = 10 * time.Second
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

// markVariable is in the environment of a handler and of whatever it starts.
const markVariable = "LEASEHOLD_TEST_RUN"

// TestHandlerThatMisbehaves: a handler that crashes, hangs, prints garbage, answers twice or for another message, floods
// its log and leaves processes behind costs its own messages some retries. It harms neither the node nor the order, and
// nothing of it is left in the end.
func TestHandlerThatMisbehaves(t *testing.T) {
	c := New(t, Spec{Topics: []Topic{{Name: "orders", Partitions: misbehavePartitions}}, LogLevel: "info"})
	c.addGroup(Group{
		Name: misbehaveGroup, Topic: "orders", Handler: c.backendHandler(misbehaveProcesses, markVariable+"="+c.Dir),
		Extra: fmt.Sprintf("timeout = %q\nbackoff = { initial = \"20ms\", max = \"200ms\" }", misbehaveTimeout),
	})
	c.StartAll(startLimit)
	c.WaitBalanced(moveLimit, misbehaveGroup)
	before := map[string]usage{}
	for _, n := range c.Nodes {
		before[n.Name] = n.usage()
	}
	w := watchNodes(t, c)
	published := c.publishMisbehaviour()
	c.WaitDrained(drainLimit, misbehaveGroup)
	w.end()
	c.checkUnharmed(w, before)
	c.checkMisbehaviour(published)
	if w.left == 0 {
		t.Error("no process that a handler had left behind was ever seen: the look for them proves nothing")
	}
	for _, n := range c.Nodes {
		n.Term()
	}
	Eventually(t, orphanLimit, func() error {
		if left := c.marked(); len(left) > 0 {
			return fmt.Errorf("left of handlers when all nodes have stopped: %v", left)
		}
		return nil
	})
}

func (c *Cluster) publishMisbehaviour() []history.PublishRecord {
	c.t.Helper()
	load := StartLoad(c.t, c.URLs(), LoadSpec{
		Topic: partitioner.Topic{Name: "orders", Partitions: misbehavePartitions}, Keys: 60, Burst: *misbehaveFlag,
		Data: func(i int, _ string) []byte {
			if say := misbehaviour(i); say != "" {
				return fmt.Appendf(nil, `{"n":%d,"say":[%q]}`, i, say)
			}
			return fmt.Appendf(nil, `{"n":%d}`, i)
		},
	})
	Eventually(c.t, drainLimit, func() error {
		if n := load.Published(); n < *misbehaveFlag {
			return fmt.Errorf("%d of %d published", n, *misbehaveFlag)
		}
		return nil
	})
	return load.Stop(c.t, drainLimit)
}

// marked are the processes of this cluster's handlers, and those that they started: pid and name.
func (c *Cluster) marked() []string {
	c.t.Helper()
	all, err := os.ReadDir("/proc")
	if err != nil {
		c.t.Error(err) // Not Fatal: watch calls this, too.
	}
	var found []string
	mark := markVariable + "=" + c.Dir
	for _, p := range all {
		if _, err := strconv.Atoi(p.Name()); err != nil {
			continue
		}
		env, err := os.ReadFile(filepath.Join("/proc", p.Name(), "environ"))
		if err != nil || !slices.Contains(strings.Split(string(env), "\x00"), mark) {
			continue // Gone, a zombie, somebody else's.
		}
		name, _ := os.ReadFile(filepath.Join("/proc", p.Name(), "comm"))
		found = append(found, p.Name()+" "+strings.TrimSpace(string(name)))
	}
	return found
}

// watch looks at the nodes while something goes on.
type watch struct {
	*Cluster
	stop, done chan struct{}

	// Read after end.
	began, ended time.Time
	polls        int
	unready      map[string]time.Duration // By node: the longest time in a row.
	left         int                      // Most processes seen that handlers had left behind.
}

func watchNodes(t testing.TB, c *Cluster) *watch {
	w := &watch{Cluster: c, stop: make(chan struct{}), done: make(chan struct{}), began: time.Now(), unready: map[string]time.Duration{}}
	go w.run()
	t.Cleanup(w.end)
	return w
}

func (w *watch) run() {
	defer close(w.done)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	since := map[string]time.Time{}
	for {
		select {
		case <-w.stop:
			return
		case <-tick.C:
		}
		w.polls++
		for _, n := range w.Nodes {
			if n.Ready() == nil {
				delete(since, n.Name)
				continue
			}
			if since[n.Name].IsZero() {
				since[n.Name] = time.Now()
			}
			w.unready[n.Name] = max(w.unready[n.Name], time.Since(since[n.Name]))
		}
		left := 0
		for _, p := range w.marked() {
			if strings.HasSuffix(p, " sleep") {
				left++
			}
		}
		w.left = max(w.left, left)
	}
}

func (w *watch) end() {
	if w.ended.IsZero() {
		w.ended = time.Now()
		close(w.stop)
	}
	<-w.done
}

// checkUnharmed holds what the nodes suffered against what they may.
func (c *Cluster) checkUnharmed(w *watch, before map[string]usage) {
	c.t.Helper()
	seconds := int(w.ended.Sub(w.began).Seconds()) + 1
	c.t.Log(table("NODE\tCHILDREN\tOUTPUT LINES\tLOG KiB\tRSS MiB BEFORE\tPEAK\tNOT READY FOR", func(row func(...any)) {
		for _, n := range c.Nodes {
			log, peak := n.Log(), n.procNumber("status", "VmHWM:")/1024
			children, lines := strings.Count(log, "handler child ready"), strings.Count(log, "handler output:")
			row(n.Name, children, lines, len(log)>>10, before[n.Name].rss, peak, short(w.unready[n.Name]))
			if most := children*outputBurst + misbehaveProcesses*seconds*outputRate; lines > most {
				c.t.Errorf("%s logged %d lines of %d children in %d s, at most %d may be", n.Name, lines, children, seconds, most)
			}
			if peak-before[n.Name].rss > misbehaveMemory {
				c.t.Errorf("%s came from %d to %d MiB of memory", n.Name, before[n.Name].rss, peak)
			}
			if w.unready[n.Name] > misbehaveUnready {
				c.t.Errorf("%s was not ready for %s", n.Name, w.unready[n.Name])
			}
			if err := n.Ready(); err != nil {
				c.t.Error(err)
			}
		}
	}))
	c.t.Logf("%d looks; at most %d processes left behind by handlers at a time", w.polls, w.left)
}

// checkMisbehaviour judges the history, and what each way to misbehave came to.
func (c *Cluster) checkMisbehaviour(published []history.PublishRecord) {
	c.t.Helper()
	h := c.History(published)
	report := history.Check(h, history.Rules{
		Groups: []string{misbehaveGroup}, Repeats: history.RepeatsAlways, MinAcked: *misbehaveFlag, MinKeys: 50,
	})
	c.t.Log(report)
	if report.Err() != nil {
		c.t.Error(report.Err())
	}
	if letters := c.letters(misbehaveGroup); len(letters) != 0 {
		c.t.Errorf("dead letters: %v", letters)
	}
	attempts := map[string][]int{}
	for _, call := range inOrder(h.Calls) {
		attempts[call.ID] = append(attempts[call.ID], call.Attempt)
	}
	messages, calls := map[string]int{}, map[string]int{}
	for i := range *misbehaveFlag {
		say, got := misbehaviour(i), attempts[fmt.Sprintf("m%d", i)]
		messages[say]++
		calls[say] += len(got)
		if again := say == "die" || say == "hang"; !steady(got, false) || again && len(got) < 2 {
			c.t.Errorf("m%d (%s) was called with attempts %v", i, say, got)
		}
	}
	c.t.Log(table("WHAT THE HANDLER DOES\tMESSAGES\tCALLS", func(row func(...any)) {
		row("as it should", messages[""], calls[""])
		for _, say := range misbehaviours {
			row(say, messages[say], calls[say])
		}
	}))
}

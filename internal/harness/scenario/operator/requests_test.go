package operator

import (
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"leasehold/internal/harness/history"
	"leasehold/internal/harness/monotonic"
	"leasehold/internal/harness/testcluster"
	"leasehold/partitioner"
)

var askRounds = flag.Int("asks", len(requestFaults),
	"how often TestLongRequestsAreAppliedOnce seeks and pauses, each time with another fault")

// fault is what befalls a node while a request is on its way.
var requestFaults = []struct {
	name string
	do   func(n *testcluster.Node)
}{
	{"nothing, its calls are long", func(*testcluster.Node) {}},
	{"kill -9", func(n *testcluster.Node) { n.Kill(); n.Start() }},
	{"moves away", func(n *testcluster.Node) { n.Term(); n.Start() }},
	{"frozen for a moment", func(n *testcluster.Node) {
		n.Stop()
		time.Sleep(700 * time.Millisecond) // Less than a session's life: the owner wakes up with its leases.
		n.Cont()
	}},
}

// asked is what `-o json` prints of a request.
type asked struct {
	ID      uint64 `json:"id"`
	Applied int    `json:"applied"`
	Waiting []int  `json:"waiting"`
}

// TestLongRequestsAreAppliedOnce seeks to the beginning, pauses and resumes all partitions while a node is killed,
// hands over, freezes or is busy. Every partition must begin anew exactly once for each seek, and start nothing while
// it is paused.
func TestLongRequestsAreAppliedOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("make test-long runs it")
	}
	requestsAreAppliedOnce(t, *askRounds)
}

// The same while a node is killed.
func TestRequestsAreAppliedOnce(t *testing.T) { requestsAreAppliedOnce(t, 1) }

func requestsAreAppliedOnce(t *testing.T, rounds int) {
	const partitions, messages = 12, 600
	c := testcluster.New(t, testcluster.Spec{Topics: []testcluster.Topic{{Name: "orders", Partitions: partitions,
		Extra: `retain = "1h"`}}})
	c.AddGroup(testcluster.Group{Name: "calls", Topic: "orders",
		Handler: c.CallLogHandler(testcluster.CallLogOptions{Delay: 10 * time.Millisecond})})
	c.StartAll(time.Minute)
	c.WaitBalanced(time.Minute, "calls")
	load := testcluster.StartLoad(t, c.URLs(),
		testcluster.LoadSpec{Topic: partitioner.Topic{Name: "orders", Partitions: partitions}, Keys: 60, Burst: messages})
	records := load.Stop(t, time.Minute)
	c.WaitDrained(time.Minute, "calls")
	random := rand.New(rand.NewPCG(uint64(rounds), 9))
	for round := range rounds {
		f := requestFaults[(round+1)%len(requestFaults)]
		began := time.Now()
		ask(c, f.do, random, "seek", "calls", "--to", "earliest", "--yes")
		c.WaitReady(time.Minute)
		from := pauseAll(c, f.do, random)
		mustBeQuiet(c, from)
		ask(c, func(*testcluster.Node) {}, random, "resume", "calls")
		c.WaitDrained(time.Minute, "calls")
		checkRewinds(c, t, round+1)
		t.Logf("round %d, %s: seek, pause and resume applied once to each of %d partitions, all handled again (%.1f s)",
			round+1, f.name, partitions, time.Since(began).Seconds())
	}
	if acked := len(records); acked != messages {
		t.Errorf("%d messages acknowledged", acked)
	}
	checkAllHandled(c, t, records, rounds+1)
}

// ask makes a request while something befalls a node, and waits until it is applied everywhere.
func ask(c *testcluster.Cluster, do func(*testcluster.Node), random *rand.Rand, args ...string) {
	c.T.Helper()
	out, err := c.CLI(append(args, "--wait", "0s", "-o", "json")...)
	if err != nil {
		c.T.Fatal(err)
	}
	do(c.Nodes[random.IntN(len(c.Nodes))])
	var a asked
	if err := json.Unmarshal(out, &a); err != nil {
		c.T.Fatal(err)
	}
	testcluster.Eventually(c.T, time.Minute, func() error { return applied(c, "calls", a.ID) })
}

// applied asks a node whether a request has been applied everywhere.
func applied(c *testcluster.Cluster, group string, id uint64) error {
	err := errors.New("no node is running")
	for _, n := range c.Running() {
		var body []byte
		if body, err = n.Get(fmt.Sprintf("/v1/groups/%s/requests/%d", group, id)); err != nil {
			continue
		}
		var a asked
		if err = json.Unmarshal(body, &a); err == nil && len(a.Waiting) > 0 {
			err = fmt.Errorf("request %d waits in partitions %v", id, a.Waiting)
		}
		return err
	}
	return err
}

// pauseAll pauses everything and returns when that was known to be applied.
func pauseAll(c *testcluster.Cluster, do func(*testcluster.Node), random *rand.Rand) int64 {
	c.T.Helper()
	ask(c, do, random, "pause", "calls", "--reason", "test")
	return monotonic.Now()
}

// mustBeQuiet looks for a while that no call starts, whoever owns the partitions.
func mustBeQuiet(c *testcluster.Cluster, from int64) {
	c.T.Helper()
	c.WaitReady(time.Minute)
	testcluster.Eventually(c.T, time.Minute, func() error {
		g, err := c.Group("calls")
		if err != nil {
			return err
		}
		for _, p := range g.Partitions {
			if p.State != "paused" {
				return fmt.Errorf("partition %d is %s", p.Partition, p.State)
			}
		}
		return nil
	})
	for _, call := range c.Calls() {
		if call.Start > from {
			c.T.Errorf("a call started while everything was paused: %+v", call)
		}
	}
}

// checkRewinds counts, in each partition, how often calls went back to its first message from well beyond it. After a
// crash they go back a little, to a checkpoint; only a seek goes back to the beginning.
func checkRewinds(c *testcluster.Cluster, t *testing.T, want int) {
	t.Helper()
	byPartition := map[int][]history.Call{}
	for _, call := range c.Calls() {
		byPartition[call.Partition] = append(byPartition[call.Partition], call)
	}
	for p, calls := range byPartition {
		slices.SortFunc(calls, func(a, b history.Call) int { return cmp.Compare(a.Start, b.Start) })
		first, rewinds := slices.MinFunc(calls, func(a, b history.Call) int { return cmp.Compare(a.Seq, b.Seq) }).Seq, 0
		for i := 1; i < len(calls); i++ {
			if calls[i].Seq == first && calls[i-1].Seq > first+100 { // Sequences are the topic's: about eight messages.
				rewinds++
			}
			if calls[i].Epoch < calls[i-1].Epoch {
				t.Errorf("partition %d: %+v after %+v", p, calls[i], calls[i-1])
			}
		}
		if rewinds != want {
			t.Errorf("partition %d went back to its beginning %d times for %d seeks", p, rewinds, want)
		}
	}
}

// checkAllHandled: every message was handled again after each seek.
func checkAllHandled(c *testcluster.Cluster, t *testing.T, records []history.PublishRecord, times int) {
	t.Helper()
	ok := map[string]int{}
	for _, call := range c.Calls() {
		if call.Result == "ok" {
			ok[call.ID]++
		}
	}
	for _, r := range records {
		if ok[r.ID] < times {
			t.Errorf("message %s was handled %d times, want %d at least", r.ID, ok[r.ID], times)
		}
	}
}

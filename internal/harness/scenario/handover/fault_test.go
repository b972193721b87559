package handover

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"leasehold/internal/harness/history"
	"leasehold/internal/harness/scenario"
	"leasehold/internal/harness/testcluster"
	"leasehold/partitioner"
)

var (
	killsFlag = flag.Int("kills", 3, "how many kills TestKillLoop makes; 10 for the full run")
	termsFlag = flag.Int("terms", 3, "how many clean stops TestTermHandsOver makes")

	deepTermsFlag = flag.Int("deep-terms", 1, "how many clean stops TestTermHandsOverADeepBacklog makes")
)

const (
	// A call takes 70 ms, so 32 partitions handle up to 450 messages a second:
	// a little more than is published, so that the burst's backlog is there
	// for the whole run and drains at its end.
	faultDelay = 70 * time.Millisecond
	faultRate  = 300
	faultBurst = 3000
)

// startFaultRun starts three nodes with a group that is behind.
func startFaultRun(t *testing.T) (*testcluster.Cluster, *testcluster.Load) {
	t.Helper()
	c := testcluster.New(t, testcluster.Spec{Topics: []testcluster.Topic{{Name: "orders", Partitions: scenario.Partitions}}})
	c.StartGroup(testcluster.Group{Name: scenario.Group, Topic: "orders", Handler: c.CallLogHandler(testcluster.CallLogOptions{Delay: faultDelay, RetryEvery: 500})})
	load := testcluster.StartLoad(t, c.URLs(), testcluster.LoadSpec{
		Topic: partitioner.Topic{Name: "orders", Partitions: scenario.Partitions},
		Keys:  scenario.Keys, Rate: faultRate, Burst: faultBurst,
	})
	testcluster.Eventually(t, testcluster.MoveLimit, func() error {
		if n := load.Published(); n < faultBurst {
			return fmt.Errorf("%d of %d published", n, faultBurst)
		}
		return nil
	})
	return c, load
}

// fault is one kill or stop of the run, and what the cluster looked like then.
type fault struct {
	history.Event
	led   bool   // the node was the cluster's leader
	lag   string // "?" if it is not known
	again bool   // the node was started again at once
}

func describeFault(c *testcluster.Cluster, n *testcluster.Node) fault {
	f := fault{lag: "?"}
	s, err := c.Status()
	if err != nil {
		c.T.Logf("status before the fault: %v", err)
		return f
	}
	f.led = s.Leader == n.Name
	if lag := s.Group(scenario.Group).Lag; lag != nil {
		f.lag = fmt.Sprint(*lag)
	}
	return f
}

// A kill -9 of each node in turn, under a backlog: nothing acknowledged is
// lost, first calls are in order for each key, epochs only grow, no two owners
// overlap, and calls repeat only from the last checkpoint.
func TestKillLoop(t *testing.T) {
	c, load := startFaultRun(t)
	var faults []fault
	for i := range *killsFlag {
		n := c.Nodes[i%len(c.Nodes)]
		f := describeFault(c, n)
		f.Event = n.Kill()
		// Every fourth node is back before its session has expired, and takes
		// its own partitions back.
		if f.again = i%4 == 2; !f.again {
			c.WaitLeft(testcluster.MoveLimit, scenario.Group, n)
		}
		n.Start()
		c.WaitReady(testcluster.StartLimit)
		c.WaitBalanced(testcluster.MoveLimit, scenario.Group)
		faults = append(faults, f)
	}
	h := scenario.Judge(t, c, load, history.Rules{
		Groups:  []string{scenario.Group},
		Repeats: history.RepeatsAfterAnyKill,
		// 100 ms between checkpoints, and an election or two during which none
		// can be written.
		RepeatWithin: 15 * time.Second,
		MinAcked:     faultBurst,
		MinKeys:      scenario.Keys,
		MinKills:     *killsFlag,
		MinHandoffs:  *killsFlag * scenario.Partitions / 4,
		MinTakeovers: *killsFlag * scenario.Partitions / 4,
		// At least one call in flight for each kill, on average.
		MinRedelivered: *killsFlag,
	})
	t.Log(killTable(h, faults))
}

// killTable shows the time from each kill until its partitions went on.
func killTable(h history.History, faults []fault) string {
	byKind := make(map[string][]time.Duration)
	return scenario.Table("KILL\tLEADER\tLAG\tTAKEN BACK\tUNTIL A PARTITION WENT ON", func(row func(...any)) {
		for i, f := range faults {
			kind := map[bool]string{true: "led", false: "led nothing"}[f.led]
			if f.again {
				kind += ", back at once"
			}
			var took []time.Duration
			back := 0
			for _, r := range history.ResumedAfter(h, f.Event) {
				if r.To != "" {
					took = append(took, r.After)
				}
				if r.To == f.Node {
					back++
				}
			}
			byKind[kind] = append(byKind[kind], took...)
			row(fmt.Sprintf("%d: %s", i+1, f.Node), f.led, f.lag, back, history.Summarize(took))
		}
		for _, kind := range slices.Sorted(maps.Keys(byKind)) {
			row("all", kind, "", "", history.Summarize(byKind[kind]))
		}
	})
}

// A clean stop of each node in turn, under a backlog: nothing is handed out
// twice, neither when the node leaves nor when it comes back.
func TestTermHandsOver(t *testing.T) {
	c, load := startFaultRun(t)
	var faults []fault
	for i := range *termsFlag {
		n := c.Nodes[i%len(c.Nodes)]
		f := describeFault(c, n)
		f.Event = n.Term()
		c.ComeBack(n, scenario.Group)
		faults = append(faults, f)
	}
	h := scenario.Judge(t, c, load, history.Rules{
		Groups:      []string{scenario.Group},
		Repeats:     history.RepeatsNever,
		MinAcked:    faultBurst,
		MinKeys:     scenario.Keys,
		MinKills:    *termsFlag,
		MinHandoffs: *termsFlag * 2 * (scenario.Partitions / 4), // away and back
	})
	t.Log(moveTable(h, faults))
}

// A clean stop while every partition is so far behind that the next owner has
// to read further down than it reads for its own, of the node that leads the
// topic and so answers the request to do that.
func TestTermHandsOverADeepBacklog(t *testing.T) {
	const partitions, burst = 64, 40_000
	topic := partitioner.Topic{Name: "orders", Partitions: partitions}
	c := testcluster.New(t, testcluster.Spec{Topics: []testcluster.Topic{{Name: topic.Name, Partitions: partitions}}, LogLevel: "debug"})
	c.StartGroup(testcluster.Group{Name: scenario.Group, Topic: topic.Name, Handler: c.CallLogHandler(testcluster.CallLogOptions{Delay: 25 * time.Millisecond})})
	load := testcluster.StartLoad(t, c.URLs(), testcluster.LoadSpec{Topic: topic, Keys: moveKeys, Burst: burst})
	testcluster.Eventually(t, testcluster.MoveLimit, func() error {
		if n := load.Published(); n < burst {
			return fmt.Errorf("%d of %d published", n, burst)
		}
		return nil
	})
	var faults []fault
	for range *deepTermsFlag {
		leader, err := c.TopicLeader()
		if err != nil {
			t.Fatal(err)
		}
		n := c.Nodes[slices.IndexFunc(c.Nodes, func(n *testcluster.Node) bool { return n.Name == leader })]
		f := describeFault(c, n)
		f.Event = n.Term()
		c.ComeBack(n, scenario.Group)
		faults = append(faults, f)
	}
	h := scenario.Judge(t, c, load, history.Rules{
		Groups: []string{scenario.Group}, Repeats: history.RepeatsNever, MinAcked: burst, MinKeys: scenario.Keys,
		MinKills: *deepTermsFlag, MinHandoffs: *deepTermsFlag * 2 * (partitions / 4),
	})
	t.Log(moveTable(h, faults))
}

// moveTable shows the pause of each partition that was handed over, apart for
// leaving and for coming back.
func moveTable(h history.History, faults []fault) string {
	moves := history.PlannedMoves(h)
	return scenario.Table("STOP\tLEADER\tLAG\tWHEN\tPAUSE OF A MOVED PARTITION", func(row func(...any)) {
		var away, back []time.Duration
		for i, f := range faults {
			name := fmt.Sprintf("%d: %s", i+1, f.Node)
			until := int64(1<<63 - 1)
			if i+1 < len(faults) {
				until = faults[i+1].At
			}
			from := pauses(moves, func(m history.Move) bool { return m.From == f.Node && m.At > f.At && m.At < until })
			to := pauses(moves, func(m history.Move) bool { return m.To == f.Node && m.At > f.At && m.At < until })
			row(name, f.led, f.lag, "leaving", history.Summarize(from))
			row(name, "", "", "back", history.Summarize(to))
			away, back = append(away, from...), append(back, to...)
		}
		row("all", "", "", "leaving", history.Summarize(away))
		row("all", "", "", "back", history.Summarize(back))
	})
}

func pauses(moves []history.Move, take func(history.Move) bool) []time.Duration {
	var d []time.Duration
	for _, m := range moves {
		if take(m) && !m.Backoff {
			d = append(d, m.Pause)
		}
	}
	return d
}

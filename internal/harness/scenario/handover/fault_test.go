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
	killsFlag = flag.Int("kills", 4, "how many kills TestLongKillLoop makes")
	termsFlag = flag.Int("terms", 3, "how many clean stops TestLongTermLoop makes")

	deepTermsFlag = flag.Int("deep-terms", 1, "how many clean stops TestLongTermHandsOverADeepBacklog makes")
)

// faultDelay is how long a call takes: 32 partitions handle up to 450 messages
// a second, a little more than is published. The burst's backlog is there for
// the whole run and drains at its end.
const faultDelay = 70 * time.Millisecond

// faultRun says how often nodes are killed or stopped, and under what load.
type faultRun struct {
	times, burst int
	rate         int // messages a second
}

// ordinary is one fault, and a backlog that lasts for it.
var ordinary = faultRun{times: 1, burst: 1500, rate: 400}

// long is a run of so many faults.
func long(times int) faultRun { return faultRun{times: times, burst: 3000, rate: 300} }

// start starts three nodes with a group that is behind.
func (r faultRun) start(t *testing.T) (*testcluster.Cluster, *testcluster.Load) {
	t.Helper()
	return startRun(t, runSpec{
		partitions: scenario.Partitions, keys: scenario.Keys,
		handler: testcluster.CallLogOptions{Delay: faultDelay, RetryEvery: 500}, rate: r.rate, burst: r.burst,
	})
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
func TestLongKillLoop(t *testing.T) {
	if testing.Short() {
		t.Skip("make test-long runs it")
	}
	long(*killsFlag).kill(t)
}

// The same with one kill.
func TestKilledNodesPartitionsGoOn(t *testing.T) { ordinary.kill(t) }

func (r faultRun) kill(t *testing.T) {
	c, load := r.start(t)
	var faults []fault
	for i := range r.times {
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
		MinAcked:     r.burst,
		MinKeys:      scenario.Keys,
		MinKills:     r.times,
		MinHandoffs:  r.times * scenario.Partitions / 4,
		MinTakeovers: r.times * scenario.Partitions / 4,
		// At least one call in flight for each kill, on average.
		MinRedelivered: r.times,
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
func TestLongTermLoop(t *testing.T) {
	if testing.Short() {
		t.Skip("make test-long runs it")
	}
	long(*termsFlag).term(t)
}

// The same with one stop.
func TestTermHandsOver(t *testing.T) { ordinary.term(t) }

func (r faultRun) term(t *testing.T) {
	c, load := r.start(t)
	var faults []fault
	for i := range r.times {
		n := c.Nodes[i%len(c.Nodes)]
		f := describeFault(c, n)
		f.Event = n.Term()
		c.ComeBack(n, scenario.Group)
		faults = append(faults, f)
	}
	h := scenario.Judge(t, c, load, history.Rules{
		Groups:      []string{scenario.Group},
		Repeats:     history.RepeatsNever,
		MinAcked:    r.burst,
		MinKeys:     scenario.Keys,
		MinKills:    r.times,
		MinHandoffs: r.times * 2 * (scenario.Partitions / 4), // away and back
	})
	t.Log(moveTable(h, faults))
}

// A clean stop while every partition is so far behind that the next owner has
// to read further down than it reads for its own, of the node that leads the
// topic and so answers the request to do that.
func TestLongTermHandsOverADeepBacklog(t *testing.T) {
	if testing.Short() {
		t.Skip("make test-long runs it")
	}
	const partitions, burst = 64, 40_000
	topic := partitioner.Topic{Name: "orders", Partitions: partitions}
	c := testcluster.New(t, testcluster.Spec{Topics: []testcluster.Topic{{Name: topic.Name, Partitions: partitions}},
		LogLevel: "debug"})
	c.StartGroup(testcluster.Group{Name: scenario.Group, Topic: topic.Name,
		Handler: c.CallLogHandler(testcluster.CallLogOptions{Delay: 25 * time.Millisecond})})
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

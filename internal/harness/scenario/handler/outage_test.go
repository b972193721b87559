package handler

import (
	"errors"
	"flag"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"leasehold/internal/harness/history"
	"leasehold/internal/harness/monotonic"
	"leasehold/internal/harness/scenario"
	"leasehold/internal/harness/testcluster"
	"leasehold/partitioner"
)

var outageFlag = flag.Duration("outage", 4*time.Second,
	"how long the service is down, each time, in TestLongOutageEmptiesNothing")

const (
	outageGroup      = "billing"
	outagePartitions = 12
	outageAttempts   = 2
	outageTimeout    = 200 * time.Millisecond
	outageBackoff    = 10 * time.Millisecond
	outageRate       = 200
	// runsOut is how often a message must be able to use up its attempts while an outage lasts.
	runsOut = 20
	// buriedANode is how many messages may pay for an outage that looks as if they were to blame.
	buriedANode = 3
)

// downtime is one way in which a service is down.
type downtime struct {
	name       string
	answer     time.Duration // How long a call takes that fails so.
	letters    int           // At most so many dead letters a node.
	says       string        // What status says of it.
	begin, end func()
}

// lasts is as long as the flag says, or until attempts could have run out often enough.
func (o downtime) lasts() time.Duration { return max(*outageFlag, runsOut*o.runsOutIn()) }

func (o downtime) runsOutIn() time.Duration { return outageAttempts * (o.answer + outageBackoff) }

// outages is a cluster whose only group calls a service that goes down and comes back under load.
type outages struct {
	*testcluster.Cluster
	t       *testing.T
	load    *testcluster.Load
	service *testcluster.Process
	address string
}

// TestLongOutageEmptiesNothing: a service is down for so long that every message could use up its attempts many times
// over. It costs no message when the service says so, and three a node when it looks as if messages were to blame. All
// that waited is handled in order when the service is back, and the log says once per partition that it waits.
func TestLongOutageEmptiesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("make test-long runs it")
	}
	o := newOutages(t)
	var rows []outageRow
	for _, down := range o.kinds() {
		rows = append(rows, o.run(down))
	}
	published := o.load.Stop(t, testcluster.DrainLimit)
	o.WaitDrained(testcluster.DrainLimit, outageGroup)
	t.Log(scenario.Table("OUTAGE\tLASTED\tATTEMPTS COULD RUN OUT\tCALLS\tDEAD LETTERS\tBACKLOG\tFIRST DONE\tBACKLOG "+
		"DONE\tLAG GONE\tLOG LINES", func(row func(...any)) {
		for _, r := range rows {
			row(r.name, scenario.Short(r.lasted), fmt.Sprintf("%d times", r.lasted/r.runsOutIn()), r.calls, r.buried, r.backlog,
				scenario.Short(r.first), scenario.Short(r.all), scenario.Short(r.lagGone), r.lines)
		}
	}))
	o.judge(published)
}

func newOutages(t *testing.T) *outages {
	t.Helper()
	topic := testcluster.Topic{Name: "orders", Partitions: outagePartitions}
	o := &outages{t: t, Cluster: testcluster.New(t, testcluster.Spec{Topics: []testcluster.Topic{topic},
		LogLevel: "info"})}
	o.address = fmt.Sprintf("127.0.0.1:%d", testcluster.FreePorts(t, 1)[0])
	o.AddGroup(testcluster.Group{
		Name: outageGroup, Topic: "orders", Handler: fmt.Sprintf(`{ kind = "http", url = "http://%s/" }`, o.address),
		Extra: fmt.Sprintf("timeout = %q\nmax_attempts = %d\nbackoff = { initial = %q, max = \"100ms\" }",
			outageTimeout, outageAttempts, outageBackoff),
	})
	o.up()
	o.StartAll(testcluster.StartLimit)
	o.WaitBalanced(testcluster.MoveLimit, outageGroup)
	o.load = testcluster.StartLoad(t, o.URLs(), testcluster.LoadSpec{
		Topic: partitioner.Topic{Name: "orders", Partitions: outagePartitions}, Names: keysOfEach(outagePartitions, 3),
		Rate: outageRate,
	})
	testcluster.Eventually(t, testcluster.MoveLimit, func() error {
		if n := len(o.Calls()); n < 100 {
			return fmt.Errorf("%d calls", n)
		}
		return nil
	})
	return o
}

// keysOfEach makes n keys of each partition.
func keysOfEach(partitions, n int) []string {
	left := slices.Repeat([]int{n}, partitions)
	var keys []string
	for i := 0; len(keys) < n*partitions; i++ {
		key := fmt.Sprintf("k%d", i)
		if p := partitioner.Of(partitions, key); left[p] > 0 {
			left[p]--
			keys = append(keys, key)
		}
	}
	return keys
}

func (o *outages) up() { o.service = o.Serve("http", o.CallDir(), o.address) }

func (o *outages) kinds() []downtime {
	answer := func(say string) func() { return func() { o.AnswerAll(outageGroup, say) } }
	return []downtime{
		{name: "refused", says: "refused", begin: func() { o.service.Kill() }, end: o.up},
		{name: "500", letters: buriedANode, says: "500 Internal Server Error", begin: answer("retry"), end: answer("")},
		{name: "hangs", answer: outageTimeout, letters: buriedANode, says: "no answer", begin: answer("hang"),
			end: answer("")},
	}
}

// outageRow is what came of one outage.
type outageRow struct {
	downtime
	lasted   time.Duration
	calls    int           // During the outage.
	buried   int           // Dead letters of it.
	backlog  int           // Messages that waited at its end.
	first    time.Duration // From the end of the outage to the end of the first success,
	all      time.Duration // of the last message that waited,
	lagGone  time.Duration // and until status showed no more lag than what comes in.
	lines    int           // Of the group in all logs, at Info and above.
	from, to int64         // Of the outage; monotonic, in ns.
}

// run has the service go down and come back.
func (o *outages) run(down downtime) outageRow {
	o.t.Helper()
	before, logged := o.Letters(outageGroup), o.logLengths()
	r := outageRow{downtime: down, from: monotonic.Now()}
	over := time.NewTimer(down.lasts())
	defer over.Stop()
	down.begin()
	o.waitStalled(down)
	<-over.C
	down.end()
	r.to = monotonic.Now()
	r.lasted = time.Duration(r.to - r.from)
	o.waitBack()
	r.lagGone = time.Duration(monotonic.Now() - r.to)
	o.measure(&r)
	o.checkLetters(&r, before)
	o.checkLog(&r, logged)
	return r
}

// waitStalled waits until status says of every partition that it waits, and why.
func (o *outages) waitStalled(down downtime) {
	o.t.Helper()
	testcluster.Eventually(o.t, testcluster.MoveLimit, func() error {
		g, err := o.Group(outageGroup)
		if err != nil {
			return err
		}
		for _, p := range g.Partitions {
			if p.State != "unavailable" || !strings.Contains(p.Error, down.says) {
				return fmt.Errorf("%s: partition %d is %s: %q", down.name, p.Partition, p.State, p.Error)
			}
		}
		return nil
	})
}

// waitBack waits until status shows every partition at work and no more lag than a message for each.
func (o *outages) waitBack() {
	o.t.Helper()
	testcluster.Eventually(o.t, testcluster.DrainLimit, func() error {
		g, err := o.Group(outageGroup)
		switch {
		case err != nil:
			return err
		case g.Lag == nil:
			return errors.New("lag is not known")
		case *g.Lag > outagePartitions:
			return fmt.Errorf("lag %d", *g.Lag)
		}
		for _, p := range g.Partitions {
			if p.State != "held" && p.State != "retrying" || p.Error != "" {
				return fmt.Errorf("partition %d is %s: %q", p.Partition, p.State, p.Error)
			}
		}
		return nil
	})
}

// measure reads from the calls what happened in the outage and after it.
func (o *outages) measure(r *outageRow) {
	calls := o.Calls()
	done := map[string]int64{}
	for _, c := range calls {
		if c.Start >= r.from && c.Start < r.to {
			r.calls++
		}
		if c.Result != "ok" {
			continue
		}
		if at, before := done[c.ID]; !before || c.End < at {
			done[c.ID] = c.End
		}
		if after := time.Duration(c.End - r.to); after > 0 && (r.first == 0 || after < r.first) {
			r.first = after
		}
	}
	for _, p := range o.load.Records() {
		if at := done[p.ID]; p.Acked < r.to && at > r.to {
			r.backlog++
			r.all = max(r.all, time.Duration(at-r.to))
		}
	}
	if r.backlog == 0 {
		o.t.Errorf("%s: nothing waited at the end of the outage", r.name)
	}
}

// checkLetters holds the dead letters of the outage against what may be.
func (o *outages) checkLetters(r *outageRow, before map[string]testcluster.Letter) {
	o.t.Helper()
	of := map[string]int{}
	for id, l := range o.Letters(outageGroup) {
		if _, old := before[id]; old {
			continue
		}
		r.buried++
		of[l.Node]++
		if l.Reason != "max_attempts" || l.Attempts != outageAttempts {
			o.t.Errorf("%s: dead letter of %s: %+v", r.name, id, l)
		}
	}
	for node, n := range of {
		if n > r.letters {
			o.t.Errorf("%s: %d dead letters of %s, at most %d may be", r.name, n, node, r.letters)
		}
	}
}

func (o *outages) logLengths() []int {
	var lengths []int
	for _, n := range o.Nodes {
		lengths = append(lengths, len(n.Log()))
	}
	return lengths
}

var partitionInLog = regexp.MustCompile(` partition=(\d+) `)

// checkLog counts what the nodes logged of the group: one line per partition says that it waits and one that it goes
// on, and besides that there is what came of the few messages that were at hand.
func (o *outages) checkLog(r *outageRow, from []int) {
	o.t.Helper()
	waits := map[string]int{}
	for i, n := range o.Nodes {
		for line := range strings.Lines(n.Log()[from[i]:]) {
			if !strings.Contains(line, "group="+outageGroup) {
				continue
			}
			r.lines++
			if strings.Contains(line, "the partition waits") {
				waits[partitionInLog.FindString(line)]++
			}
		}
	}
	for partition, times := range waits {
		if times != 1 {
			o.t.Errorf("%s: the logs say %d times of%sthat it waits", r.name, times, partition)
		}
	}
	if len(waits) != outagePartitions {
		o.t.Errorf("%s: the logs say of %d partitions that they wait, want %d", r.name, len(waits), outagePartitions)
	}
	// Waits, goes on, and a first failure for each; first failure and end of each message dead-lettered, and the breaker's
	// two lines.
	if most := 3*outagePartitions + len(o.Nodes)*(2*buriedANode+2); r.lines > most {
		o.t.Errorf("%s: %d lines logged of the group, want at most %d", r.name, r.lines, most)
	}
}

// judge checks the whole run: complete, in order, and with the right attempts.
func (o *outages) judge(published []history.PublishRecord) {
	o.t.Helper()
	h := o.History(published)
	report := history.Check(h, history.Rules{
		Groups: []string{outageGroup}, MaxAttempts: outageAttempts, Repeats: history.RepeatsAlways,
		MinAcked: len(published), MinKeys: 3 * outagePartitions,
	})
	o.t.Log(report)
	if report.Err() != nil {
		o.t.Error(report.Err())
	}
	letters, last := o.Letters(outageGroup), o.checkAttempts(h.Calls)
	for _, p := range published {
		if _, dead := letters[p.ID]; dead == (last[p.ID].Result == "ok") {
			o.t.Errorf("%s: dead letter %v, last call %+v", p.ID, dead, last[p.ID])
		}
	}
}

// checkAttempts checks that each call of a message has one attempt more than the one before, up to the last, and
// returns each message's last call. The service never saw the calls that were in its socket when it was killed, one a
// partition.
func (o *outages) checkAttempts(calls []history.Call) map[string]history.Call {
	o.t.Helper()
	last, unseen := map[string]history.Call{}, 0
	for _, c := range scenario.InOrder(calls) {
		switch want := min(last[c.ID].Attempt+1, outageAttempts); c.Attempt {
		case want:
		case want + 1:
			unseen++
		default:
			o.t.Errorf("%s was called with attempt %d, want %d", c.ID, c.Attempt, want)
		}
		last[c.ID] = c
	}
	if unseen > outagePartitions {
		o.t.Errorf("%d attempts were counted without a call", unseen)
	}
	return last
}

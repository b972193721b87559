//go:build bench

package bench

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	proc "leasehold/internal/harness/fault/process"
	"leasehold/internal/harness/history"
	"leasehold/internal/harness/scenario"
	"leasehold/internal/harness/testcluster"
	"leasehold/partitioner"
)

var costsFlag = flag.String("costs", "",
	"TestHandlerCosts: the rows to measure at length, a regular expression; empty: two of them, briefly")

const (
	drainGroup, liveGroup = "drain", "live" // Each of the topic of its name.

	costKeys    = 10_007
	costPayload = 256 // Bytes.

	// A drain is measured between these percentages of it: it begins with lanes that start, and ends with some that have
	// nothing left.
	costFrom, costTo = 5, 95
)

// costPlan says how long to measure, and what.
type costPlan struct {
	kinds      []costKind
	partitions int
	shorten    int           // What a backlog is divided by.
	runs       int           // Drains, and parts of the live phase: medians are taken of them.
	longest    time.Duration // Of a drain; what is left of the backlog then is not waited for.
	live       time.Duration // Of each part.
}

func newCostPlan(t *testing.T) costPlan {
	t.Helper()
	p := costPlan{partitions: 8, shorten: 200, runs: 1, longest: 10 * time.Second, live: time.Second}
	rows := "^(http, batches|exec)$"
	if *costsFlag != "" {
		p = costPlan{partitions: 64, shorten: 1, runs: 3, longest: 10 * time.Second, live: 10 * time.Second}
		rows = *costsFlag
	}
	match, err := regexp.Compile(rows)
	if err != nil {
		t.Fatalf("-costs: %v", err)
	}
	p.kinds = slices.DeleteFunc(slices.Clone(costKinds), func(k costKind) bool { return !match.MatchString(k.name) })
	if len(p.kinds) == 0 {
		t.Fatalf("-costs %q matches none of the rows", rows)
	}
	return p
}

// What a message costs with each kind of handler: throughput of a backlog, processor time, and how long after its
// acknowledgement a message is handled while there is no backlog. It prints and asserts nothing of that: the machine is
// shared.
func TestHandlerCosts(t *testing.T) {
	plan := newCostPlan(t)
	var rows []costRow
	for _, k := range plan.kinds {
		t.Run(k.name, func(t *testing.T) {
			load, _ := os.ReadFile("/proc/loadavg")
			row := startCosts(t, plan, k).measure()
			rows = append(rows, row)
			t.Logf("load average before: %s%s", load, costTable(row))
		})
	}
	t.Log(costTable(rows...))
}

// costRig is a cluster with one kind of handler.
type costRig struct {
	*testcluster.Cluster
	t        *testing.T
	plan     costPlan
	kind     costKind
	services []int // Process ids of what the handler calls.
}

func startCosts(t *testing.T, plan costPlan, k costKind) *costRig {
	t.Helper()
	r := &costRig{t: t, plan: plan, kind: k}
	r.Cluster = testcluster.New(t, testcluster.Spec{LogLevel: "info", Topics: []testcluster.Topic{
		{Name: drainGroup, Partitions: plan.partitions, Extra: `retain = "1h"`}, // It is drained several times.
		{Name: liveGroup, Partitions: plan.partitions},
	}})
	r.AddGroup(testcluster.Group{Name: drainGroup, Topic: drainGroup, Handler: k.handler(r, drainGroup, "")})
	r.AddGroup(testcluster.Group{Name: liveGroup, Topic: liveGroup, Handler: k.handler(r, liveGroup, r.stamps())})
	r.StartAll(testcluster.StartLimit)
	r.WaitBalanced(testcluster.MoveLimit, drainGroup)
	r.WaitBalanced(testcluster.MoveLimit, liveGroup)
	return r
}

// stamps is where the handler of the live group writes down when it answered.
func (r *costRig) stamps() string { return filepath.Join(r.Dir, "stamps") }

// costRow is what a kind of handler came to.
type costRow struct {
	kind   costKind
	drains []drainCost
	parts  []history.Figures // Of the live phase: from a message's acknowledgement to the handler's answer.
}

func (r *costRig) measure() costRow {
	r.t.Helper()
	row := costRow{kind: r.kind}
	r.pause()
	backlog := r.fill()
	for range r.plan.runs {
		row.drains = append(row.drains, r.drain(backlog))
	}
	r.pause() // Some of the last drain may be left.
	if r.kind.rate > 0 {
		row.parts = r.liveParts()
	}
	return row
}

func (r *costRig) pause() {
	r.t.Helper()
	r.ask("pause", drainGroup, "--yes", "--reason", "between drains")
}

// ask runs a command that must succeed.
func (r *costRig) ask(args ...string) {
	r.t.Helper()
	if code, out := r.Nodes[0].Command(args...); code != 0 {
		r.t.Fatalf("leasehold %s: exit code %d: %s", strings.Join(args, " "), code, out)
	}
}

func (r *costRig) load(topic string, burst, rate int) *testcluster.Load {
	data := []byte(strings.Repeat("x", costPayload))
	return testcluster.StartLoad(r.t, r.URLs(), testcluster.LoadSpec{
		Topic: partitioner.Topic{Name: topic, Partitions: r.plan.partitions}, Keys: costKeys, Burst: burst, Rate: rate,
		Data: func(int, string) []byte { return data },
	})
}

// bySequence are the sequences of a topic's messages by partition, ascending.
type bySequence [][]uint64

// fill publishes the backlog.
func (r *costRig) fill() bySequence {
	r.t.Helper()
	n := r.kind.messages / r.plan.shorten
	load := r.load(drainGroup, n, 0)
	testcluster.Eventually(r.t, testcluster.DrainLimit, func() error {
		if got := load.Published(); got < n {
			return fmt.Errorf("%d of %d published", got, n)
		}
		return nil
	})
	backlog := make(bySequence, r.plan.partitions)
	for _, p := range load.Stop(r.t, testcluster.DrainLimit) {
		if p.Outcome == history.Stored {
			of := partitioner.Of(r.plan.partitions, p.Key)
			backlog[of] = append(backlog[of], p.Seq)
		}
	}
	for _, seqs := range backlog {
		slices.Sort(seqs)
	}
	return backlog
}

func (b bySequence) count() int {
	n := 0
	for _, seqs := range b {
		n += len(seqs)
	}
	return n
}

// drainCost is what a drain took.
type drainCost struct {
	rate            float64       // Messages a second.
	nodes, handlers time.Duration // Processor time a message.
}

// look is how far a drain is, and the processor time it has taken.
type look struct {
	at              time.Time
	done            int
	nodes, handlers int // Ticks.
}

// drain has the backlog handled from its beginning.
func (r *costRig) drain(backlog bySequence) drainCost {
	r.t.Helper()
	r.pause()
	for _, name := range r.fileLines(drainGroup) { // What its files have passed, the kind file does not write again.
		if err := os.Remove(name); err != nil {
			r.t.Fatal(err)
		}
	}
	r.ask("seek", drainGroup, "--to", "earliest", "--yes")
	start := r.lookAfter(backlog, 0, testcluster.RequestLimit)
	r.ask("resume", drainGroup, "--yes")
	all := backlog.count()
	first := r.lookAfter(backlog, all*costFrom/100, testcluster.DrainLimit)
	last := r.lookAfter(backlog, all*costTo/100, r.plan.longest)
	if first.done > all*costTo/100 { // It was over before the first look.
		first = start
	}
	n := last.done - first.done
	if n <= 0 {
		r.t.Fatalf("%d of %d messages were handled, and then none in %s", last.done, all, r.plan.longest)
	}
	each := func(ticks int) time.Duration {
		return time.Duration(ticks) * time.Second / ticksASecond / time.Duration(n)
	}
	return drainCost{
		rate:  float64(n) / last.at.Sub(first.at).Seconds(),
		nodes: each(last.nodes - first.nodes), handlers: each(last.handlers - first.handlers),
	}
}

// lookAfter looks when so many messages are done, or at the limit.
func (r *costRig) lookAfter(backlog bySequence, done int, limit time.Duration) look {
	r.t.Helper()
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		l, err := r.look(backlog)
		switch {
		case err == nil && (l.done >= done || time.Now().After(deadline)):
			return l
		case time.Now().After(deadline.Add(testcluster.RequestLimit)):
			r.t.Fatal(err)
		}
		<-tick.C
	}
}

// look takes the time half-way through the request: then the nodes said how far they are.
func (r *costRig) look(backlog bySequence) (look, error) {
	from := time.Now()
	g, err := r.Group(drainGroup)
	if err != nil {
		return look{}, err
	}
	l := look{at: from.Add(time.Since(from) / 2)}
	for _, p := range g.Partitions {
		l.done += sort.Search(len(backlog[p.Partition]), func(i int) bool { return backlog[p.Partition][i] > p.Done })
	}
	l.nodes, l.handlers, err = r.ticks()
	return l, err
}

// ticks is the processor time of the nodes, and that of their handlers: their children, dead ones too, and services.
func (r *costRig) ticks() (nodes, handlers int, err error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, 0, err
	}
	pids := make(map[int]bool)
	for _, n := range r.Nodes {
		pids[n.PID()] = true
	}
	for _, name := range stats {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		f := proc.Stat(pid)
		if len(f) < 15 {
			continue // Gone meanwhile, or going.
		}
		parent, _ := strconv.Atoi(f[1])
		own, children := sum(f[11:13]), sum(f[13:15])
		switch {
		case pids[pid]:
			nodes, handlers = nodes+own, handlers+children
		case pids[parent], slices.Contains(r.services, pid):
			handlers += own + children
		}
	}
	return nodes, handlers, nil
}

func sum(numbers []string) int {
	total := 0
	for _, text := range numbers {
		n, _ := strconv.Atoi(text)
		total += n
	}
	return total
}

// liveParts publishes at a steady rate and returns how long each message took, in parts of equal length.
func (r *costRig) liveParts() []history.Figures {
	r.t.Helper()
	load := r.load(liveGroup, 0, r.kind.rate)
	testcluster.Pass(time.Duration(r.plan.runs) * r.plan.live)
	published := load.Stop(r.t, testcluster.DrainLimit)
	slices.SortFunc(published, func(a, b history.PublishRecord) int { return cmp.Compare(a.Acked, b.Acked) })
	var took []time.Duration
	testcluster.Eventually(r.t, testcluster.DrainLimit, func() (err error) {
		took, err = r.took(published)
		return err
	})
	var parts []history.Figures
	for part := range slices.Chunk(took, (len(took)+r.plan.runs-1)/r.plan.runs) {
		parts = append(parts, history.Summarize(part))
	}
	return parts
}

// took is the time from each message's acknowledgement to the answer. The handler can be faster than the
// acknowledgement is at the publisher: then it took none.
func (r *costRig) took(published []history.PublishRecord) ([]time.Duration, error) {
	answers := r.answers()
	var took []time.Duration
	for _, p := range published {
		at, ok := answers.Of(partitioner.Of(r.plan.partitions, p.Key), p.Seq)
		switch {
		case p.Outcome != history.Stored:
			return nil, fmt.Errorf("%s was not stored: %s", p.ID, p.Outcome)
		case !ok:
			return nil, fmt.Errorf("%s was not answered", p.ID)
		}
		took = append(took, time.Duration(max(0, at-p.Acked)))
	}
	if len(took) == 0 {
		return nil, errors.New("nothing was published")
	}
	return took, nil
}

// costTable shows medians, and for the throughput what they are of.
func costTable(rows ...costRow) string {
	head := "HANDLER\tMESSAGES/s\t(FROM–TO)\tNODES, µs OF CPU EACH\tHANDLER, µs OF CPU EACH\tAT A RATE OF\tp50 ms\tp99 ms"
	return scenario.Table(head, func(row func(...any)) {
		for _, c := range rows {
			rates := sortedBy(c.drains, func(d drainCost) float64 { return d.rate })
			cells := []any{
				c.kind.name, fmt.Sprintf("%.0f", median(rates)), fmt.Sprintf("(%.0f–%.0f)", rates[0], rates[len(rates)-1]),
				micros(c.drains, func(d drainCost) time.Duration { return d.nodes }),
				micros(c.drains, func(d drainCost) time.Duration { return d.handlers }), "–", "–", "–",
			}
			if c.kind.rate > 0 {
				cells = append(cells[:5], fmt.Sprintf("%d/s", c.kind.rate),
					millis(c.parts, func(f history.Figures) time.Duration { return f.Median }),
					millis(c.parts, func(f history.Figures) time.Duration { return f.P99 }))
			}
			row(cells...)
		}
	})
}

func micros[T any](all []T, of func(T) time.Duration) string {
	return fmt.Sprintf("%.0f", median(sortedBy(all, of)).Seconds()*1e6)
}

func millis[T any](all []T, of func(T) time.Duration) string {
	return fmt.Sprintf("%.1f", median(sortedBy(all, of)).Seconds()*1e3)
}

// sortedBy are the figures of all, ascending.
func sortedBy[T any, F cmp.Ordered](all []T, figure func(T) F) []F {
	var figures []F
	for _, one := range all {
		figures = append(figures, figure(one))
	}
	slices.Sort(figures)
	return figures
}

func median[F any](sorted []F) F { return sorted[len(sorted)/2] }

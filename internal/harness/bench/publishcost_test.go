//go:build bench

package bench

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	proc "leasehold/internal/harness/fault/process"
	"leasehold/internal/harness/history"
	"leasehold/internal/harness/scenario"
	"leasehold/internal/harness/testcluster"
)

var (
	publishFlag = flag.String("publish", "",
		"TestPublishCosts: the clusters to measure at length, a regular expression; empty: bare and leasehold, briefly")
	publishLegs = flag.String("publish-legs", "",
		"TestPublishCosts: the legs to measure, a regular expression such as '^async'; empty: all")
	publishRounds = flag.Int("publish-rounds", 3,
		"TestPublishCosts: how often each cluster is started and measured, in turn")
	publishTime  = flag.Duration("publish-time", 8*time.Second, "TestPublishCosts: how long a leg publishes")
	publishCount = flag.Int("publish-messages", 0,
		"TestPublishCosts: how many messages a leg publishes instead; 0: for as long as its time")
	publishOther = flag.String("publish-other", "",
		"TestPublishCosts: another build of leasehold, absolute, to measure beside this one as other, other-group and "+
			"other-user; empty: none")
	publishProf = flag.String("publish-profile", "",
		"TestPublishCosts: the directory, absolute, for perf's profiles of the stream's leader, one for each async leg; "+
			"empty: none")
)

// publishPlan says what to measure, and for how long.
type publishPlan struct {
	kinds    []publishKind
	legs     []publishLeg
	rounds   int
	duration time.Duration // Of a leg, unless messages is set.
	messages int
	profiles string // A directory, for one leg a file; "" for none.
}

func newPublishPlan(t *testing.T) publishPlan {
	t.Helper()
	p := publishPlan{rounds: 1, duration: 200 * time.Millisecond}
	kinds, legs := "^(bare|leasehold)$", *publishLegs
	if *publishFlag != "" {
		kinds = *publishFlag
		p = publishPlan{rounds: *publishRounds, duration: *publishTime, messages: *publishCount, profiles: *publishProf}
	}
	matchKind, err1 := regexp.Compile(kinds)
	matchLeg, err2 := regexp.Compile(legs)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatalf("-publish or -publish-legs: %v", err)
	}
	p.kinds = slices.DeleteFunc(slices.Clone(publishKinds), func(k publishKind) bool {
		return !matchKind.MatchString(k.name) || k.other && *publishOther == ""
	})
	p.legs = slices.DeleteFunc(slices.Clone(publishLegList), func(l publishLeg) bool {
		return !matchLeg.MatchString(l.name())
	})
	if len(p.kinds) == 0 || len(p.legs) == 0 || p.rounds < 1 {
		t.Fatalf("-publish %q, -publish-legs %q and -publish-rounds %d leave nothing to measure", kinds, legs, p.rounds)
	}
	return p
}

// What publishing costs through Leasehold, beside three bare NATS servers with a stream of the same config: in one run,
// in turn, each round on new clusters. It asserts only that every message was stored: the machine is shared.
func TestPublishCosts(t *testing.T) {
	plan := newPublishPlan(t)
	costs := publishCosts{}
	for round := range plan.rounds {
		for _, k := range plan.kinds {
			t.Run(fmt.Sprintf("Round%d/%s", round+1, k.name), func(t *testing.T) {
				r := k.start(t)
				r.publishFor(t, publishLegList[0], publishPlan{messages: 2 * asyncWindow}) // Warms up.
				for _, leg := range plan.legs {
					costs.add(k, leg, r.measure(t, leg, plan.of(k, leg, round)))
				}
			})
		}
	}
	t.Log(costs.table(plan))
}

// of is the plan for one leg, with the name of its profile if it gets one.
func (p publishPlan) of(k publishKind, leg publishLeg, round int) publishPlan {
	if p.profiles == "" || !leg.async {
		p.profiles = ""
		return p
	}
	p.profiles = filepath.Join(p.profiles, fmt.Sprintf("%s-%s-%d.perf", k.name, leg.through(), round+1))
	return p
}

// publishCost is what a leg came to.
type publishCost struct {
	rate          float64       // Messages a second.
	nodes, client time.Duration // Processor time a message: of the three nodes together, and of the test, which publishes.
	switches      float64       // Context switches of the three nodes a message.
	took          history.Figures
	again         int // Messages that had to be published again.
}

// measure publishes a leg and says what it cost.
func (r *publishRig) measure(t *testing.T, leg publishLeg, plan publishPlan) publishCost {
	t.Helper()
	leader := r.leads(t)
	endProfile := startProfile(t, r.pids[leader], plan.profiles)
	before, ownBefore, from := r.spent(t), ownTime(t), time.Now()
	sent := r.publishFor(t, leg, plan)
	took, own := time.Since(from), ownTime(t)-ownBefore
	r.settle() // What groups do with the messages is part of their cost.
	after := r.spent(t)
	endProfile()
	if now := r.leads(t); now != leader {
		t.Logf("%s: the stream's leader moved from node %d to node %d", leg.name(), leader+1, now+1)
	}
	if after.cpu == before.cpu || after.switches <= before.switches || own == 0 {
		t.Errorf("%s: the nodes' usage is %+v before and %+v after, the client's time %s: it was not measured", leg.name(),
			before, after, own)
	}
	n := float64(sent.count)
	return publishCost{
		rate:     n / took.Seconds(),
		nodes:    time.Duration(float64(after.cpu-before.cpu) / n),
		client:   time.Duration(float64(own) / n),
		switches: float64(after.switches-before.switches) / n,
		took:     history.Summarize(sent.took),
		again:    sent.again,
	}
}

// spent is what the nodes have used so far, together.
type spent struct {
	cpu      time.Duration
	switches int // Voluntary or not.
}

func (r *publishRig) spent(t *testing.T) spent {
	t.Helper()
	var s spent
	for _, pid := range r.pids {
		fields := proc.Stat(pid)
		if len(fields) < 13 {
			t.Fatalf("process %d has ended", pid)
		}
		s.cpu += time.Duration(sum(fields[11:13])) * time.Second / ticksASecond
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/[0-9]*", pid))
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range tasks {
			s.switches += switchesOf(task)
		}
	}
	return s
}

// switchesOf are the context switches of a thread, none if it has ended.
func switchesOf(task string) int {
	text, err := os.ReadFile(filepath.Join(task, "status"))
	if err != nil {
		return 0
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		if name, value, _ := strings.Cut(line, ":"); strings.HasSuffix(name, "_ctxt_switches") {
			n += sum([]string{strings.TrimSpace(value)})
		}
	}
	return n
}

// ownTime is the processor time of this process.
func ownTime(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// startProfile has perf watch a process until the function returned is called. Read the file with
// `perf report --no-children -i FILE`.
func startProfile(t *testing.T, pid int, file string) (end func()) {
	t.Helper()
	if file == "" {
		return func() {}
	}
	if _, err := exec.LookPath("perf"); err != nil {
		t.Fatal("a profile needs perf: install your distribution's linux-perf or linux-tools")
	}
	cmd := exec.Command("perf", "record", "-q", "-F", "499", "-g", "-o", file, "-p", strconv.Itoa(pid))
	p, err := testcluster.StartProcess(cmd)
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		_ = cmd.Process.Signal(syscall.SIGINT)
		if !p.Wait(testcluster.MoveLimit) {
			p.Kill()
			t.Errorf("perf did not write %s within %s", file, testcluster.MoveLimit)
		}
		t.Logf("profile of the stream's leader: perf report --no-children -i %s", file)
	}
}

// publishCosts are all rounds by leg and cluster.
type publishCosts map[string][]publishCost

func publishCell(k publishKind, leg publishLeg) string { return leg.name() + " " + k.name }

func (c publishCosts) add(k publishKind, leg publishLeg, cost publishCost) {
	cell := publishCell(k, leg)
	c[cell] = append(c[cell], cost)
}

// table shows medians, what those of the rate are of, and how they compare with the bare servers'. A leg whose messages
// had to be published again stood still meanwhile and says little.
func (c publishCosts) table(plan publishPlan) string {
	head := "LEG\tCLUSTER\tMESSAGES/s\t(FROM–TO)\tOF BARE\tNODES, µs OF CPU EACH\tOF BARE\tSWITCHES EACH\tp50 ms\tp99 " +
		"ms\tCLIENT, µs OF CPU EACH\tSENT AGAIN"
	return scenario.Table(head, func(row func(...any)) {
		for _, leg := range plan.legs {
			bare := c[publishCell(publishKinds[0], leg)]
			for _, k := range plan.kinds {
				all := c[publishCell(k, leg)]
				if len(all) == 0 {
					continue
				}
				rates := sortedBy(all, publishCost.byRate)
				p50, p99 := "–", "–" // Of an async leg they would be those of its window.
				if !leg.async {
					p50 = millis(all, func(c publishCost) time.Duration { return c.took.Median })
					p99 = millis(all, func(c publishCost) time.Duration { return c.took.P99 })
				}
				row(leg.name(), k.name, fmt.Sprintf("%.0f", median(rates)),
					fmt.Sprintf("(%.0f–%.0f)", rates[0], rates[len(rates)-1]), ratio(all, bare, publishCost.byRate),
					micros(all, publishCost.byNodes), ratio(all, bare, publishCost.byNodes),
					fmt.Sprintf("%.2f", median(sortedBy(all, func(c publishCost) float64 { return c.switches }))),
					p50, p99, micros(all, func(c publishCost) time.Duration { return c.client }), againOf(all))
			}
		}
	})
}

// againOf is how many messages of all rounds had to be published again.
func againOf(all []publishCost) (again int) {
	for _, c := range all {
		again += c.again
	}
	return again
}

func (c publishCost) byRate() float64        { return c.rate }
func (c publishCost) byNodes() time.Duration { return c.nodes }

// ratio is a median over that of the bare servers in the same run.
func ratio[F float64 | time.Duration](all, bare []publishCost, figure func(publishCost) F) string {
	if len(bare) == 0 {
		return "–"
	}
	a, b := median(sortedBy(all, figure)), median(sortedBy(bare, figure))
	return fmt.Sprintf("%.2f", float64(a)/float64(b))
}

func TestPublishTableComparesMediansWithBare(t *testing.T) {
	leg, costs := publishLegList[1], publishCosts{}
	for i, rate := range []float64{9000, 10_000, 40_000} {
		micros := time.Duration(100+i) * time.Microsecond
		costs.add(publishKinds[0], leg, publishCost{rate: rate, nodes: micros, switches: 2})
		costs.add(publishKinds[1], leg, publishCost{rate: rate / 2, nodes: 2 * micros, switches: 3, again: i,
			took: history.Figures{Median: 4 * time.Millisecond}})
	}
	text := costs.table(publishPlan{kinds: publishKinds[:2], legs: publishLegList[:2]})
	lines := strings.Split(strings.TrimSpace(text), "\n")
	want := "sync × 64, follower leasehold 5000 (4500–20000) 0.50 202 2.00 3.00 4.0 0.0 0 3"
	if len(lines) != 3 || strings.Join(strings.Fields(lines[2]), " ") != want {
		t.Errorf("want a head, bare and %q, got%s", want, text)
	}
}

package matrix

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"golang.org/x/crypto/bcrypt"

	"leasehold/internal/harness/fault/cgroup"
	"leasehold/internal/harness/fault/hostile"
	"leasehold/internal/harness/fault/process"
	"leasehold/internal/harness/history"
	"leasehold/internal/harness/monotonic"
	"leasehold/internal/harness/testcluster"
)

// stranger is the user that attacks, and bulk the topic to which it may publish. The load is another user, of another
// topic.
const stranger, strangersPassword, bulk = "stranger", "password-of-the-stranger", "bulk"

// Of each attack in a round.
const (
	assaultTime = 4 * time.Second
	beforeTime  = 10 * time.Second // without an attack, before the first
	quietTime   = 2 * time.Second  // likewise, between two
	fellowLimit = 2 * time.Second  // of its p99 beside an attack. The table has the ratio, which depends on the machine
)

var attacksFlag = flag.String("attacks", "",
	"row hostile: only attacks whose name matches; default: all, and then all at once")

// letStrangersIn gives the cluster the user that attacks.
func (w *World) letStrangersIn(s *testcluster.Spec) {
	w.T.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(strangersPassword), bcrypt.DefaultCost)
	w.must(err)
	file := filepath.Join(w.T.TempDir(), "stranger.hash")
	w.must(os.WriteFile(file, append(hash, '\n'), 0o600))
	s.LogLevel = "info"
	s.Topics = append(s.Topics, testcluster.Topic{Name: bulk, Partitions: 4, Extra: `max_bytes = "256MiB"`})
	s.Groups = append(s.Groups, testcluster.Group{Name: bulk, Topic: bulk, Handler: `{ kind = "discard" }`})
	s.Users = fmt.Sprintf("[[user]]\nname = %q\npassword_file = %q\npublish = [%q]\n", stranger, file, bulk)
}

// siege attacks nodes in one way after the other and keeps what each costs.
type siege struct {
	w         *World
	attackers *cgroup.Group // which get what the nodes leave of the processors, as if they came from another machine
	before    span
	between   []span
	costs     []cost
}

// span is a time on the clock of histories.
type span struct{ from, to int64 }

// cost is what an attack did, and what it cost each node.
type cost struct {
	form   string
	time   span
	count  hostile.Count
	cpu    []time.Duration
	peak   []int64 // resident bytes
	ready  int     // looks that found every node ready
	looks  int
	unwell error // what the last of the others found
}

// hostile attacks every node in every way, one at a time and then all at once.
func (w *World) hostile() {
	w.T.Helper()
	chosen, err := regexp.Compile(*attacksFlag)
	w.must(err)
	group, err := cgroup.New(w.T, fmt.Sprintf("attackers%d", len(w.faults))) // one for each round
	w.must(err)
	w.must(group.Yield())
	s := &siege{w: w, attackers: group}
	w.staysWhile(func() {
		s.before = s.rest(beforeTime)
		for _, form := range append(hostile.Forms(), hostile.Everything) {
			if !chosen.MatchString(form) {
				continue
			}
			s.assault(form)
			s.between = append(s.between, s.rest(quietTime))
		}
	})
	s.judge()
}

func (s *siege) rest(d time.Duration) span {
	from := monotonic.Now()
	s.w.Wait(d)
	return span{from, monotonic.Now()}
}

// assault makes one attack and measures.
func (s *siege) assault(form string) {
	s.w.T.Helper()
	c := cost{form: form, peak: make([]int64, len(s.w.Nodes)), cpu: make([]time.Duration, len(s.w.Nodes))}
	before := s.processorTimes()
	c.time.from = monotonic.Now()
	done := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() { c.watchMemory(s.w, done) })
	watch.Go(func() { c.watchReadiness(s.w, done) })
	count, err := s.run(form)
	close(done)
	watch.Wait()
	s.w.must(err)
	c.time.to, c.count = monotonic.Now(), count
	for i, after := range s.processorTimes() {
		c.cpu[i] = after - before[i]
	}
	s.costs = append(s.costs, c)
}

// run has the attack made by a process of its own.
func (s *siege) run(form string) (count hostile.Count, err error) {
	a := hostile.Assault{Form: form, User: stranger, Password: strangersPassword, Topic: bulk, For: assaultTime,
		Seed: s.w.Random.Uint64()}
	for _, n := range s.w.Nodes {
		ports := n.Listeners()
		a.Clients, a.HTTP, a.Ports = append(a.Clients, ports[0]), append(a.HTTP, ports[2]), append(a.Ports, ports...)
	}
	order, err := json.Marshal(a)
	if err != nil {
		return count, err
	}
	line := append(s.attackers.Within(), testcluster.AttackerBinary(s.w.T))
	cmd := exec.CommandContext(s.w.T.Context(), line[0], line[1:]...)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(order), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return count, fmt.Errorf("attack %q: %w", form, err)
	}
	return count, json.Unmarshal(out, &count)
}

func (s *siege) processorTimes() []time.Duration {
	s.w.T.Helper()
	var all []time.Duration
	for _, n := range s.w.Nodes {
		used, err := process.Time(n.PID())
		s.w.must(err)
		all = append(all, used)
	}
	return all
}

func (c *cost) watchMemory(w *World, done <-chan struct{}) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		for i, n := range w.Nodes {
			if resident, err := process.Memory(n.PID()); err == nil { // who is gone is found by watchReadiness
				c.peak[i] = max(c.peak[i], resident)
			}
		}
		select {
		case <-done:
			return
		case <-tick.C:
		}
	}
}

func (c *cost) watchReadiness(w *World, done <-chan struct{}) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		for _, n := range w.Nodes {
			c.looks++
			if err := n.Ready(); err != nil {
				c.unwell = err
			} else {
				c.ready++
			}
		}
		select {
		case <-done:
			return
		case <-tick.C:
		}
	}
}

// judge shows the table and says what is not as it must be.
func (s *siege) judge() {
	s.w.T.Helper()
	before := history.Summarize(s.took(s.before))
	s.w.T.Logf("the other user's acknowledgements, and what each attack of %s cost:\n%s", assaultTime, s.table(before))
	for _, c := range s.costs {
		if during := history.Summarize(s.took(c.time)); during.P99 > fellowLimit {
			s.w.T.Errorf("%s: p99 of the other user %s ms, %s ms before", c.form, ms(during.P99), ms(before.P99))
		}
		if c.ready < c.looks {
			s.w.T.Errorf("%s: of %d looks %d found a node not ready, the last: %v", c.form, c.looks, c.looks-c.ready, c.unwell)
		}
		if c.count.Made == 0 {
			s.w.T.Errorf("%s: hardly an attack: %v", c.form, c.count)
		}
		s.w.Did(attacked, history.Event{}, "%s: %v", c.form, c.count)
	}
	for i, n := range s.w.Nodes {
		effects, err := s.w.Groups[i].Effects()
		s.w.must(err)
		if effects.OOMKills > 0 {
			s.w.T.Errorf("%s: %d processes killed for memory", n.Name, effects.OOMKills)
		}
		for line := range strings.Lines(n.Log()) {
			if strings.Contains(line, "lane fenced") || strings.Contains(line, "node declared dead") {
				s.w.T.Errorf("%s: %s", n.Name, line)
			}
		}
	}
}

// took is how long acknowledgements took of messages that the load sent in these spans.
func (s *siege) took(spans ...span) []time.Duration {
	var took []time.Duration
	for _, r := range s.w.Load.Records() {
		for _, t := range spans {
			if r.Sent >= t.from && r.Sent < t.to {
				took = append(took, time.Duration(r.Acked-r.Sent))
			}
		}
	}
	return took
}

func (s *siege) table(before history.Figures) string {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ATTACK\tCONNECTIONS\tREFUSED\tCLOSED\tMiB SENT\tMESSAGES\tACKED\tREJECTED\tCPU s OF NODES\tPEAK "+
		"MiB\tREADY\tp50 ms\tp99 ms\tp99 / BEFORE")
	between := history.Summarize(s.took(s.between...))
	fmt.Fprintf(t, "none, before\t\t\t\t\t\t\t\t\t\t\t%s\t%s\t1.0\n", ms(before.Median), ms(before.P99))
	fmt.Fprintf(t, "none, between\t\t\t\t\t\t\t\t\t\t\t%s\t%s\t%.1f\n", ms(between.Median), ms(between.P99),
		ratio(between, before))
	for _, c := range s.costs {
		var cpu, peak []string
		for i := range c.cpu {
			cpu = append(cpu, fmt.Sprintf("%.1f", c.cpu[i].Seconds()))
			peak = append(peak, fmt.Sprint(c.peak[i]>>20))
		}
		f := history.Summarize(s.took(c.time))
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%.1f\t%d\t%d\t%d\t%s\t%s\t%d/%d\t%s\t%s\t%.1f\n", c.form, c.count.Made,
			c.count.Refused, c.count.Closed, float64(c.count.Sent)/(1<<20), c.count.Messages, c.count.Answered, c.count.Rejected,
			strings.Join(cpu, "/"), strings.Join(peak, "/"),
			c.ready, c.looks, ms(f.Median), ms(f.P99), ratio(f, before))
	}
	t.Flush()
	return b.String()
}

func ratio(f, before history.Figures) float64 { return float64(f.P99) / float64(max(1, before.P99)) }

func ms(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d)/float64(time.Millisecond)) }

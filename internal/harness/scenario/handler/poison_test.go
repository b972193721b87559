package handler

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"

	"leasehold/internal/harness/history"
	"leasehold/internal/harness/monotonic"
	"leasehold/internal/harness/scenario"
	"leasehold/internal/harness/testcluster"
	"leasehold/partitioner"
)

var poisonFlag = flag.Int("poison", 1000,
	"how many messages TestLongPoisonStopsWhatItsPolicySays publishes, one in 250 of them poisoned")

const (
	poisonPartitions = 12
	poisonEvery      = 250
	poisonRate       = 200
	poisonAttempts   = 3
	// poisonRetries is how long a message takes to use up its attempts: waits of 200 and 400 ms, with their jitter.
	poisonRetries = 720 * time.Millisecond
	// poisonSlack is for a starved machine; it catches hangs.
	poisonSlack = 10 * time.Second
)

// policies are the groups, each named after what it does with a message that fails for good.
var policies = []string{"dead_letter", "block", "park_key"}

// poison is a cluster with a group for each policy, whose topic has messages that always fail. All of those are of one
// key, which shares its partition with others.
type poison struct {
	*testcluster.Cluster
	t         *testing.T
	load      *testcluster.Load
	bad       string // The key.
	partition int
	start     int64 // Monotonic, in ns.

	// ids are the poisoned messages. The load writes them, and is done with that when everything is published.
	ids map[string]bool
}

// TestLongPoisonStopsWhatItsPolicySays: a poisoned message stops its partition for as long as it is retried, and then
// the partition, its key or nothing, as the group is configured. Once the handler is mended, a command brings back what
// was stopped, in order, even if the owner dies over it.
func TestLongPoisonStopsWhatItsPolicySays(t *testing.T) {
	if testing.Short() {
		t.Skip("make test-long runs it")
	}
	p := newPoison(t)
	p.waitPoisoned()
	rows := map[string]*poisonRow{}
	for _, policy := range policies {
		rows[policy] = p.measure(policy)
	}
	p.resume(rows["block"])
	p.release(rows["park_key"])
	published := p.load.Stop(t, testcluster.DrainLimit)
	for _, policy := range policies {
		p.WaitDrained(testcluster.DrainLimit, policy)
	}
	h := p.History(published)
	p.requeue(rows["dead_letter"])
	t.Log(scenario.Table("POLICY\tPARTITION STOOD\tPOISONED KEY STOOD\tOTHER PARTITIONS\tSET ASIDE\tFREED BY\tWHICH TOOK",
		func(row func(...any)) {
			for _, policy := range policies {
				r := rows[policy]
				row(policy, scenario.Short(r.partition), scenario.Short(p.longest(h, policy, scenario.OkOf(p.bad))),
					scenario.Short(r.others), r.aside, r.by, scenario.Short(r.took))
			}
		}))
	p.judge(h)
}

func newPoison(t *testing.T) *poison {
	t.Helper()
	topic := partitioner.Topic{Name: "orders", Partitions: poisonPartitions}
	keys := keysOfEach(poisonPartitions, 3)
	p := &poison{t: t, bad: keys[0], partition: partitioner.Of(poisonPartitions, keys[0]), ids: map[string]bool{}}
	p.Cluster = testcluster.New(t,
		testcluster.Spec{Topics: []testcluster.Topic{{Name: "orders", Partitions: poisonPartitions}}, LogLevel: "info"})
	for _, policy := range policies {
		p.AddGroup(testcluster.Group{
			Name: policy, Topic: "orders", Handler: p.BackendHandler(2, ""),
			Extra: fmt.Sprintf("timeout = \"10s\"\nmax_attempts = %d\non_exhausted = %q\nbackoff = { initial = \"200ms\", max "+
				"= \"400ms\", jitter = 0.2 }",
				poisonAttempts, policy),
		})
	}
	p.StartAll(testcluster.StartLimit)
	for _, policy := range policies {
		p.WaitBalanced(testcluster.MoveLimit, policy)
	}
	p.start = monotonic.Now()
	p.load = testcluster.StartLoad(t, p.URLs(), testcluster.LoadSpec{Topic: topic, Names: p.weighed(keys),
		Rate: poisonRate, Data: p.data()})
	return p
}

// weighed repeats keys of the poisoned partition, so that there is enough to see of it: a third of the messages, half
// of them of the poisoned key.
func (p *poison) weighed(keys []string) []string {
	for _, key := range slices.Clone(keys) {
		switch {
		case key == p.bad:
			keys = append(keys, slices.Repeat([]string{key}, 7)...)
		case partitioner.Of(poisonPartitions, key) == p.partition:
			keys = append(keys, slices.Repeat([]string{key}, 3)...)
		}
	}
	return keys
}

// data makes the payloads. A call of the poisoned key takes a while, so that its release can be cut off in the middle.
func (p *poison) data() func(i int, key string) []byte {
	next := poisonEvery / 2
	return func(i int, key string) []byte {
		switch {
		case key != p.bad:
			return fmt.Appendf(nil, `{"n":%d}`, i)
		case i < next || i > *poisonFlag-poisonRate/2:
			return fmt.Appendf(nil, `{"n":%d,"ms":5}`, i)
		}
		next += poisonEvery
		p.ids[fmt.Sprintf("m%d", i)] = true
		return fmt.Appendf(nil, `{"n":%d,"ms":5,"always":"retry"}`, i)
	}
}

// waitPoisoned waits until all poisoned messages have been published and each group stands as its policy wants it.
func (p *poison) waitPoisoned() {
	p.t.Helper()
	limit := 2*time.Duration(*poisonFlag/poisonRate)*time.Second + testcluster.MoveLimit
	testcluster.Eventually(p.t, limit, func() error {
		if n := p.load.Published(); n < *poisonFlag {
			return fmt.Errorf("%d of %d published", n, *poisonFlag)
		}
		s, err := p.Status()
		if err != nil {
			return err
		}
		err = errors.Join(p.stands(s, "dead_letter", "held", 0), p.stands(s, "block", "blocked", 0),
			p.stands(s, "park_key", "held", 1))
		if err != nil {
			return err
		}
		if n := len(p.Letters("dead_letter")); n < len(p.ids) {
			return fmt.Errorf("%d dead letters of %d poisoned messages", n, len(p.ids))
		}
		return nil
	})
	p.checkAside()
}

// stands is nil if status shows the poisoned partition so, and nothing wrong with any other.
func (p *poison) stands(s testcluster.Status, policy, state string, parked int) error {
	g := s.Group(policy)
	if len(g.Partitions) == 0 {
		return fmt.Errorf("no partitions of %s", policy)
	}
	for _, at := range g.Partitions {
		switch {
		case at.Partition != p.partition && (at.State != "held" || at.Error != ""):
			return fmt.Errorf("%s: partition %d is %s: %s", policy, at.Partition, at.State, at.Error)
		case at.Partition == p.partition && (at.State != state || at.Parked != parked ||
			(at.Error != "") != (state == "blocked")):
			return fmt.Errorf("%s: poisoned partition %d is %s with %d parked keys: %q", policy, at.Partition, at.State,
				at.Parked, at.Error)
		}
	}
	return nil
}

// checkAside checks which messages were set aside, and why.
func (p *poison) checkAside() {
	p.t.Helper()
	if letters := p.Letters("block"); len(letters) != 0 {
		p.t.Errorf("block: dead letters %v", letters)
	}
	dead := p.Letters("dead_letter")
	for id := range p.ids {
		if l := dead[id]; l.Reason != "max_attempts" || l.Attempts != poisonAttempts {
			p.t.Errorf("dead_letter: %s: %+v", id, l)
		}
	}
	if len(dead) != len(p.ids) {
		p.t.Errorf("dead_letter: %d dead letters of %d poisoned messages", len(dead), len(p.ids))
	}
	first := 0
	for id, l := range p.Letters("park_key") {
		switch {
		case l.Key != p.bad:
			p.t.Errorf("park_key: %s of key %s is parked", id, l.Key)
		case l.Reason == "max_attempts":
			first++
		case l.Reason != "parked":
			p.t.Errorf("park_key: %s: %+v", id, l)
		}
	}
	if first != 1 {
		p.t.Errorf("park_key: %d messages used up their attempts, want only the first", first)
	}
}

// poisonRow is what a policy came to.
type poisonRow struct {
	partition time.Duration // Longest that the other keys of the poisoned partition had to wait,
	others    time.Duration // and those of other partitions.
	aside     string
	by        string // The command.
	took      time.Duration
}

// measure looks at what went on so far beside the poisoned key, and holds it against what may be.
func (p *poison) measure(policy string) *poisonRow {
	h := p.History(p.load.Records())
	r := &poisonRow{
		partition: p.longest(h, policy, func(c history.Call) bool { return c.Partition == p.partition && c.Key != p.bad }),
		others:    p.longest(h, policy, func(c history.Call) bool { return c.Partition != p.partition }),
		aside:     fmt.Sprintf("%d messages", len(p.Letters(policy))),
	}
	if r.others > poisonSlack {
		p.t.Errorf("%s: another partition stood for %s", policy, r.others)
	}
	if r.partition > poisonRetries+poisonSlack {
		p.t.Errorf("%s: the other keys of the partition stood for %s, and the message was retried for %s", policy,
			r.partition, poisonRetries)
	}
	return r
}

// longest is the longest time for which a message of the group's chosen calls was there and nothing like it started.
func (p *poison) longest(h history.History, group string, chosen scenario.Which) time.Duration {
	g := scenario.NewGaps(scenario.Only(h, group, chosen))
	var longest time.Duration
	for partition := range poisonPartitions {
		longest = max(longest, g.Longest(partition, p.start, monotonic.Now()))
	}
	return longest
}

// resume frees the blocked partition.
func (p *poison) resume(r *poisonRow) {
	p.t.Helper()
	p.checkBlocked()
	p.AnswerAll("block", "ok")
	r.by, r.took = "resume", p.took(func() {
		p.command("resume", "block", "--partition", fmt.Sprint(p.partition))
	}, "block")
	r.partition = p.longest(p.History(p.load.Records()), "block", func(c history.Call) bool {
		return c.Partition == p.partition && c.Key != p.bad
	})
}

// checkBlocked checks that the first poisoned message was the last that was called.
func (p *poison) checkBlocked() {
	p.t.Helper()
	var last history.Call
	for _, c := range scenario.InOrder(scenario.Only(p.History(nil), "block", func(c history.Call) bool {
		return c.Partition == p.partition
	}).Calls) {
		if p.ids[last.ID] && c.ID != last.ID {
			p.t.Errorf("block: after the poisoned message %s, %s was called", last.ID, c.ID)
		}
		last = c
	}
	if !p.ids[last.ID] || last.Attempt != poisonAttempts {
		p.t.Errorf("block: the last call was %+v", last)
	}
}

func (p *poison) command(args ...string) {
	p.t.Helper()
	if _, err := p.CLI(args...); err != nil {
		p.t.Error(err)
	}
}

// took is how long it takes from doing something until the group has no fault and, but for what has just come, no lag.
func (p *poison) took(do func(), group string) time.Duration {
	p.t.Helper()
	begun := monotonic.Now()
	do()
	testcluster.Eventually(p.t, testcluster.DrainLimit, func() error {
		s, err := p.Status()
		if err != nil {
			return err
		}
		if g := s.Group(group); g.Lag == nil || *g.Lag > poisonPartitions {
			return fmt.Errorf("%s: lag %v", group, testcluster.LagOf(g))
		}
		return p.stands(s, group, "held", 0)
	})
	return time.Duration(monotonic.Now() - begun)
}

// release has the parked messages handled, and kills the owner when some of them are.
func (p *poison) release(r *poisonRow) {
	p.t.Helper()
	parked, owner := len(p.Letters("park_key")), p.owner("park_key")
	p.AnswerAll("park_key", "ok")
	released := monotonic.Now()
	done := func() int {
		return len(scenario.Only(p.History(nil), "park_key", func(c history.Call) bool {
			return scenario.OkOf(p.bad)(c) && c.Start > released
		}).Calls)
	}
	r.by, r.took = "dlq release, its owner killed", p.took(func() {
		p.command("dlq", "release", "park_key", "--key", p.bad, "--wait", "0s")
		testcluster.Eventually(p.t, testcluster.MoveLimit, func() error {
			if n := done(); n < 5 {
				return fmt.Errorf("%d messages released", n)
			}
			return nil
		})
		owner.Kill()
		if n := done(); n >= parked {
			p.t.Errorf("park_key: all %d parked messages were released before the owner was killed", n)
		}
	}, "park_key")
	p.waitNoLetters("park_key")
}

// waitNoLetters waits until none is left. Any replica may answer, a little behind.
func (p *poison) waitNoLetters(group string) {
	p.t.Helper()
	testcluster.Eventually(p.t, scenario.JudgeLimit, func() error {
		if n := len(p.Letters(group)); n > 0 {
			return fmt.Errorf("%s: %d dead letters are left", group, n)
		}
		return nil
	})
}

// owner is the node that owns the poisoned partition.
func (p *poison) owner(group string) *testcluster.Node {
	p.t.Helper()
	name := p.Owners(group)[p.partition].Owner
	return p.Nodes[slices.IndexFunc(p.Nodes, func(n *testcluster.Node) bool { return n.Name == name })]
}

// requeue brings the dead letters back, at the end of the topic.
func (p *poison) requeue(r *poisonRow) {
	p.t.Helper()
	p.AnswerAll("dead_letter", "ok")
	r.by, r.took = "dlq requeue", p.took(func() {
		p.command("dlq", "requeue", "dead_letter", "--all", "--yes", "--wait", "0s")
		testcluster.Eventually(p.t, testcluster.MoveLimit, p.requeued)
	}, "dead_letter")
	p.waitNoLetters("dead_letter")
}

// requeued is nil once every poisoned message has succeeded.
func (p *poison) requeued() error {
	done := map[string]bool{}
	for _, c := range scenario.Only(p.History(nil), "dead_letter", scenario.OkOf(p.bad)).Calls {
		done[c.ID] = true
	}
	for id := range p.ids {
		if !done[id] {
			return fmt.Errorf("dead_letter: %s was requeued and has not succeeded", id)
		}
	}
	return nil
}

// judge checks the history up to the requeue: after that, a message is in the topic twice.
func (p *poison) judge(h history.History) {
	p.t.Helper()
	rules := history.Rules{Repeats: history.RepeatsAlways, MinAcked: *poisonFlag}
	strict := rules
	strict.MaxAttempts = poisonAttempts
	p.verdict(history.Check(scenario.Only(h, "dead_letter", nil), strict))
	p.verdict(history.Check(scenario.Only(h, "block", nil), rules))
	// A parked message comes after later ones of its partition, never of its key: so the order of the poisoned key and
	// that of the others are judged each for itself, and of all of them together only what is not about order.
	p.verdict(history.Check(scenario.Only(h, "park_key", nil), rules), history.OrderSkip, history.Rewind)
	for _, poisoned := range []bool{true, false} {
		part := scenario.Only(h, "park_key", func(c history.Call) bool { return (c.Key == p.bad) == poisoned })
		part.Publishes = slices.DeleteFunc(slices.Clone(h.Publishes), func(r history.PublishRecord) bool {
			return (r.Key == p.bad) != poisoned
		})
		p.verdict(history.Check(part, history.Rules{Repeats: history.RepeatsAlways}))
	}
	for _, policy := range policies {
		p.checkOrder(scenario.Only(h, policy, nil).Calls)
	}
}

// verdict fails the test unless the run passed, but for findings of these kinds.
func (p *poison) verdict(r history.Report, except ...history.Kind) {
	p.t.Helper()
	r.Findings = slices.DeleteFunc(r.Findings, func(f history.Finding) bool { return slices.Contains(except, f.Kind) })
	if r.Err() != nil {
		p.t.Error(r)
	}
}

// checkOrder checks that the messages of each key first succeeded in the order of the topic.
func (p *poison) checkOrder(calls []history.Call) {
	p.t.Helper()
	done, highest := map[uint64]bool{}, map[string]uint64{}
	for _, c := range scenario.InOrder(calls) {
		if c.Result != "ok" || done[c.Seq] {
			continue
		}
		done[c.Seq] = true
		if c.Seq < highest[c.Key] {
			p.t.Errorf("%s: seq %d of key %s first succeeded after seq %d", c.Group, c.Seq, c.Key, highest[c.Key])
		}
		highest[c.Key] = c.Seq
	}
	if len(done) == 0 {
		p.t.Error("nothing succeeded")
	}
}

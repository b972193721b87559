package handler

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"leasehold/internal/harness/history"
	"leasehold/internal/harness/monotonic"
	"leasehold/internal/harness/testcluster"
	"leasehold/partitioner"
	"leasehold/partitioner/publisher"
)

var kindRounds = flag.Int("kinds", 1, "how often TestLongEveryKindAndOutcome moves partitions and kills a node")

const (
	kindPartitions = 12
	kindAttempts   = 3
)

// outcome is what a message makes its handler answer, and what must come of it.
type outcome struct {
	name     string
	say      []string
	attempts []int  // Of its calls, if nothing else happens.
	letter   string // Reason of its dead letter; empty: it succeeds.
}

var outcomes4 = []outcome{
	{"ok", nil, []int{1}, ""},
	{"retry", []string{"retry", "retry"}, []int{1, 2, 3}, ""},
	{"reject", []string{"reject"}, []int{1}, "rejected"},
	{"unavailable", []string{"unavailable", "unavailable"}, []int{1, 1, 1}, ""},
	{"pause", []string{"pause"}, []int{1, 1}, ""},
	{"timeout", []string{"hang"}, []int{1, 2}, ""},
	{"crash", []string{"die"}, []int{1, 2}, ""},
	{"exhausted", slices.Repeat([]string{"retry"}, 100), []int{1, 2, 3}, "max_attempts"},
}

// can tells what a kind of handler can answer: a process that is there for one message cannot ask for a pause, and a
// service that dies takes the calls of all partitions with it, which is an outage and not an outcome.
func (o outcome) can(kind string) bool {
	return !(o.name == "pause" && kind == "exec" || o.name == "crash" && (kind == "http" || kind == "nats"))
}

// kinds is a cluster with a group for each kind of handler, all of one topic, that answer what each message says.
type kinds struct {
	*testcluster.Cluster
	t     *testing.T
	topic partitioner.Topic
	nc    *nats.Conn
	pub   *publisher.Publisher

	records []history.PublishRecord
	planned map[string]map[string]outcome // By message id, by kind: what must come of it.
	seq     int
}

var handlerKinds = []string{"subprocess", "http", "nats", "exec"}

func newKinds(t *testing.T) *kinds {
	t.Helper()
	k := &kinds{t: t, topic: partitioner.Topic{Name: "orders", Partitions: kindPartitions}.WithDefaults(),
		planned: map[string]map[string]outcome{}}
	k.Cluster = testcluster.New(t,
		testcluster.Spec{Topics: []testcluster.Topic{{Name: "orders", Partitions: kindPartitions}}})
	k.LetServe("server", "secret", "nats")
	address := k.FreeAddress()
	extra := fmt.Sprintf("timeout = \"3s\"\nmax_attempts = %d\nbackoff = { initial = \"20ms\", max = \"200ms\" }",
		kindAttempts)
	for kind, handler := range map[string]string{
		"subprocess": k.BackendHandler(2, ""),
		"exec": fmt.Sprintf(`{ kind = "exec", command = [%q, "told", "exec", %q] }`, testcluster.HandlerBinary(t),
			k.CallDir()),
		"http": fmt.Sprintf(`{ kind = "http", url = "http://%s/" }`, address),
		"nats": `{ kind = "nats" }`,
	} {
		k.AddGroup(testcluster.Group{Name: kind, Topic: "orders", Handler: handler, Extra: extra})
	}
	k.StartAll(time.Minute)
	k.Serve("http", k.CallDir(), address)
	k.Serve("nats", k.CallDir(), strings.Join(k.URLs(), ","), "server", "secret", "nats")
	for _, kind := range handlerKinds {
		k.WaitBalanced(time.Minute, kind)
	}
	k.connect()
	return k
}

func (k *kinds) connect() {
	var err error
	k.nc, err = nats.Connect(strings.Join(k.URLs(), ","), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(k.nc.Close)
	if k.pub, err = publisher.New(k.nc, k.topic, publisher.Options{}); err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(k.pub.Close)
}

// plan is a shuffled list of messages with every outcome. Few enough fail for good that the breaker stays out of it,
// and every key ends with messages that succeed.
func plan(random *rand.Rand) []outcome {
	var list []outcome
	for _, o := range outcomes4 {
		n := map[string]int{"ok": 150, "exhausted": 2, "timeout": 3, "crash": 3, "pause": 2}[o.name]
		if n == 0 {
			n = 12
		}
		list = append(list, slices.Repeat([]outcome{o}, n)...)
	}
	random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return append(list, slices.Repeat([]outcome{outcomes4[0]}, 100)...)
}

// publish publishes a plan. A message says the same to every kind, so an outcome that one of them cannot have is ok
// there.
func (k *kinds) publish(ctx context.Context, random *rand.Rand) {
	k.t.Helper()
	results := make(chan history.PublishRecord, 1000)
	n := 0
	for _, o := range plan(random) {
		k.seq++
		n++
		id, key, sent := fmt.Sprintf("m%d", k.seq), fmt.Sprintf("k%d", random.IntN(40)), monotonic.Now()
		data, err := json.Marshal(map[string]any{"n": k.seq, "say": o.say})
		if err != nil {
			k.t.Fatal(err)
		}
		k.planned[id] = map[string]outcome{}
		for _, kind := range handlerKinds {
			k.planned[id][kind] = o
			if !o.can(kind) {
				k.planned[id][kind] = outcomes4[0]
			}
		}
		m := publisher.Message{Key: key, ID: id, Data: data}
		if err := k.pub.Publish(ctx, m, func(r publisher.Result) {
			results <- history.PublishRecord{ID: id, Key: key, Seq: r.Sequence, Outcome: testcluster.Outcomes[r.Outcome],
				Sent: sent, Acked: monotonic.Now()}
		}); err != nil {
			k.t.Fatal(err)
		}
	}
	for range n {
		k.records = append(k.records, <-results)
	}
}

// drain waits until every group has finished everything, and resumes what is paused meanwhile, as a person would.
func (k *kinds) drain(limit time.Duration) {
	k.t.Helper()
	testcluster.Eventually(k.t, limit, func() error {
		s, err := k.Status()
		if err != nil {
			return err
		}
		var left []error
		for _, kind := range handlerKinds {
			g := s.Group(kind)
			if g.Lag == nil || *g.Lag > 0 || g.Unowned > 0 || len(g.Partitions) == 0 {
				left = append(left, fmt.Errorf("%s: lag %v, %d unowned", kind, testcluster.LagOf(g), g.Unowned))
			}
			for _, p := range g.Partitions {
				if p.State == "paused" {
					if _, err := k.CLI("resume", kind, "--partition", fmt.Sprint(p.Partition), "--wait", "5s"); err != nil {
						left = append(left, err)
					}
				}
				if p.Error != "" {
					left = append(left, fmt.Errorf("%s/%d %s: %s", kind, p.Partition, p.State, p.Error))
				}
			}
		}
		return errors.Join(left...)
	})
}

// check judges the run so far. strict says that nothing happened that may repeat a call.
func (k *kinds) check(phase string, from int, strict bool) {
	k.t.Helper()
	h := k.History(k.records)
	rules := history.Rules{
		Groups: handlerKinds, AllowReject: true, MaxAttempts: kindAttempts, Repeats: history.RepeatsAlways,
		MinAcked: len(k.records), MinKeys: 30,
	}
	if !strict {
		h.Calls = append(h.Calls, k.unseen(h.Calls)...)
	}
	if r := history.Check(h, rules); r.Err() != nil {
		k.t.Error(r)
	}
	calls := map[string]map[string][]int{}
	for _, kind := range handlerKinds {
		calls[kind] = map[string][]int{}
	}
	// Of several processes' logs.
	slices.SortFunc(h.Calls, func(a, b history.Call) int { return cmp.Compare(a.Start, b.Start) })
	for _, c := range h.Calls {
		calls[c.Group][c.ID] = append(calls[c.Group][c.ID], c.Attempt)
	}
	rows := map[string]int{}
	for _, kind := range handlerKinds {
		letters := k.Letters(kind)
		for _, p := range k.records[from:] {
			o := k.planned[p.ID][kind]
			l, dead := letters[p.ID]
			got := calls[kind][p.ID]
			lost := !strict && kind == "nats" && dead && l.Error == unanswered
			if !lost && (dead != (o.letter != "") || l.Reason != o.letter) {
				k.t.Errorf("%s %s: %s (%s) calls %v, dead letter %+v", phase, kind, p.ID, o.name, got, l)
			}
			if strict && !slices.Equal(got, o.attempts) || !steady(got, !strict && kind == "nats") {
				k.t.Errorf("%s %s: %s (%s) was called with attempts %v, want %v", phase, kind, p.ID, o.name, got, o.attempts)
			}
			rows[kind+" "+o.name]++
		}
	}
	for _, kind := range handlerKinds {
		for _, o := range outcomes4 {
			if o.can(kind) {
				k.t.Logf("%-6s %-11s %-12s %3d messages", phase, kind, o.name, rows[kind+" "+o.name])
			}
		}
	}
}

// unanswered is what a dead letter says whose last attempt ran into its deadline.
const unanswered = "no answer by the deadline"

// unseen are the last attempts of messages of the kind nats that the service never saw: requests that were on their way
// through a node when it died. Their caller counts a timeout, and may thus come to the end of its attempts.
func (k *kinds) unseen(calls []history.Call) (lost []history.Call) {
	last := map[string]history.Call{}
	for _, c := range calls {
		if c.Group == "nats" && c.Start > last[c.ID].Start {
			last[c.ID] = c
		}
	}
	for id, l := range k.Letters("nats") {
		if c := last[id]; l.Error == unanswered && c.Attempt < l.Attempts {
			c.Start, c.End, c.Result, c.Attempt = max(c.Start, c.End)+1, 0, "", l.Attempts
			lost = append(lost, c)
		}
	}
	return lost
}

// steady tells whether attempts go up one by one, with repeats of a call whose end nobody heard. A message that was
// finished can come again from a checkpoint before it, with its first attempt. A request that the service is sent
// through a node which dies may be an attempt that it never sees.
func steady(attempts []int, lossy bool) bool {
	if len(attempts) == 0 || attempts[0] != 1 && !lossy {
		return false
	}
	for i, a := range attempts[1:] {
		if before := attempts[i]; a < before && a != 1 || a > before+1 && !lossy {
			return false
		}
	}
	return true
}

// TestEveryKindAndOutcome: each kind of handler that calls out, each outcome, with the owner staying and dying. Order,
// attempts and completeness are judged after each.
func TestEveryKindAndOutcome(t *testing.T) {
	k := newKinds(t)
	random := rand.New(rand.NewPCG(1, 4))
	k.phase("stay", random, func() {})
	k.kill(random)
}

// The same with owners that hand over and die in turns.
func TestLongEveryKindAndOutcome(t *testing.T) {
	if testing.Short() {
		t.Skip("make test-long runs it")
	}
	k := newKinds(t)
	random := rand.New(rand.NewPCG(uint64(*kindRounds), 4))
	for range *kindRounds {
		k.phase("move", random, func() {
			k.Nodes[1].Term()
			k.Nodes[1].Start()
			k.WaitReady(time.Minute)
		})
		k.kill(random)
	}
}

// kill is the phase in which an owner is killed.
func (k *kinds) kill(random *rand.Rand) {
	k.phase("kill", random, func() {
		k.Nodes[2].Kill()
		k.Nodes[2].Start()
		k.WaitReady(time.Minute)
	})
}

// phase publishes, lets something happen once handling is under way, waits for the end and judges.
func (k *kinds) phase(name string, random *rand.Rand, happen func()) {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(k.t.Context(), time.Minute)
	defer cancel()
	from, before := len(k.records), len(k.Calls())
	k.publish(ctx, random)
	testcluster.Eventually(k.t, time.Minute, func() error {
		if n := len(k.Calls()) - before; n < 200 {
			return fmt.Errorf("%d calls", n)
		}
		return nil
	})
	happen()
	k.drain(3 * time.Minute)
	k.check(name, from, name == "stay")
}

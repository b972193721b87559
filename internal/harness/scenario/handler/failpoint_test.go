package handler

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"leasehold/internal/failpoint"
	"leasehold/internal/harness/history"
	"leasehold/internal/harness/monotonic"
	"leasehold/internal/harness/scenario"
	"leasehold/internal/harness/testcluster"
	"leasehold/partitioner"
	"leasehold/partitioner/publisher"
)

var everyFailpoint = flag.Bool("failpoints", true, "kill at every failpoint, not only at some")

// failing is a cluster whose second node dies at failpoints. Of two groups of one topic, "set" sets messages aside that
// fail, and "park" parks their keys.
type failing struct {
	*testcluster.Cluster
	t       *testing.T
	pub     *publisher.Publisher
	records []history.PublishRecord
}

// failure is how a node gets to a place.
type failure struct {
	place   failpoint.Place
	passes  int // So many times it goes by unharmed.
	trigger func(f *failing)
}

// failures is the table. What is published before the trigger holds messages that fail at first, fail for good, and are
// rejected, so most places are met by themselves.
var failures = []failure{
	{failpoint.LetterStored, 0, nil},
	{failpoint.Released, 0, (*failing).releaseAll},
	{failpoint.HandedOver, 2, (*failing).term},
	{failpoint.Claimed, 2, nil},
	{failpoint.Renewed, 3, nil},
	{failpoint.Handled, 20, nil},
	{failpoint.Finished, 30, nil},
	{failpoint.AttemptKept, 1, nil},
	{failpoint.Requeued, 1, (*failing).requeueAll},
	{failpoint.Asked, 2, func(f *failing) { f.try("resume", "set", "--wait", "0s") }},
	{failpoint.Ended, 0, (*failing).term},
}

// atOnce is how many of them -failpoints=false takes.
const atOnce = 3

func newFailing(t *testing.T) *failing {
	t.Helper()
	f := &failing{t: t, Cluster: testcluster.New(t, testcluster.Spec{Cluster: scenario.SlowTakeover,
		Topics: []testcluster.Topic{{Name: "orders", Partitions: 9}}})}
	for group, policy := range map[string]string{"set": "dead_letter", "park": "park_key"} {
		f.AddGroup(testcluster.Group{
			Name: group, Topic: "orders", Handler: f.BackendHandler(2, ""),
			Extra: fmt.Sprintf("max_attempts = 2\nbackoff = { initial = \"10ms\", max = \"50ms\" }\non_exhausted = %q", policy),
		})
	}
	f.StartAll(time.Minute)
	f.WaitBalanced(time.Minute, "set")
	f.WaitBalanced(time.Minute, "park")
	nc, err := nats.Connect(strings.Join(f.URLs(), ","), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	topic := partitioner.Topic{Name: "orders", Partitions: 9}.WithDefaults()
	if f.pub, err = publisher.New(nc, topic, publisher.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.pub.Close)
	return f
}

// publish publishes messages of which every tenth fails once, and a few for good or are rejected the first time.
func (f *failing) publish(n int) {
	f.t.Helper()
	results := make(chan history.PublishRecord, n)
	first := len(f.records)
	for i := first; i < first+n; i++ {
		say := []string(nil)
		switch {
		case i%29 == 17:
			say = []string{"retry", "retry"} // For good: it is set aside, and works when it comes again.
		case i%13 == 6:
			say = []string{"reject"}
		case i%10 == 5:
			say = []string{"retry"}
		}
		data, err := json.Marshal(map[string]any{"say": say})
		if err != nil {
			f.t.Fatal(err)
		}
		id, key, sent := fmt.Sprintf("m%d", i), fmt.Sprintf("k%d", i%30), monotonic.Now()
		err = f.pub.Publish(context.Background(), publisher.Message{Key: key, ID: id, Data: data}, func(r publisher.Result) {
			results <- history.PublishRecord{ID: id, Key: key, Seq: r.Sequence, Outcome: testcluster.Outcomes[r.Outcome],
				Sent: sent, Acked: monotonic.Now()}
			if r.Outcome == publisher.Unknown {
				f.pub.Resolve(r.Key)
			}
		})
		if err != nil {
			f.t.Fatal(err)
		}
	}
	for range n {
		f.records = append(f.records, <-results)
	}
}

// try runs a command at the node that is about to die, or another: it may fail for that.
func (f *failing) try(args ...string) {
	if out, err := f.CLI(args...); err != nil {
		f.t.Logf("%v %s", err, out)
	}
}

func (f *failing) releaseAll() { f.try("dlq", "release", "park", "--all", "--yes", "--wait", "0s") }

// requeueAll asks the node that is to die, and waits until there is something to requeue.
func (f *failing) requeueAll() {
	n2 := f.Nodes[1]
	testcluster.Eventually(f.t, time.Minute, func() error {
		if n2.PID() == 0 {
			return nil
		}
		select {
		case <-n2.Exited():
			return nil
		default:
		}
		f.try("dlq", "requeue", "set", "--all", "--yes", "--wait", "0s", "--addr", n2.Host.DataDir+"/leasehold.sock")
		return errors.New("the node lives on")
	})
}

func (f *failing) term() { f.Nodes[1].AskToStop() }

// drain waits until both groups have come to the end and sends the rest on: what was set aside again, what was parked
// live. In the end nothing is left behind.
func (f *failing) drain() {
	f.t.Helper()
	f.WaitDrained(2*time.Minute, "set")
	f.WaitDrained(2*time.Minute, "park")
}

func (f *failing) settleAll() {
	f.t.Helper()
	testcluster.Eventually(f.t, 3*time.Minute, func() error {
		var left []error
		for _, group := range []string{"set", "park"} {
			out, err := f.CLI("dlq", "export", group)
			if err == nil && strings.Contains(string(out), `"kind":"parked"`) {
				_, err = f.CLI("dlq", "release", group, "--all", "--yes", "--wait", "0s")
				err = cmp.Or(err, fmt.Errorf("%s had parked messages left", group))
			}
			if err == nil && len(out) > 0 {
				_, err = f.CLI("dlq", "requeue", group, "--all", "--yes", "--max-requeues", "0", "--wait", "0s")
				err = cmp.Or(err, fmt.Errorf("%s had dead letters left", group))
			}
			left = append(left, err)
		}
		return errors.Join(left...)
	})
	f.drain()
}

// TestLongKillAtEveryFailpoint kills a node with itself at each place of internal/failpoint where a crash leaves
// something half done, starts it again, and finds nothing lost, in order, and nothing stuck.
func TestLongKillAtEveryFailpoint(t *testing.T) {
	if testing.Short() {
		t.Skip("make test-long runs it")
	}
	testcluster.FailingBinary(t) // built now: a node that is down for as long as that takes loses its partitions
	f := newFailing(t)
	table := failures
	if !*everyFailpoint {
		table = failures[:atOnce]
	} else if len(failures) != len(failpoint.Places()) {
		t.Errorf("%d of %d places are in the table", len(failures), len(failpoint.Places()))
	}
	f.publish(120)
	f.drain()
	for _, fail := range table {
		n2 := f.Nodes[1]
		n2.Kill() // Back at once, it has its partitions again without waiting.
		n2.StartFailing(fail.place, fail.passes)
		f.publish(150)
		if fail.trigger != nil {
			f.awaitReadyOrGone(n2)
			fail.trigger(f)
		}
		f.publishUntilGone(n2)
		n2.WaitFailed(time.Minute)
		n2.Start()
		f.WaitReady(time.Minute)
		f.drain()
		t.Logf("killed at %s: everything went on", fail.place)
	}
	f.settleAll()
	f.judge()
}

// publishUntilGone gives the node something to do: on a busy machine it may come back when others have done all there
// was.
func (f *failing) publishUntilGone(n *testcluster.Node) {
	f.t.Helper()
	testcluster.Eventually(f.t, time.Minute, func() error {
		select {
		case <-n.Exited():
			return nil
		default:
			f.publish(40)
			return fmt.Errorf("%s lives on", n.Name)
		}
	})
}

func (f *failing) awaitReadyOrGone(n *testcluster.Node) {
	testcluster.Eventually(f.t, time.Minute, func() error {
		select {
		case <-n.Exited():
			return nil
		default:
			return n.Ready()
		}
	})
}

// judge looks at the group "set" with the history's rules, leaving out what was requeued, which has a new place; and at
// both for completeness and the order of keys.
func (f *failing) judge() {
	f.t.Helper()
	h := f.History(f.records)
	seqs := map[string]uint64{}
	for _, p := range f.records {
		seqs[p.ID] = p.Seq
	}
	slices.SortFunc(h.Calls, func(a, b history.Call) int { return cmp.Compare(a.Start, b.Start) })
	ok := map[string]map[string]bool{"set": {}, "park": {}}
	last := map[string]uint64{} // By key, of the group "park": the first time that a message succeeds.
	for _, c := range h.Calls {
		if c.Result != "ok" || ok[c.Group][c.ID] {
			continue
		}
		ok[c.Group][c.ID] = true
		if c.Group == "park" {
			if c.Seq < last[c.Key] {
				f.t.Errorf("park: %s of key %s succeeded after a later one of its key, %d", c.ID, c.Key, last[c.Key])
			}
			last[c.Key] = c.Seq
		}
	}
	for _, p := range f.records {
		for group, done := range ok {
			if !done[p.ID] {
				f.t.Errorf("%s: %s was acknowledged and never succeeded", group, p.ID)
			}
		}
	}
	h.Calls = slices.DeleteFunc(h.Calls, func(c history.Call) bool { return c.Group != "set" || c.Seq != seqs[c.ID] })
	r := history.Check(h, history.Rules{
		Groups: []string{"set"}, AllowReject: true, MaxAttempts: 2, Repeats: history.RepeatsAlways, MinAcked: len(f.records),
		MinKeys: 30,
	})
	if r.Err() != nil {
		f.t.Error(r)
	}
}

// Package sim runs the lease protocol of several nodes on one thread, against a model of the store and with every fault
// that the rules of cluster/DESIGN.md guard against, and checks each call that a lane starts. One seed always gives the
// same history.
package sim

import (
	"container/heap"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"sort"
	"time"

	"leasehold/cluster/lease"
)

// The timing of the runs is that of a local network.
const (
	ttl        = 5 * time.Second
	renew      = 1 * time.Second
	margin     = 1 * time.Second
	writeLimit = 500 * time.Millisecond
)

// Options change a run. The zero value is the real protocol. Every flag breaks a rule, which the checks must notice.
type Options struct {
	NoMargin      bool // Nodes fence only when their session may already be dead.
	NoWatchdog    bool // Nothing cancels a call that is in flight at the fence.
	NoFenceCheck  bool // Lanes start calls without checking the fence.
	BlindMarkDead bool // The store accepts a record that declares a node dead on any revision.
	BlindWrite    bool // The store accepts a lane's commits on any revision.

	Log io.Writer // If set, gets a line for each event.
}

func (o Options) margin() time.Duration {
	if o.NoMargin {
		return -margin
	}
	return margin
}

// Result is what one run did.
type Result struct {
	Err        error          // The first violation, or what had not converged at the end.
	Hash       uint64         // Of everything that happened, in order.
	Covered    map[string]int // How often each fault and each interesting outcome came up.
	Calls      int
	LaneStarts int
}

// world is one run.
type world struct {
	o          Options
	r          *rand.Rand
	now        time.Duration
	queue      queue
	order      int
	store      *store
	nodes      []*node
	partitions int
	leaseKeys  []lease.Key
	truths     map[lease.Key]*truth
	faults     []func(*world, *node) // Those of this run.
	witnesses  bool                  // Nodes confirm deaths.
	forging    bool                  // Something other than a node writes records.
	calm       bool                  // No new faults.
	rest       bool                  // No partition may change its owner any more.
	res        Result
	hash       interface {
		Write([]byte) (int, error)
		Sum64() uint64
	}
	laneStarts int
}

// Run plays one seed: a minute or two of faults, then calm, in which everything must converge.
func Run(seed uint64, o Options) Result {
	w := newWorld(seed, o)
	w.nextFault()
	end := w.dur(60*time.Second, 120*time.Second)
	w.runUntil(end)
	w.heal()
	w.at(25*time.Second, w.seekForgotten)
	w.runUntil(end + 50*time.Second)
	return w.result()
}

// OutageMovesNothing plays a calm cluster whose store is unavailable for one to four ttls.
func OutageMovesNothing(seed uint64, o Options) Result {
	return stayPut(seed, o, func(w *world) {
		w.store.up = false
		w.at(w.dur(ttl, 4*ttl), func() { w.store.up = true })
	})
}

// QuickRestartMovesNothing plays a calm cluster in which a node's process dies and is back well within the ttl.
func QuickRestartMovesNothing(seed uint64, o Options) Result {
	return stayPut(seed, o, func(w *world) {
		n := w.nodes[w.r.IntN(len(w.nodes))]
		n.crash()
		w.at(w.dur(100*time.Millisecond, 2*time.Second), n.start)
	})
}

// stayPut lets a cluster converge, disturbs it, and reports every partition that changes its owner as a violation.
func stayPut(seed uint64, o Options, disturb func(*world)) Result {
	w := newWorld(seed, o)
	w.calm = true
	w.runUntil(40 * time.Second)
	w.checkConverged()
	w.rest = true
	disturb(w)
	w.runUntil(100 * time.Second)
	return w.result()
}

// result checks the end of a run and sums the run up.
func (w *world) result() Result {
	w.checkConverged()
	for _, t := range w.truths {
		w.res.Calls += t.calls
	}
	w.res.LaneStarts, w.res.Hash = w.laneStarts, w.hash.Sum64()
	return w.res
}

func newWorld(seed uint64, o Options) *world {
	w := &world{
		o: o, r: rand.New(rand.NewPCG(seed, 7)), store: newStore(), hash: fnv.New64a(),
		truths: map[lease.Key]*truth{}, res: Result{Covered: map[string]int{}},
		forging: seed%4 == 3, // in few runs: leases rebuilt from memory are checked less
	}
	w.setUp()
	return w
}

func (w *world) setUp() {
	w.chooseFaults()
	w.partitions = 3 + w.r.IntN(6)
	for p := range w.partitions {
		k := lease.Key{Group: "g", Partition: p}
		w.leaseKeys = append(w.leaseKeys, k)
		w.truths[k] = &truth{}
	}
	for i := range 2 + w.r.IntN(3) {
		n := &node{w: w, name: fmt.Sprint("n", i+1), dir: i + 1}
		n.drift = (w.r.Float64() - 0.5) / 1000
		n.offset = w.dur(0, time.Hour)
		w.nodes = append(w.nodes, n)
		w.at(w.dur(0, 3*time.Second), n.start)
	}
}

func (w *world) runUntil(end time.Duration) {
	for len(w.queue) > 0 && w.queue[0].at <= end && w.res.Err == nil {
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		e.run()
	}
	w.now = end
}

func (w *world) at(d time.Duration, f func()) {
	w.order++
	heap.Push(&w.queue, event{at: w.now + max(0, d), order: w.order, run: f})
}

func (w *world) dur(from, to time.Duration) time.Duration {
	return from + time.Duration(w.r.Int64N(int64(to-from)+1))
}

// callTime is usually short, and at times longer than a session.
func (w *world) callTime() time.Duration {
	if w.r.IntN(20) == 0 {
		return w.dur(time.Second, 8*time.Second)
	}
	return w.dur(10*time.Millisecond, 300*time.Millisecond)
}

// pauseTime is the time between two calls. At times there is no message to handle for a while.
func (w *world) pauseTime() time.Duration {
	if w.r.IntN(5) == 0 {
		return w.dur(10*time.Millisecond, 400*time.Millisecond)
	}
	return w.dur(0, 10*time.Millisecond)
}

func (w *world) staleness() int {
	if w.calm || w.r.IntN(4) > 0 {
		return 0
	}
	w.cover("stale read")
	return 1 + w.r.IntN(6)
}

func (w *world) allKeys() []lease.Key {
	keys := append([]lease.Key{lease.CommandsKey("g")}, w.leaseKeys...)
	for _, n := range w.nodes {
		keys = append(keys, lease.SessionKey(n.name))
	}
	return keys
}

func (w *world) cover(what string) { w.res.Covered[what]++ }

func (w *world) fail(err error) {
	if w.res.Err == nil {
		w.res.Err = fmt.Errorf("at %v: %w", w.now, err)
	}
}

func (w *world) trace(who string, a lease.Action) {
	if w.o.Log != nil {
		w.logAction(who, a)
	}
	fmt.Fprintf(w.hash, "%v %s %T", w.now, who, a)
	if wr, ok := a.(lease.Write); ok {
		fmt.Fprint(w.hash, wr.Key, wr.Revision)
	}
}

func (w *world) logAction(who string, a lease.Action) {
	wr, ok := a.(lease.Write)
	switch {
	case ok && wr.Lease != nil:
		fmt.Fprintf(w.o.Log, "%v %s write %d %v on %d: %+v\n", w.now, who, wr.ID, wr.Key, wr.Revision, *wr.Lease)
	case ok:
		fmt.Fprintf(w.o.Log, "%v %s write %d %v on %d: boot %d %s leaving %v\n", w.now, who, wr.ID, wr.Key, wr.Revision,
			wr.Session.Boot, wr.Session.State, wr.Session.Leaving)
	default:
		fmt.Fprintf(w.o.Log, "%v %s %T %+v\n", w.now, who, a, a)
	}
}

// noteInput logs a node's inputs about its lanes.
func (w *world) noteInput(who string, in lease.Input) {
	switch in.(type) {
	case lease.Progressed, lease.Stopped:
		w.note("%s %T %+v", who, in, in)
	}
}

// note logs an event of a node.
func (w *world) note(format string, args ...any) {
	if w.o.Log != nil {
		fmt.Fprintf(w.o.Log, "%v "+format+"\n", append([]any{w.now}, args...)...)
	}
}

// verifyStart checks a lane start: no other node may still be allowed to start a call on that partition.
func (w *world) verifyStart(n *node, a lease.Start) {
	for _, o := range w.nodes {
		if o == n || !o.up || o.frozen {
			continue
		}
		if l := o.lanes[a.Key]; l != nil && !l.killed && o.local() < o.fence {
			w.fail(fmt.Errorf("%v: lane of %s under epoch %d started while %s runs one under %d", a.Key, n.name, a.Epoch, o.name,
				l.epoch))
		}
	}
}

// checkStopped checks a node that has stopped cleanly: no lane of it may run.
func (w *world) checkStopped(n *node) {
	if len(n.lanes) > 0 {
		w.fail(fmt.Errorf("%s finished with %d lanes running", n.name, len(n.lanes)))
	}
}

// checkConverged checks the end, long after the last fault: every partition is run by one live node, in balance.
func (w *world) checkConverged() {
	if w.res.Err != nil {
		return
	}
	counts := map[string]int{}
	for _, k := range w.leaseKeys {
		rec, ok := w.store.latest(k)
		n := w.node(rec.Owner)
		if left := w.truths[k].commands; len(left) > 0 {
			w.fail(fmt.Errorf("%v: %+v never applied; its lease says %+v", k, left, rec))
			return
		}
		if !ok || n == nil || !n.up || n.lanes[k] == nil || n.lanes[k].epoch != rec.Epoch {
			w.fail(fmt.Errorf("%v: run by no node at the end; its lease says %+v", k, rec))
			return
		}
		counts[n.name]++
	}
	var shares []int
	for _, n := range w.nodes {
		if n.up {
			shares = append(shares, counts[n.name])
		}
	}
	sort.Ints(shares)
	if len(shares) > 0 && shares[len(shares)-1]-shares[0] > 1 {
		w.fail(fmt.Errorf("out of balance at the end: %v", shares))
	}
}

func (w *world) node(name string) *node {
	for _, n := range w.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}

type event struct {
	at    time.Duration
	order int
	run   func()
}

type queue []event

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].order < q[j].order
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(event)) }
func (q *queue) Pop() any {
	old := *q
	e := old[len(old)-1]
	*q = old[:len(old)-1]
	return e
}

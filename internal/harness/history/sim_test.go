package history

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "run only this seed of the simulated histories")
	seedsFlag = flag.Uint64("seeds", 200, "how many seeds of simulated histories to run")
)

const (
	ms           = int64(time.Millisecond)
	commitEvery  = 100 * ms
	simulated    = 60_000 * ms
	messagesPer  = 400
	simGroups    = 2
	checkpointed = 2 * time.Second // no checkpoint of the simulation is older at a kill
)

// life is one process of a node, from its start to the fault that ended it.
type life struct {
	owner
	from, to int64
	end      EventKind
}

// sim writes the history of a correct run: nodes live, die and come back,
// partitions are taken over from checkpoints or moved as planned.
type sim struct {
	*rand.Rand
	h          History
	partitions int
	keys       int
	lives      []life
	pid        int
	stops      bool
}

func simulate(seed uint64, stops bool) History {
	s := &sim{Rand: rand.New(rand.NewPCG(seed, 7)), stops: stops}
	s.partitions, s.keys = 1+s.IntN(5), 3+s.IntN(20)
	s.live()
	s.publishAll()
	for g := range simGroups {
		for p := range s.partitions {
			s.lane(fmt.Sprintf("g%d", g), p)
		}
	}
	s.Shuffle(len(s.h.Calls), func(i, j int) { s.h.Calls[i], s.h.Calls[j] = s.h.Calls[j], s.h.Calls[i] })
	return s.h
}

func (s *sim) between(low, high int64) int64 { return low + s.Int64N(high-low+1) }

// live gives three nodes their lives; the third one never dies, so that there
// is always an owner.
func (s *sim) live() {
	for n, at := range []int64{0, 0, 0} {
		node := fmt.Sprintf("n%d", n+1)
		for at < simulated {
			s.pid++
			l := life{owner: owner{node, s.pid}, from: at, to: at + s.between(2000, 20_000)*ms, end: s.fault()}
			if n == 2 {
				l.to = 100 * simulated
			}
			s.h.Events = append(s.h.Events, Event{Start, node, l.from}, Event{l.end, node, l.to})
			s.lives = append(s.lives, l)
			at = l.to + s.between(500, 6000)*ms
		}
	}
}

func (s *sim) fault() EventKind {
	switch n := s.IntN(4); {
	case n == 0:
		return Term
	case n == 1 && s.stops:
		return Stop // and never continued as itself; its call in flight may end
	}
	return Kill
}

func (s *sim) publishAll() {
	var seq uint64
	for i := range messagesPer {
		key := s.IntN(s.keys)
		sent := int64(i+1) * simulated / (2 * messagesPer)
		p := PublishRecord{ID: fmt.Sprintf("id%d", i), Key: "k" + string(rune('a'+key)), Sent: sent,
			Acked: sent + s.between(1, 50)*ms}
		seq++
		p.Seq, p.Outcome = seq, Stored
		switch s.IntN(30) {
		case 0:
			p.Outcome = Duplicate
		case 1: // stored all the same; messages() goes by the sequence
			p.Outcome = Unknown
		case 2:
			p.Outcome, p.Seq = Unknown, 0
		case 3:
			p.Outcome, p.Seq = Refused, 0
		}
		s.h.Publishes = append(s.h.Publishes, p)
	}
}

// messages lists what is stored in a partition.
func (s *sim) messages(partition int) []PublishRecord {
	var list []PublishRecord
	for _, p := range s.h.Publishes {
		if p.Seq != 0 && int(p.Key[1]-'a')%s.partitions == partition {
			list = append(list, p)
		}
	}
	return list
}

// simLane is one partition on its way through its messages.
type simLane struct {
	*sim
	group     string
	partition int
	messages  []PublishRecord
	now       int64
	epoch     uint64
	holder    life
	pid       int
	next      int // place of the message to call next
	saved     int // next, as checkpointed
	savedAt   int64
}

func (s *sim) lane(group string, partition int) {
	l := &simLane{sim: s, group: group, partition: partition, messages: s.messages(partition)}
	l.claim()
	for l.next < len(l.messages) {
		l.step()
	}
}

// claim gives the lane to a node that is alive.
func (l *simLane) claim() {
	for {
		holder := l.lives[l.IntN(len(l.lives))]
		if holder.from <= l.now && l.now < holder.to {
			l.sim.pid++
			l.holder, l.pid = holder, l.sim.pid
			l.epoch += 1 + l.Uint64N(2)
			l.next, l.savedAt = l.saved, l.now
			return
		}
	}
}

func (l *simLane) checkpoint() { l.saved, l.savedAt = l.next, l.now }

func (l *simLane) step() {
	start := max(l.now, l.messages[l.next].Acked) + l.between(0, 20)*ms
	if idle := min(start, l.holder.to); idle-l.savedAt >= 2*commitEvery {
		l.checkpoint()
	}
	end := start + l.between(1, 300)*ms
	switch {
	case start >= l.holder.to:
		l.now = l.holder.to
		l.depart(nil)
	case end > l.holder.to:
		l.now = l.holder.to
		l.depart(&Call{Start: start, End: end, Result: "ok"})
	default:
		l.now = end
		l.finish(start, end)
	}
}

// depart ends the holder's time: a clean stop finishes the call in flight and
// hands over, a kill leaves the call open and the last checkpoint.
func (l *simLane) depart(inFlight *Call) {
	kind := l.holder.end
	if inFlight != nil {
		switch {
		case kind == Term:
			l.now = inFlight.End
		case kind == Stop && l.IntN(2) == 0:
			inFlight.End += 10_000 * ms // after the next owner's start
		default:
			inFlight.End, inFlight.Result = 0, ""
		}
		l.log(inFlight.Start, inFlight.End, inFlight.Result)
		if kind == Term {
			l.next++
		}
	}
	if kind == Term {
		l.checkpoint()
	} else {
		l.now += l.between(100, 6000) * ms
	}
	l.claim()
}

func (l *simLane) finish(start, end int64) {
	switch n := l.IntN(40); {
	case n == 1 && l.holder.to-end < 1000*ms: // see checkNewEpoch
		l.log(start, end, "retry")
	case n == 0:
		l.log(start, end, "retry")
	case n == 1: // the handler died in its work, or before its answer
		if l.IntN(2) == 0 {
			l.log(start, end, "ok")
		} else {
			l.log(start, 0, "")
		}
		l.sim.pid++
		l.pid = l.sim.pid
	case n == 2: // planned move
		l.log(start, end, "ok")
		l.next++
		l.checkpoint()
		l.claim()
	default:
		l.log(start, end, "ok")
		l.next++
	}
}

func (l *simLane) log(start, end int64, result string) {
	m := l.messages[l.next]
	l.h.Calls = append(l.h.Calls, Call{
		Node: l.holder.node, Agent: l.holder.agent, PID: l.pid, Group: l.group, Partition: l.partition, Epoch: l.epoch,
		Seq: m.Seq, Attempt: 1, Key: m.Key, ID: m.ID, Start: start + 1, End: end, Result: result,
	})
}

func eachSeed(t *testing.T, do func(t *testing.T, seed uint64)) {
	for seed := uint64(1); seed <= *seedsFlag; seed++ {
		if *seedFlag == 0 || seed == *seedFlag {
			do(t, seed)
		}
	}
}

func simRules(stops bool) Rules {
	return Rules{Repeats: RepeatsAfterOwnerKilled, RepeatWithin: checkpointed, AllowStaleTail: stops}
}

func TestSimulatedCorrectRunsRaiseNoAlarm(t *testing.T) {
	var total Summary
	eachSeed(t, func(t *testing.T, seed uint64) {
		stops := seed%2 == 0
		report := Check(simulate(seed, stops), simRules(stops))
		if report.Err() != nil {
			t.Fatalf("-seed=%d\n%s", seed, report)
		}
		total.Takeovers += report.Summary.Takeovers
		total.Handoffs += report.Summary.Handoffs
		total.Redelivered += report.Summary.Redelivered
		total.Retried += report.Summary.Retried
		total.StaleTails += report.Summary.StaleTails
	})
	t.Logf("%d takeovers, %d handoffs, %d redelivered, %d retried, %d stale tails",
		total.Takeovers, total.Handoffs, total.Redelivered, total.Retried, total.StaleTails)
	if *seedFlag == 0 && (total.Takeovers == 0 || total.Redelivered == 0 || total.StaleTails == 0) {
		t.Error("the simulation never reached what the checker is for")
	}
}

// damages break a correct history at a random place; false if this history
// has no place for it. Each must make the run violated.
var damages = map[string]func(*rand.Rand, *History) bool{
	"message dropped": func(r *rand.Rand, h *History) bool {
		victim := pick(r, h.Calls, nil)
		if victim == nil || outcomeOf(h, victim.ID) == Unknown {
			return false
		}
		id, group := victim.ID, victim.Group
		h.Calls = slices.DeleteFunc(h.Calls, func(c Call) bool { return c.ID == id && c.Group == group })
		return true
	},
	"publish record dropped": func(r *rand.Rand, h *History) bool {
		id := pick(r, h.Calls, nil).ID
		h.Publishes = slices.DeleteFunc(h.Publishes, func(p PublishRecord) bool { return p.ID == id })
		return true
	},
	"publish refused": func(r *rand.Rand, h *History) bool {
		id := pick(r, h.Calls, nil).ID
		i := slices.IndexFunc(h.Publishes, func(p PublishRecord) bool { return p.ID == id })
		h.Publishes[i].Outcome = Refused
		return true
	},
	"never ok": func(r *rand.Rand, h *History) bool {
		victim := *pick(r, h.Calls, nil)
		for i, c := range h.Calls {
			if c.ID == victim.ID && c.Group == victim.Group && c.ok() {
				h.Calls[i].Result = "retry"
			}
		}
		return true
	},
	"end before start": func(r *rand.Rand, h *History) bool {
		c := pick(r, h.Calls, Call.ok)
		c.Start, c.End = c.End, c.Start
		return true
	},
	"start line dropped": func(r *rand.Rand, h *History) bool {
		pick(r, h.Calls, Call.ok).Start = 0
		return true
	},
	"neighbours swapped": func(r *rand.Rand, h *History) bool {
		a, b := pickPair(r, h, func(a, b Call) bool {
			return a.Seq < b.Seq && a.ok() && b.ok() && timesCalled(h, a) == 1 && timesCalled(h, b) == 1
		})
		if a != nil {
			swap(a, b)
		}
		return a != nil
	},
	"doubled across owners": func(r *rand.Rand, h *History) bool {
		c := *pick(r, h.Calls, nil)
		c.Node, c.Agent = "n9", 999
		h.Calls = append(h.Calls, c)
		return true
	},
	"epoch lowered": func(r *rand.Rand, h *History) bool {
		a, b := pickPair(r, h, func(_, _ Call) bool { return true })
		if a != nil {
			b.Epoch = a.Epoch - 1
		}
		return a != nil
	},
	"epoch not raised": func(r *rand.Rand, h *History) bool {
		a, b := pickPair(r, h, func(a, b Call) bool { return a.owner() != b.owner() })
		if a != nil {
			b.Epoch = a.Epoch
		}
		return a != nil
	},
	"other partition": func(r *rand.Rand, h *History) bool {
		c := pick(r, h.Calls, nil)
		c.Partition += 100
		key, others := c.Key, 0
		for _, other := range h.Calls {
			if other.Key == key {
				others++
			}
		}
		return others > 1
	},
	"other message under the sequence": func(r *rand.Rand, h *History) bool {
		c := pick(r, h.Calls, nil)
		id := pick(r, h.Calls, nil).ID
		changed := id != c.ID
		c.ID = id
		return changed
	},
	"called again at the end": func(r *rand.Rand, h *History) bool {
		c := *pick(r, h.Calls, Call.ok)
		last := c
		for _, other := range h.Calls {
			if other.partitionID() == c.partitionID() && other.Start > last.Start {
				last = other
			}
		}
		again := last
		again.Seq, again.ID, again.Key = c.Seq, c.ID, c.Key
		again.Start, again.End, again.Result = last.over()+ms, last.over()+2*ms, "ok"
		h.Calls = append(h.Calls, again)
		return last.ok() // else it might be a retry
	},
	"end after the next start": func(r *rand.Rand, h *History) bool {
		a, b := pickPair(r, h, func(a, _ Call) bool { return !a.open() })
		if a != nil {
			a.End = b.Start + 1
		}
		return a != nil
	},
	"kills forgotten": func(r *rand.Rand, h *History) bool {
		a, _ := pickPair(r, h, func(a, b Call) bool {
			return a.owner() != b.owner() && a.Epoch < b.Epoch && b.Seq <= a.Seq && (b.Seq < a.Seq || a.open())
		})
		h.Events = slices.DeleteFunc(h.Events, func(e Event) bool { return e.Kind == Kill })
		return a != nil
	},
}

func TestRandomDamageIsFound(t *testing.T) {
	done := make(map[string]int)
	eachSeed(t, func(t *testing.T, seed uint64) {
		h := simulate(seed, false)
		names := slices.Sorted(maps.Keys(damages))
		for n := range uint64(4) { // in turn, for the time it takes
			name := names[(seed*4+n)%uint64(len(names))]
			damage := damages[name]
			d := History{slices.Clone(h.Publishes), slices.Clone(h.Calls), slices.Clone(h.Events)}
			if !damage(rand.New(rand.NewPCG(seed, uint64(len(name)))), &d) {
				continue
			}
			done[name]++
			if report := Check(d, simRules(false)); report.Status() != Violated {
				t.Errorf("-seed=%d: %q was not found\n%s", seed, name, report)
			}
		}
	})
	for name := range damages {
		t.Logf("%4d × %s", done[name], name)
		if *seedFlag == 0 && done[name] == 0 {
			t.Errorf("%q was never tried", name)
		}
	}
}

// pick chooses a call that the filter takes.
func pick(r *rand.Rand, calls []Call, take func(Call) bool) *Call {
	for range 100 {
		if c := &calls[r.IntN(len(calls))]; take == nil || take(*c) {
			return c
		}
	}
	return nil
}

// pickPair chooses two consecutive calls of one lane.
func pickPair(r *rand.Rand, h *History, take func(a, b Call) bool) (a, b *Call) {
	slices.SortFunc(h.Calls, func(a, b Call) int { return int(a.Start - b.Start) })
	last := make(map[partitionID]int)
	var pairs [][2]int
	for i, c := range h.Calls {
		if j, ok := last[c.partitionID()]; ok && take(h.Calls[j], c) {
			pairs = append(pairs, [2]int{j, i})
		}
		last[c.partitionID()] = i
	}
	if len(pairs) == 0 {
		return nil, nil
	}
	p := pairs[r.IntN(len(pairs))]
	return &h.Calls[p[0]], &h.Calls[p[1]]
}

func timesCalled(h *History, call Call) int {
	n := 0
	for _, c := range h.Calls {
		if c.ID == call.ID && c.Group == call.Group {
			n++
		}
	}
	return n
}

func outcomeOf(h *History, id string) Outcome {
	i := slices.IndexFunc(h.Publishes, func(p PublishRecord) bool { return p.ID == id })
	return h.Publishes[i].Outcome
}

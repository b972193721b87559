package history

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// count fills in the rest of the summary.
func (c *checker) count(h History) {
	s := &c.report.Summary
	s.Calls, s.Partitions = len(h.Calls), 0
	partitions := make(map[int]bool)
	for _, call := range h.Calls {
		partitions[call.Partition] = true
	}
	s.Partitions = len(partitions)
	for id := range c.publishes {
		switch p, _ := c.published(id); p.Outcome {
		case Stored, Duplicate:
			s.Acked++
		case Refused:
			s.Refused++
		default:
			s.Unknown++
		}
	}
	for _, e := range h.Events {
		if e.isFault("") || e.Kind == Term {
			s.Kills++
		}
	}
}

// checkMinima lists what the run did too little of to prove anything.
func (c *checker) checkMinima() {
	s := c.report.Summary
	for _, m := range []struct {
		what     string
		got, min int
	}{
		{"acknowledged publishes", s.Acked, c.rules.MinAcked},
		{"keys", s.Keys, c.rules.MinKeys},
		{"faults", s.Kills, c.rules.MinKills},
		{"handoffs", s.Handoffs, c.rules.MinHandoffs},
		{"takeovers", s.Takeovers, c.rules.MinTakeovers},
		{"redelivered calls", s.Redelivered, c.rules.MinRedelivered},
	} {
		if m.got < m.min {
			c.report.Missing = append(c.report.Missing, fmt.Sprintf("%s: %d, want %d", m.what, m.got, m.min))
		}
	}
}

// checkStall measures how long a partition with a message to call started
// nothing. A wait before a retry that the handler requested does not count.
func (c *checker) checkStall(r *run) {
	var free int64 // since when the lane had nothing in flight
	var last Call
	for _, call := range r.calls {
		retry := last.Seq == call.Seq && !last.open() && !last.ok()
		_, published := c.published(call.ID)
		if !retry && (published || free != 0) {
			c.noteStall(r, call, c.waited(call, free))
		}
		free, last = max(free, call.over()), call
	}
}

func (c *checker) noteStall(r *run, call Call, stall time.Duration) {
	if s := &c.report.Summary; stall > s.LongestStall {
		s.LongestStall, s.StalledPartition = stall, r.String()
	}
	if c.rules.MaxStall > 0 && stall > c.rules.MaxStall {
		c.report.add(Stall, "%s started after the partition had made no progress for %s", describe(call), round(stall))
	}
}

func (c *checker) checkPublishGap() {
	var acks []int64
	for _, records := range c.publishes {
		for _, p := range records {
			if p.acked() {
				acks = append(acks, p.Acked)
			}
		}
	}
	slices.Sort(acks)
	for i := 1; i < len(acks); i++ {
		gap := time.Duration(acks[i] - acks[i-1])
		c.report.Summary.LongestPublishGap = max(c.report.Summary.LongestPublishGap, gap)
		if c.rules.MaxPublishGap > 0 && gap > c.rules.MaxPublishGap {
			c.report.add(Stall, "no publish was acknowledged for %s until %d", round(gap), acks[i])
		}
	}
}

// Figures sums up durations.
type Figures struct {
	Count              int
	Median, P99, Worst time.Duration
}

// Summarize computes figures by nearest rank.
func Summarize(durations []time.Duration) Figures {
	if len(durations) == 0 {
		return Figures{}
	}
	d := slices.Sorted(slices.Values(durations))
	rank := func(percent int) time.Duration { return d[(len(d)*percent+99)/100-1] }
	return Figures{Count: len(d), Median: rank(50), P99: rank(99), Worst: d[len(d)-1]}
}

// String renders the figures on one line.
func (f Figures) String() string {
	return fmt.Sprintf("%d partitions, median %s, p99 %s, worst %s", f.Count, round(f.Median), round(f.P99),
		round(f.Worst))
}

// Resumed is one partition after its owner was killed.
type Resumed struct {
	Group     string
	Partition int
	To        string // node of the new owner, empty if nobody called since
	// After is from the kill, or from the publish of the message if that was
	// later, to the start of the call.
	After time.Duration
}

// ResumedAfter lists the partitions that the node owned when it was killed,
// each with the time until another owner, which may be the node's own next
// process, started a call. A node owned the partitions whose latest call before
// the kill was its own; the empty node is all nodes.
func ResumedAfter(h History, kill Event) []Resumed {
	c := newChecker(History{Publishes: h.Publishes}, Rules{})
	var list []Resumed
	for _, r := range runsOf(byStart(h.Calls), Rules{}) {
		var last Call
		for _, call := range r.calls {
			if call.Start <= kill.At {
				last = call
			}
		}
		if last.Start != 0 && (kill.Node == "" || last.Node == kill.Node) {
			list = append(list, c.resumed(r, last.owner(), kill.At))
		}
	}
	return list
}

func (c *checker) resumed(r *run, old owner, at int64) Resumed {
	res := Resumed{Group: r.group, Partition: r.partition}
	for _, call := range r.calls {
		if call.Start > at && call.owner() != old {
			res.To, res.After = call.Node, c.waited(call, at)
			break
		}
	}
	return res
}

// waited returns how long the call's message was stored without being called,
// from the given time on.
func (c *checker) waited(call Call, from int64) time.Duration {
	if p, ok := c.published(call.ID); ok {
		from = max(from, p.Acked)
	}
	return time.Duration(max(0, call.Start-from))
}

// Move is one planned move of a partition from one owner to another.
type Move struct {
	Group     string
	Partition int
	From, To  string
	At        int64 // start of the first call at the new owner
	// Pause is from the end of the last call at the old owner, or from the
	// publish of the message if that was later, to At.
	Pause time.Duration
	// Backoff: the handler had requested a retry, so the pause is mostly that.
	Backoff bool
}

// PlannedMoves lists the changes of owner that no kill or stop explains, with
// the pause of each.
func PlannedMoves(h History) []Move {
	c := newChecker(History{Publishes: h.Publishes, Events: h.Events}, Rules{})
	var moves []Move
	for _, r := range runsOf(byStart(h.Calls), Rules{}) {
		moves = append(moves, c.plannedMoves(r)...)
	}
	return moves
}

func (c *checker) plannedMoves(r *run) []Move {
	var moves []Move
	last := r.calls[0] // of the present owner
	for _, call := range r.calls[1:] {
		moved := call.owner() != last.owner()
		if moved && call.Epoch <= last.Epoch {
			continue // a finding of checkEpochs
		}
		if _, killed := c.firstFault(last, call.Start); moved && !killed {
			moves = append(moves, Move{
				Group: r.group, Partition: r.partition, From: last.Node, To: call.Node, At: call.Start,
				Pause: c.waited(call, last.over()), Backoff: last.Seq == call.Seq && !last.open() && !last.ok(),
			})
		}
		last = call
	}
	return moves
}

func byStart(calls []Call) []Call {
	sorted := slices.Clone(calls)
	slices.SortStableFunc(sorted, func(a, b Call) int { return cmp.Compare(a.Start, b.Start) })
	return sorted
}

package history

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// Check judges a run. It needs no particular order of records.
func Check(h History, rules Rules) Report {
	c := newChecker(h, rules)
	c.checkIdentity()
	c.checkKeys()
	for _, group := range c.groups {
		c.checkComplete(group)
		c.checkFirstCalls(group)
	}
	for _, run := range c.runs {
		c.checkStaleTails(run)
		c.checkOverlaps(run)
		c.checkEpochs(run)
		c.checkSkips(run)
		c.checkProgress(run)
		c.checkStall(run)
	}
	c.checkPublishGap()
	c.count(h)
	c.checkMinima()
	c.report.sort()
	return c.report
}

// checker holds a history, indexed for the checks.
type checker struct {
	rules     Rules
	report    Report
	groups    []string
	events    []Event                    // by time
	publishes map[string][]PublishRecord // by id
	calls     []Call                     // by start, with impossible times corrected
	runs      []*run                     // by group and partition
}

// run is what happened to one partition of one group.
type run struct {
	partitionID
	calls []Call         // by start
	seqs  []uint64       // the sequences called, ascending
	index map[uint64]int // place in seqs
	// finished is the earliest end of a call that finished the sequence.
	finished map[uint64]int64
	// epochs holds when the first call under each epoch started.
	epochs map[uint64]int64
	// stale marks calls (by place in calls) that a stopped node made late.
	stale map[int]bool
	// sought is how many repeats were explained by seeks.
	sought int
}

func (r *run) String() string { return fmt.Sprintf("%s/%d", r.group, r.partition) }

func newChecker(h History, rules Rules) *checker {
	c := &checker{rules: rules, publishes: make(map[string][]PublishRecord)}
	for _, p := range h.Publishes {
		c.publishes[p.ID] = append(c.publishes[p.ID], p)
	}
	c.events = slices.Clone(h.Events)
	slices.SortStableFunc(c.events, func(a, b Event) int { return cmp.Compare(a.At, b.At) })
	c.calls = c.soundCalls(h.Calls)
	c.groups = rules.Groups
	if len(c.groups) == 0 {
		c.groups = groupsOf(c.calls)
	}
	c.runs = runsOf(c.calls, rules)
	return c
}

// soundCalls reports calls with impossible times and corrects these, so that
// one bad line does not also look like an overlap or a skip.
func (c *checker) soundCalls(calls []Call) []Call {
	sound := slices.Clone(calls)
	for i, call := range sound {
		switch {
		case call.Start == 0:
			c.report.add(EndBeforeStart, "%s ended at %d and has no start", describe(call), call.End)
			sound[i].Start = call.End
		case !call.open() && call.End < call.Start:
			c.report.add(EndBeforeStart, "%s started at %d and ended at %d", describe(call), call.Start, call.End)
			sound[i].End = call.Start
		}
	}
	slices.SortStableFunc(sound, func(a, b Call) int { return cmp.Compare(a.Start, b.Start) })
	return sound
}

func groupsOf(calls []Call) []string {
	seen := make(map[string]bool)
	for _, call := range calls {
		seen[call.Group] = true
	}
	if len(seen) == 0 {
		seen[""] = true // so that a run without any call has lost everything
	}
	return slices.Sorted(maps.Keys(seen))
}

// runsOf splits calls, which are in order of start, by partition.
func runsOf(calls []Call, rules Rules) []*run {
	byPartition := make(map[partitionID]*run)
	for _, call := range calls {
		r := byPartition[call.partitionID()]
		if r == nil {
			r = newRun(call.partitionID())
			byPartition[call.partitionID()] = r
		}
		r.add(call, rules.finished(call))
	}
	runs := slices.Collect(maps.Values(byPartition))
	slices.SortFunc(runs, func(a, b *run) int {
		if a.group != b.group {
			return cmp.Compare(a.group, b.group)
		}
		return cmp.Compare(a.partition, b.partition)
	})
	for _, r := range runs {
		slices.Sort(r.seqs)
		for i, seq := range r.seqs {
			r.index[seq] = i
		}
	}
	return runs
}

func newRun(l partitionID) *run {
	return &run{
		partitionID: l,
		index:       make(map[uint64]int),
		finished:    make(map[uint64]int64),
		epochs:      make(map[uint64]int64),
		stale:       make(map[int]bool),
	}
}

func (r *run) add(call Call, finished bool) {
	r.calls = append(r.calls, call)
	if _, known := r.index[call.Seq]; !known {
		r.index[call.Seq] = 0
		r.seqs = append(r.seqs, call.Seq)
	}
	if _, known := r.epochs[call.Epoch]; !known {
		r.epochs[call.Epoch] = call.Start
	}
	if at, before := r.finished[call.Seq]; finished && (!before || call.End < at) {
		r.finished[call.Seq] = call.End
	}
}

// finishedBefore reports whether the sequence was finished by then.
func (r *run) finishedBefore(seq uint64, at int64) bool {
	end, ok := r.finished[seq]
	return ok && end <= at
}

// firstFault finds the kill or stop that ended the owner of the given call,
// its last: the first one since.
func (c *checker) firstFault(last Call, to int64) (Event, bool) {
	for _, e := range c.events {
		if e.At >= last.Start-e.slack() && e.At <= to && e.isFault(last.Node) {
			return e, true
		}
	}
	return Event{}, false
}

// lastFault finds the last fault of the node in [from, to], or so little before that it explains a call at from.
func (c *checker) lastFault(node string, from, to int64) (Event, bool) {
	for _, e := range slices.Backward(c.events) {
		if e.At >= from-e.slack() && e.At <= to && e.isFault(node) {
			return e, true
		}
	}
	return Event{}, false
}

// slack is how long after the event a node that has not noticed it yet may start a call.
func (e Event) slack() int64 {
	if e.Kind == Struck {
		return struckSlack
	}
	return killSlack
}

// isFault reports whether the event may take partitions from the node without
// a hand-over. The empty node is any node.
func (e Event) isFault(node string) bool {
	return (e.Kind == Kill || e.Kind == Stop || e.Kind == Struck) && (node == "" || e.Node == node)
}

func describe(c Call) string {
	return fmt.Sprintf("%s/%d seq %d key %q id %q by %s (agent %d, pid %d) epoch %d attempt %d",
		c.Group, c.Partition, c.Seq, c.Key, c.ID, c.Node, c.Agent, c.PID, c.Epoch, c.Attempt)
}

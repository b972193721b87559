package handover

import (
	"slices"
	"testing"
	"time"

	"leasehold/internal/harness/history"
	"leasehold/internal/harness/scenario"
)

// tally adds up what the steps of one name came to.
type tally struct {
	names []string // In order of appearance.
	rows  map[string]*tallyRow
}

type tallyRow struct {
	steps, moved, least, redelivered int
	planned                          bool
	pause, unmoved                   []time.Duration
}

func newTally(h history.History, steps []step) tally {
	a := tally{rows: make(map[string]*tallyRow)}
	moves, gaps := history.PlannedMoves(h), scenario.NewGaps(h)
	for _, s := range steps {
		row := a.row(s.name)
		row.steps, row.moved, row.least = row.steps+1, row.moved+s.moved, row.least+s.least
		row.planned = s.killed.At == 0
		row.pause = append(row.pause, pauses(moves, func(m history.Move) bool { return s.covers(m.At) })...)
		row.pause = append(row.pause, s.resumed(h)...)
		for p := range s.kept {
			if s.kept[p] {
				row.unmoved = append(row.unmoved, gaps.Longest(p, s.from, s.to))
			}
		}
	}
	for _, r := range redelivered(h) {
		if i := slices.IndexFunc(steps, r.causedBy(steps)); i >= 0 {
			a.row(steps[i].name).redelivered++
		}
	}
	return a
}

func (s step) covers(at int64) bool { return s.from <= at && at < s.to }

// resumed is the pause of each partition whose owner was killed, from then on.
func (s step) resumed(h history.History) []time.Duration {
	if s.killed.At == 0 {
		return nil
	}
	var took []time.Duration
	for _, r := range history.ResumedAfter(h, s.killed) {
		took = append(took, r.After)
	}
	return took
}

func (a *tally) row(name string) *tallyRow {
	if a.rows == nil {
		a.rows = make(map[string]*tallyRow)
	}
	if a.rows[name] == nil {
		a.names, a.rows[name] = append(a.names, name), &tallyRow{}
	}
	return a.rows[name]
}

// add takes in a round's tally, shows it, and fails the test if a planned move
// made anything twice.
func (a *tally) add(t *testing.T, round tally) {
	t.Helper()
	t.Log(round.String())
	for _, name := range round.names {
		sum, r := a.row(name), round.rows[name]
		if r.planned && r.redelivered != 0 {
			t.Errorf("%s: %d calls were made again", name, r.redelivered)
		}
		sum.planned, sum.steps = r.planned, sum.steps+r.steps
		sum.moved, sum.least, sum.redelivered = sum.moved+r.moved, sum.least+r.least, sum.redelivered+r.redelivered
		sum.pause, sum.unmoved = append(sum.pause, r.pause...), append(sum.unmoved, r.unmoved...)
	}
}

func (a *tally) String() string {
	return scenario.Table("WHAT\tTIMES\tMOVED\tMINIMUM\tREDELIVERED\tPAUSE OF A MOVED PARTITION\tLONGEST GAP OF AN "+
		"UNMOVED ONE", func(row func(...any)) {
		for _, name := range a.names {
			r := a.rows[name]
			row(name, r.steps, r.moved, r.least, r.redelivered, history.Summarize(r.pause), history.Summarize(r.unmoved))
		}
	})
}

// repeat is a call of a message that was handed out before.
type repeat struct{ call, of history.Call }

// causedBy picks the step because of which the message was handed out again:
// the kill of the node that had it before, even if that shows only when the
// next step has begun, or else the step that it happened in.
func (r repeat) causedBy(steps []step) func(step) bool {
	killed := func(s step) bool {
		return s.killed.Node == r.of.Node && r.of.Start <= s.killed.At && s.killed.At < r.call.Start
	}
	if slices.ContainsFunc(steps, killed) {
		return killed
	}
	return func(s step) bool { return s.covers(r.call.Start) }
}

// redelivered lists the calls of messages that were already finished, or that
// another epoch's unfinished call had been given.
func redelivered(h history.History) []repeat {
	type message struct {
		partition int
		seq       uint64
	}
	before := make(map[message]history.Call)
	var again []repeat
	for _, call := range scenario.InOrder(h.Calls) {
		key := message{call.Partition, call.Seq}
		if old, called := before[key]; called && (old.Result == "ok" || old.End == 0 && old.Epoch != call.Epoch) {
			again = append(again, repeat{call, old})
		}
		before[key] = call
	}
	return again
}

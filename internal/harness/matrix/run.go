package matrix

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"leasehold/internal/harness/history"
)

// Run runs the row once with a cluster of its own and so many rounds, and fails the test if it did not hold.
func (row Row) Run(t *testing.T, seed uint64, rounds int) Result {
	res := Result{Row: row.Name, Seed: seed, Verdict: Failed, Why: "see its output"}
	started := time.Now()
	t.Run(row.Name, func(t *testing.T) {
		t.Logf("alone: make chaos ROWS='^%s$' SEED=%d ROUNDS=%d", row.Name, seed, rounds)
		var h history.History
		var w *World
		defer func() {
			res.Took = time.Since(started)
			if t.Skipped() && res.Verdict == Failed {
				res.Verdict = NotRun // found out in the middle; the output says why
			}
			if w != nil {
				res.Faults = w.faults
			}
			if h.Calls != nil {
				res.measure(h)
			}
		}()
		w, err := newWorld(t, row, seed)
		if err != nil {
			res.Verdict, res.Why = NotRun, err.Error()
			t.Skip("not run: ", err)
		}
		for range rounds {
			row.Round(w)
		}
		var report history.Report
		h, report = w.judge()
		res.Summary = report.Summary
		res.Verdict, res.Why = row.verdict(report)
		t.Log(report)
		switch {
		case res.Verdict == Failed || res.Verdict == Inconclusive:
			t.Fail()
		case t.Failed():
			res.Verdict, res.Why = Failed, "its history is sound; see its output"
		}
	})
	return res
}

// verdict is what the report says of the row.
func (row Row) verdict(report history.Report) (Verdict, string) {
	if len(row.Found) > 0 {
		return row.mustFail(report)
	}
	switch report.Status() {
	case history.Passed:
		return Held, ""
	case history.Inconclusive:
		return Inconclusive, fmt.Sprint(report.Missing)
	}
	return Failed, fmt.Sprint(report.Kinds())
}

func (row Row) mustFail(report history.Report) (Verdict, string) {
	kinds := report.Kinds()
	if slices.ContainsFunc(row.Found, func(k history.Kind) bool { return slices.Contains(kinds, k) }) {
		return FailedAsMust, fmt.Sprintf("%v, %d findings", kinds, len(report.Findings))
	}
	return Failed, fmt.Sprintf("none of %v was found: the check proves nothing", row.Found)
}

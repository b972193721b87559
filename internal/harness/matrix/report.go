package matrix

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"leasehold/internal/harness/history"
)

// Verdict is what came of a row.
type Verdict string

// The verdicts. Only the last two fail the run.
const (
	Held         Verdict = "ok"
	FailedAsMust Verdict = "fails, as it must"
	NotRun       Verdict = "not run"
	Skipped      Verdict = "out of time"
	Inconclusive Verdict = "inconclusive"
	Failed       Verdict = "FAILED"
)

// Result is one run of a row.
type Result struct {
	Row     string
	Seed    uint64
	Verdict Verdict
	Why     string // Of a verdict other than ok.
	Took    time.Duration
	Faults  []Fault
	Summary history.Summary
	// Resumed is how long each partition of a struck node stood still, by kind,
	// for faults whose recovery is measured; a slice for each of them.
	Resumed map[Kind][][]time.Duration
}

// measure fills in how long partitions stood still after each fault with an event.
func (r *Result) measure(h history.History) {
	r.Resumed = make(map[Kind][][]time.Duration)
	for _, f := range r.Faults {
		if f.Event.At == 0 {
			continue
		}
		var took []time.Duration
		for _, p := range history.ResumedAfter(h, f.Event) {
			if p.To != "" {
				took = append(took, p.After)
			}
		}
		if len(took) > 0 {
			r.Resumed[f.Kind] = append(r.Resumed[f.Kind], took)
		}
	}
}

// Report is what came of a run of the matrix.
type Report []Result

// Counts are the faults of each kind that were injected with a shown effect, in rows that did not fail.
func (r Report) Counts() map[Kind]int {
	counts := make(map[Kind]int)
	for _, row := range r {
		if row.Verdict != Held && row.Verdict != FailedAsMust {
			continue
		}
		for _, f := range row.Faults {
			counts[f.Kind]++
		}
	}
	return counts
}

// classes are the counts by what a soak wants enough of.
func (r Report) classes() map[string]int {
	classes := make(map[string]int)
	for kind, times := range r.Counts() {
		classes[kind.class()] += times
	}
	return classes
}

// of are the results of a row.
func (r Report) of(name string) Report {
	return slices.DeleteFunc(slices.Clone(r), func(res Result) bool { return res.Row != name })
}

// String is the tables for people: rows, kinds of faults, recovery.
func (r Report) String() string {
	var b strings.Builder
	r.writeRows(&b)
	r.writeKinds(&b)
	r.writeRecovery(&b)
	r.writeSum(&b)
	return b.String()
}

func (r Report) writeRows(b *strings.Builder) {
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ROW\tRESULT\tSEED\tFAULTS\tACKED\tCALLS\tLONGEST PUBLISH GAP\tLONGEST "+
		"STALL\tREDELIVERED\tTAKEOVERS\tLATE\tTOOK")
	for _, row := range r {
		s := row.Summary
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%s\t%s\t%d\t%d\t%d\t%s\n", row.Row, row.Verdict, row.Seed, len(row.Faults),
			s.Acked, s.Calls, short(s.LongestPublishGap), short(s.LongestStall), s.Redelivered, s.Takeovers, s.StaleTails,
			row.Took.Round(time.Second))
	}
	w.Flush()
	for _, row := range r {
		if row.Why != "" {
			fmt.Fprintf(b, "%s, seed %d: %s: %s\n", row.Row, row.Seed, row.Verdict, row.Why)
		}
	}
}

func (r Report) writeKinds(b *strings.Builder) {
	counts := r.Counts()
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nFAULT\tTIMES")
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(w, "%s\t%d\n", kind, counts[kind])
	}
	w.Flush()
}

// writeRecovery shows how long partitions stood still, and how long the last of each fault's did.
func (r Report) writeRecovery(b *strings.Builder) {
	all := make(map[Kind][][]time.Duration)
	for _, row := range r {
		for kind, tries := range row.Resumed {
			all[kind] = append(all[kind], tries...)
		}
	}
	if len(all) == 0 {
		return
	}
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nUNTIL PARTITIONS WENT ON AFTER\tTIMES\tPARTITIONS\tMEDIAN\tP99\tWORST\tLAST PARTITION OF EACH: "+
		"MEDIAN\tP99\tWORST")
	for _, kind := range slices.Sorted(maps.Keys(all)) {
		var each, last []time.Duration
		for _, try := range all[kind] {
			each = append(each, try...)
			last = append(last, slices.Max(try))
		}
		e, l := history.Summarize(each), history.Summarize(last)
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t%s\n", kind, len(last), e.Count,
			short(e.Median), short(e.P99), short(e.Worst), short(l.Median), short(l.P99), short(l.Worst))
	}
	w.Flush()
}

func (r Report) writeSum(b *strings.Builder) {
	verdicts, faults := make(map[Verdict]int), 0
	for _, row := range r {
		verdicts[row.Verdict]++
	}
	for _, n := range r.Counts() {
		faults += n
	}
	var parts []string
	for _, v := range slices.SortedFunc(maps.Keys(verdicts), func(a, b Verdict) int {
		return cmp.Compare(verdicts[b], verdicts[a])
	}) {
		parts = append(parts, fmt.Sprintf("%d %s", verdicts[v], v))
	}
	fmt.Fprintf(b, "\n%d rows: %s; %d faults\n", len(r), strings.Join(parts, ", "), faults)
}

func short(d time.Duration) string { return d.Round(10 * time.Millisecond).String() }

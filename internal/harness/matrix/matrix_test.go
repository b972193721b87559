package matrix

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"testing"
	"time"

	"leasehold/internal/harness/fault/namespace"
	"leasehold/internal/harness/testcluster"
)

var (
	chaosFlag   = flag.Bool("chaos", false, "run the matrix")
	rowsFlag    = flag.String("rows", "", "run only rows whose name matches; default: those of CI")
	seedFlag    = flag.Uint64("seed", 0, "seed of every row; 0: a new one for each")
	roundsFlag  = flag.Int("rounds", 0, "rounds of each row; 0: as many as CI runs")
	minutesFlag = flag.Int("minutes", 0, "start no row after so many minutes; 0: run all")
	soakFlag    = flag.Bool("soak", false, "run the rows again and again, with new seeds, until the minutes are over")
	eachFlag    = flag.Int("each", 0,
		"end a soak earlier, when each fault was injected so often, and run no row that has enough; 0: do not")
	tableFlag = flag.String("table", "", "write the tables to this file, too")
)

func TestMain(m *testing.M) {
	namespace.Main(m, func() int { return testcluster.Run(m) })
}

// TestMatrix runs rows one after the other: nothing else runs beside a fault.
func TestMatrix(t *testing.T) {
	if !*chaosFlag {
		t.Skip("make chaos runs it")
	}
	if !namespace.Own() {
		t.Logf("without namespaces of its own: %s", namespace.Why())
	}
	r := &runner{t: t, started: time.Now()}
	defer r.print()
	rows := chosen(t)
	for r.round(rows) && *soakFlag && !t.Failed() {
		if rows = r.due(rows, *eachFlag); len(rows) == 0 {
			return
		}
		rand.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	}
}

// chosen are the rows to run.
func chosen(t *testing.T) []Row {
	t.Helper()
	names, err := regexp.Compile(*rowsFlag)
	if err != nil {
		t.Fatalf("-rows: %v", err)
	}
	var rows []Row
	for _, row := range matrix() {
		if *rowsFlag != "" && names.MatchString(row.Name) || *rowsFlag == "" && (row.CI || *soakFlag) {
			rows = append(rows, row)
		}
	}
	if len(rows) == 0 {
		t.Fatalf("-rows: no row matches %q", *rowsFlag)
	}
	return rows
}

// runner runs rows and keeps what came of them.
type runner struct {
	t       *testing.T
	started time.Time
	report  Report
}

// round runs each row once, as long as there is time, and tells whether there is some left.
func (r *runner) round(rows []Row) bool {
	for _, row := range rows {
		if r.over() {
			if !*soakFlag {
				r.report = append(r.report, Result{Row: row.Name, Verdict: Skipped})
			}
			continue
		}
		seed := *seedFlag
		if seed == 0 {
			seed = rand.Uint64N(1_000_000) + 1
		}
		rounds := row.rounds()
		if *roundsFlag > 0 && len(row.Found) == 0 { // what has to fail has enough of one
			rounds = *roundsFlag
		}
		result := row.Run(r.t, seed, rounds)
		r.report = append(r.report, result)
		r.save()
		fmt.Printf("%s %s: %s, %d faults, %s\n", time.Now().Format(time.TimeOnly), row.Name, result.Verdict,
			len(result.Faults), result.Took.Round(time.Second))
	}
	return !r.over()
}

// due are the rows that inject a fault of which there are not enough yet.
func (r *runner) due(rows []Row, each int) []Row {
	if each == 0 {
		return rows
	}
	times := r.report.classes()
	return slices.DeleteFunc(rows, func(row Row) bool {
		for class := range r.report.of(row.Name).classes() {
			if times[class] < each {
				return false
			}
		}
		return true
	})
}

func (r *runner) over() bool {
	return *minutesFlag > 0 && time.Since(r.started) > time.Duration(*minutesFlag)*time.Minute
}

// print shows the tables, whatever happened.
func (r *runner) print() {
	r.save()
	fmt.Print("\n", r.report)
}

// save writes the tables as they are by now: a run may be ended at any time.
func (r *runner) save() {
	if *tableFlag == "" {
		return
	}
	if err := os.WriteFile(*tableFlag, []byte(r.report.String()), 0o644); err != nil {
		r.t.Error(err)
	}
}

// matrix is every row, in the order in which they are run.
func matrix() []Row {
	return slices.Concat(crashRows, memberRows, powerRows, diskRows, fsyncRows, rotRows(), guardRows, networkRows,
		processRows, clockRows, clientRows, waveRows, neededRows)
}

func TestRowsAreNamedOnce(t *testing.T) {
	word := regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	seen := make(map[string]bool)
	for _, row := range matrix() {
		if !word.MatchString(row.Name) || seen[row.Name] {
			t.Errorf("row %q: the name is used before, or no words joined by dashes", row.Name)
		}
		seen[row.Name] = true
		if row.Expect == "" || row.Round == nil || row.Load.Rate == 0 {
			t.Errorf("row %s says not all it must", row.Name)
		}
	}
}

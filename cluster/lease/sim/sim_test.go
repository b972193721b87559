package sim

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

var (
	seeds   = flag.Int("seeds", 300, "how many seeds to simulate")
	seed    = flag.Int64("seed", -1, "simulate this one seed only")
	first   = flag.Bool("first", false, "stop TestFirstViolation at the first seed that finds something")
	summary = flag.String("summary", "", "file to write the line that says what was covered to")
)

// TestNoTwoOwnersAndAlwaysConverges is the search for violations: every call that any lane starts is checked in every
// run, and every run must converge with each partition run by one live node, in balance.
func TestNoTwoOwnersAndAlwaysConverges(t *testing.T) {
	if *seed >= 0 {
		if res := Run(uint64(*seed), Options{Log: t.Output()}); res.Err != nil {
			t.Fatalf("seed %d: %v", *seed, res.Err)
		}
		return
	}
	total := Result{Covered: map[string]int{}}
	each(*seeds, func(s uint64) Result { return Run(s, Options{}) }, func(s uint64, res Result) {
		if res.Err != nil {
			t.Errorf("seed %d: %v\n\tagain: go test ./cluster/lease/sim -run Converges -seed %d", s, res.Err, s)
		}
		total.Calls += res.Calls
		total.LaneStarts += res.LaneStarts
		for k, n := range res.Covered {
			total.Covered[k] += n
		}
	})
	line := describe(*seeds, total, t.Failed())
	t.Log(line)
	if *summary != "" {
		if err := os.WriteFile(*summary, []byte(line+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, must := range []string{
		"takeover", "declared dead", "declared dead on proof", "death confirmed", "severed", "wrongly confirmed", "hand-over",
		"clean stop",
		"claimed again", "write landed late", "reply lost",
		"disk wiped", "machine rebooted", "command: pause", "command: resume", "command: seek", "command: restart",
		"quorum lost", "frozen",
		"cut off", "stale read",
		"forged session: invalid", "forged session: old", "forged lease: invalid", "forged lease: old", "forged commands",
		"forgotten lease",
	} {
		if total.Covered[must] == 0 {
			t.Errorf("no run had a %q: the simulation tests less than it says", must)
		}
	}
}

// each runs f for every seed on all cores and passes the results to take in the order of seeds.
func each(n int, f func(uint64) Result, take func(uint64, Result)) {
	results := make([]Result, n)
	var wg sync.WaitGroup
	next := make(chan int)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := range next {
				results[i] = f(uint64(i))
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	for i, r := range results {
		take(uint64(i), r)
	}
}

func describe(seeds int, r Result, failed bool) string {
	var parts []string
	for k, n := range r.Covered {
		parts = append(parts, fmt.Sprintf("%s %d", k, n))
	}
	slices.Sort(parts)
	verdict := "0 violations, always converged"
	if failed {
		verdict = "VIOLATIONS FOUND"
	}
	return fmt.Sprintf("%d seeds: %s; %d lane starts, %d calls checked; %s",
		seeds, verdict, r.LaneStarts, r.Calls, strings.Join(parts, ", "))
}

func TestNothingMovesWithoutNeed(t *testing.T) {
	for name, run := range map[string]func(uint64, Options) Result{
		"the store is unavailable for ttls": OutageMovesNothing,
		"a quick restart":                   QuickRestartMovesNothing,
	} {
		t.Run(name, func(t *testing.T) {
			each(max(*seeds/10, 100), func(s uint64) Result { return run(s, Options{}) }, func(s uint64, res Result) {
				if res.Err != nil {
					t.Errorf("seed %d: %v", s, res.Err)
				}
			})
		})
	}
}

func TestOneSeedIsOneHistory(t *testing.T) {
	for s := range uint64(20) {
		if a, b := Run(s, Options{}), Run(s, Options{}); a.Hash != b.Hash {
			t.Fatalf("seed %d ran differently twice", s)
		}
	}
}

// TestFirstViolation looks for the first seed that violates anything; TestLongBrokenRulesAreFound runs it on broken
// code.
func TestFirstViolation(t *testing.T) {
	if *first {
		if s, err := firstViolation(Options{}, *seeds); err != nil {
			t.Fatalf("found at seed %d: %v", s, err)
		}
	}
}

// firstViolation runs so many seeds in order, a batch at a time on all cores, until one fails.
func firstViolation(o Options, seeds int) (uint64, error) {
	const batch = 32
	for from := uint64(0); from < uint64(seeds); from += batch {
		var at uint64
		var err error
		each(batch, func(s uint64) Result { return Run(from+s, o) }, func(s uint64, res Result) {
			if err == nil && res.Err != nil {
				at, err = from+s, res.Err
			}
		})
		if err != nil {
			return at, err
		}
	}
	return 0, nil
}

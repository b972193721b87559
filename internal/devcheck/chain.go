package devcheck

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
)

// chainLine is a line of running.py.
type chainLine struct {
	Key        string  `json:"key"`
	Seq        uint64  `json:"seq"`
	Epoch      uint64  `json:"epoch"`
	Partition  int     `json:"partition"`
	Node       string  `json:"node"`
	Count      int     `json:"count"`
	TotalDelay float64 `json:"total_delay"`
	Chain      string  `json:"chain"`

	place string
}

// readChains reads the files of a group, each in the order in which it was written.
func readChains(dir, group string) ([][]chainLine, error) {
	files, err := groupFiles(dir, group)
	if err != nil {
		return nil, err
	}
	parts := make([][]chainLine, len(files))
	for i, file := range files {
		err := eachLine(file, func(n int, text []byte) error {
			l := chainLine{place: fmt.Sprintf("%s:%d", file, n)}
			if err := json.Unmarshal(text, &l); err != nil {
				return fmt.Errorf("%s: not a line of running.py: %w", l.place, err)
			}
			parts[i] = append(parts[i], l)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return parts, nil
}

// state is what running.py knows of a key.
type state struct {
	count int
	total float64
	chain string
}

// add is one row on top of a state, as running.py computes it.
func (s state) add(data string) state {
	var flight struct {
		Delay float64 `json:"delay"`
	}
	_ = json.Unmarshal([]byte(data), &flight) // A row without a delay is rejected there, and missing here.
	sum := sha256.Sum256([]byte(s.chain + data))
	return state{count: s.count + 1, total: s.total + flight.Delay, chain: hex.EncodeToString(sum[:])}
}

// judgeChains holds the lines of running.py to what the input gives.
func judgeChains(r *Report, in *input, parts [][]chainLine, group string) {
	j := chainJudge{in: in, want: map[string]state{}, got: map[string]chainLine{}}
	for _, lines := range parts {
		j.partition(lines)
	}
	j.finals()
	r.claim(group, "every row was handled", fmt.Sprintf("%d lines for %d rows", j.lines, len(in.rows)), j.incomplete)
	r.claim(group, "one row after the other, none twice", fmt.Sprintf("%d lines", j.lines), j.disorder)
	r.claim(group, "chain, count and total follow from the input", fmt.Sprintf("%d keys", len(in.byKey)), j.wrong)
}

type chainJudge struct {
	in    *input
	lines int
	want  map[string]state     // Key → state after the rows so far.
	got   map[string]chainLine // Key → its last line.

	incomplete, disorder, wrong []string
}

func (j *chainJudge) partition(lines []chainLine) {
	var last chainLine
	for _, l := range lines {
		j.lines++
		if l.Seq <= last.Seq || l.Epoch < last.Epoch {
			j.disorder = append(j.disorder, fmt.Sprintf("%s: sequence %d of epoch %d comes after %d of %d", l.place, l.Seq, l.Epoch, last.Seq, last.Epoch))
		}
		last = l
		j.line(l)
	}
}

func (j *chainJudge) line(l chainLine) {
	old, rows := j.want[l.Key], j.in.byKey[l.Key]
	j.got[l.Key] = l
	if old.count >= len(rows) {
		j.wrong = append(j.wrong, fmt.Sprintf("%s: key %s has only %d rows", l.place, l.Key, len(rows)))
		return
	}
	now := old.add(j.in.rows[rows[old.count]].data)
	j.want[l.Key] = now
	if l.Count != now.count || l.Chain != now.chain || math.Abs(l.TotalDelay-now.total) > 1e-6 {
		j.wrong = append(j.wrong, fmt.Sprintf("%s: key %s: count %d, total %v, chain %.12s…; want %d, %v, %.12s…",
			l.place, l.Key, l.Count, l.TotalDelay, l.Chain, now.count, now.total, now.chain))
	}
}

// finals compares the last line of every key with what all of its rows give.
func (j *chainJudge) finals() {
	for _, key := range slices.Sorted(maps.Keys(j.in.byKey)) {
		rows := j.in.byKey[key]
		var want state
		for _, i := range rows {
			want = want.add(j.in.rows[i].data)
		}
		switch got := j.got[key]; {
		case j.want[key].count != len(rows) || got.Count != len(rows):
			j.incomplete = append(j.incomplete, fmt.Sprintf("key %s: %d lines and a count of %d for %d rows", key, j.want[key].count, got.Count, len(rows)))
		case got.Chain != want.chain:
			j.wrong = append(j.wrong, fmt.Sprintf("key %s ends with chain %.12s…, want %.12s…", key, got.Chain, want.chain))
		}
	}
}

package devcheck

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"leasehold/internal/lines"
)

// fileLine is a line of the file handler, as far as it matters here.
type fileLine struct {
	Node      string  `json:"node"`
	Partition int     `json:"partition"`
	Seq       uint64  `json:"seq"`
	Epoch     uint64  `json:"epoch"`
	Key       string  `json:"key"`
	Data      *string `json:"data"`
	DataB64   []byte  `json:"data_b64"`

	place string // FILE:LINE
	order int    // Of the line in its file: the order in which its node handled it.
}

func (l *fileLine) payload() string {
	if l.Data != nil {
		return *l.Data
	}
	return string(l.DataB64)
}

// readFileLines reads every node's files, each in the order in which it was written.
func readFileLines(dir, group string) ([]fileLine, error) {
	nodes, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("look for outputs of group %s: %w", group, err)
	}
	var lines []fileLine
	for _, node := range nodes {
		if !node.IsDir() {
			continue
		}
		files, err := groupFiles(filepath.Join(dir, node.Name()), group)
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			if lines, err = appendLines(lines, file); err != nil {
				return nil, err
			}
		}
	}
	return lines, nil
}

func appendLines(lines []fileLine, file string) ([]fileLine, error) {
	err := eachLine(file, func(n int, text []byte) error {
		l := fileLine{place: fmt.Sprintf("%s:%d", file, n), order: n}
		if err := json.Unmarshal(text, &l); err != nil {
			return fmt.Errorf("%s: not a line of the file handler: %w", l.place, err)
		}
		lines = append(lines, l)
		return nil
	})
	return lines, err
}

// judgeFile holds the lines of the file handler to the input.
func judgeFile(r *Report, in *input, lines []fileLine, o Options) {
	parts := map[int][]fileLine{}
	for _, l := range lines {
		parts[l.Partition] = append(parts[l.Partition], l)
	}
	j := fileJudge{in: in, allow: o.AllowRepeats, idField: o.IDField, seen: make([]int, len(in.rows)), next: map[string]int{}}
	for _, p := range slices.Sorted(maps.Keys(parts)) {
		j.partition(parts[p])
	}
	for i, n := range j.seen {
		if n == 0 {
			j.missing = append(j.missing, fmt.Sprintf("row %d (id %s, key %s) was not handled", i+1, in.rows[i].id, in.rows[i].key))
		}
	}
	g := o.FileGroup
	r.claim(g, "every row was handled", fmt.Sprintf("%d of %d rows", len(in.rows)-len(j.missing), len(in.rows)), j.missing)
	r.claim(g, "no row was handled twice", fmt.Sprintf("%d lines, %d repeats under a newer epoch", len(lines), j.repeats), j.doubled)
	r.claim(g, "no line is foreign or changed", fmt.Sprintf("%d lines", len(lines)), j.foreign)
	r.claim(g, "one owner an epoch, sequences grow", fmt.Sprintf("%d partitions, %d nodes", len(parts), nodesOf(lines)), j.disorder)
	r.claim(g, "each key in the order of the input", fmt.Sprintf("%d keys", len(in.byKey)), j.overtaken)
}

func nodesOf(lines []fileLine) int {
	nodes := map[string]bool{}
	for _, l := range lines {
		nodes[l.Node] = true
	}
	return len(nodes)
}

// fileJudge collects what speaks against each claim.
type fileJudge struct {
	in      *input
	allow   bool
	idField string
	seen    []int          // Row → times handled.
	next    map[string]int // Key → how many of its rows came so far.
	repeats int

	missing, doubled, foreign, disorder, overtaken []string
}

// partition walks through a partition in the order in which it was handled: an epoch has one owner, so by epoch and, in
// an epoch, by the place in the owner's file.
func (j *fileJudge) partition(lines []fileLine) {
	slices.SortStableFunc(lines, func(a, b fileLine) int {
		return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Node, b.Node), cmp.Compare(a.order, b.order))
	})
	var last fileLine
	var highest uint64 // Highest sequence handled so far.
	for _, l := range lines {
		if l.Epoch == last.Epoch && l.Node != last.Node && last.Node != "" {
			j.disorder = append(j.disorder, fmt.Sprintf("%s: epoch %d of partition %d has two owners, %s and %s", l.place, l.Epoch, l.Partition, last.Node, l.Node))
		}
		if l.Epoch == last.Epoch && l.Seq <= last.Seq {
			j.disorder = append(j.disorder, fmt.Sprintf("%s: sequence %d comes after %d", l.place, l.Seq, last.Seq))
		}
		j.line(l, l.Seq <= highest)
		last, highest = l, max(highest, l.Seq)
	}
}

// line judges one line; behind means that its partition was further already.
func (j *fileJudge) line(l fileLine, behind bool) {
	i, ok := j.rowOf(l)
	if !ok {
		j.foreign = append(j.foreign, fmt.Sprintf("%s: is no row of the input under key %s", l.place, l.Key))
		return
	}
	j.seen[i]++
	if j.seen[i] > 1 {
		j.again(l, i, behind)
		return
	}
	rows, n := j.in.byKey[l.Key], j.next[l.Key]
	if n >= len(rows) || rows[n] != i {
		want := "nothing more"
		if n < len(rows) {
			want = "id " + j.in.rows[rows[n]].id
		}
		j.overtaken = append(j.overtaken, fmt.Sprintf("%s: key %s goes on with id %s, want %s", l.place, l.Key, j.in.rows[i].id, want))
	}
	// Go on from here: one row out of place is one difference, not one for every row that follows.
	if at, found := slices.BinarySearch(rows, i); found {
		j.next[l.Key] = at + 1
	}
}

func (j *fileJudge) again(l fileLine, i int, behind bool) {
	if j.allow && behind {
		j.repeats++
		return
	}
	j.doubled = append(j.doubled, fmt.Sprintf("%s: row %d (id %s) was handled before", l.place, i+1, j.in.rows[i].id))
}

// rowOf finds the row that a line carries, unchanged and under its own key.
func (j *fileJudge) rowOf(l fileLine) (int, bool) {
	id, err := lines.Field([]byte(l.payload()), j.idField)
	if err != nil {
		return 0, false
	}
	i, ok := j.in.byID[id]
	return i, ok && j.in.rows[i].key == l.Key && j.in.rows[i].data == l.payload()
}

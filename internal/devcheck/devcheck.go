// Package devcheck judges what the handlers of a demo cluster wrote against what was published: every row handled once,
// and per key in the order of the input.
//
// It reads two kinds of output. Lines of the `file` handler, one directory a node, say which row was handled when, by
// whom and under which epoch. Lines of examples/flights/running.py carry a chain of hashes per key, in which one row
// lost, doubled or out of order makes every later line wrong. It knows nothing of the broker: only files.
package devcheck

import (
	"errors"
	"fmt"
)

// Options say what to check.
type Options struct {
	Input    string // NDJSON file that was published, in this order.
	KeyField string // Field of a row that holds its key, like "origin" or "customer.id".
	IDField  string // Field that names a row, unique in the input.

	FileDir    string // Holds a directory a node.
	FileGroup  string // Group of the file handler; empty: not checked.
	ChainDir   string // Holds the files of running.py.
	ChainGroup string // Group of the subprocess handler; empty: not checked.

	// AllowRepeats accepts that a row is handled again under a newer epoch, as happens from the last checkpoint after a
	// node was killed. The first calls are still held to the order.
	AllowRepeats bool
}

// Claim is one thing that was checked.
type Claim struct {
	Group  string `json:"group"`
	Claim  string `json:"claim"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"` // What it was counted on.
}

// Report is the outcome. Nothing in Differences means that every claim holds.
type Report struct {
	Rows        int      `json:"rows"` // Of the input.
	Keys        int      `json:"keys"`
	Claims      []Claim  `json:"claims"`
	Differences []string `json:"differences"` // The first of each claim.
}

// OK reports whether every claim holds.
func (r *Report) OK() bool { return len(r.Differences) == 0 }

// shownDifferences is how many differences of a claim are worth reading.
const shownDifferences = 5

// claim adds a claim with what speaks against it.
func (r *Report) claim(group, text, detail string, against []string) {
	r.Claims = append(r.Claims, Claim{Group: group, Claim: text, OK: len(against) == 0, Detail: detail})
	for i, d := range against {
		if i == shownDifferences {
			r.Differences = append(r.Differences, fmt.Sprintf("%s: %s: and %d more", group, text, len(against)-i))
			return
		}
		r.Differences = append(r.Differences, fmt.Sprintf("%s: %s: %s", group, text, d))
	}
}

// Check reads everything and judges. An error means that it could not be judged; what is wrong is in the report.
func Check(o Options) (*Report, error) {
	if o.FileGroup == "" && o.ChainGroup == "" {
		return nil, errors.New("there is no group to check")
	}
	in, err := readInput(o)
	if err != nil {
		return nil, err
	}
	r := &Report{Rows: len(in.rows), Keys: len(in.byKey), Claims: []Claim{}, Differences: []string{}}
	if o.FileGroup != "" {
		lines, err := readFileLines(o.FileDir, o.FileGroup)
		if err != nil {
			return nil, err
		}
		judgeFile(r, in, lines, o)
	}
	if o.ChainGroup != "" {
		parts, err := readChains(o.ChainDir, o.ChainGroup)
		if err != nil {
			return nil, err
		}
		judgeChains(r, in, parts, o.ChainGroup)
	}
	return r, nil
}

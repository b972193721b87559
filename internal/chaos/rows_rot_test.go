package chaos

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"leasehold/internal/chaos/disk"
)

// rotLimit is how long a node with damaged files may take to be ready, or to mend itself, before it is taken to be lost.
const rotLimit = 45 * time.Second

// rotInCI are the kinds whose damage CI looks at; a soak looks at all.
var rotInCI = []disk.FileKind{disk.MessageBlock, disk.StreamLog, disk.MetaSnapshot}

// notOnDisk are kinds that a node has no files of: it has no consumers.
var notOnDisk = []disk.FileKind{disk.ConsumerState, disk.ConsumerMeta}

// rotRows damage one file of a stopped node: a row for each kind of file and damage.
func rotRows() []Row {
	var rows []Row
	for _, kind := range disk.Kinds() {
		if slices.Contains(notOnDisk, kind) {
			continue
		}
		rows = append(rows,
			rotRow("flip", kind, slices.Contains(rotInCI, kind), disk.Flip),
			rotRow("truncate", kind, false, disk.Truncate))
	}
	return rows
}

func rotRow(how string, kind disk.FileKind, ci bool, damage func(path string, seed uint64) (string, error)) Row {
	return Row{
		Name: how + "-" + strings.ReplaceAll(string(kind), " ", "-"), CI: ci, Load: Steady,
		Expect: "nothing is lost; the node mends itself, or is replaced by an empty one",
		Stall:  60 * time.Second, Gap: 30 * time.Second,
		Round: func(w *World) { w.rot(Kind(how+" of a "+string(kind)), kind, damage) },
	}
}

// rot damages a file of a node that was stopped, and starts it. What it has not noticed may show after a kill -9, for then
// it reads everything. A node that does not come up is replaced, as the manual says.
func (w *World) rot(kind Kind, files disk.FileKind, damage func(path string, seed uint64) (string, error)) {
	w.T.Helper()
	w.Flows(300)
	n := w.Pick()
	e := n.Term()
	all, err := disk.Corruptible(n.DataDir())
	w.must(err)
	if len(all[files]) == 0 {
		w.T.Fatalf("%s has no %s", n.Name, files)
	}
	did, err := damage(all[files][w.Random.IntN(len(all[files]))], w.Random.Uint64())
	w.must(err)
	w.T.Log(did)
	n.Start()
	up := w.comesUp(n, rotLimit)
	if up {
		w.Flows(200)
		n.Kill()
		n.Start()
		up = w.comesUp(n, rotLimit)
	}
	if !up {
		did += fmt.Sprintf("; it did not come up (%v) and was replaced", n.Ready())
		w.end(n)
		n.WipeDisk()
		n.Start()
		w.replaced(n)
	}
	w.Did(kind, e, "%s", did)
	w.Settle()
	w.Flows(100)
}

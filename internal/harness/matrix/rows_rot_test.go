package matrix

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"leasehold/internal/harness/fault/disk"
	"leasehold/internal/harness/monotonic"
	"leasehold/internal/harness/testcluster"
)

// rotLimit is how long a node with damaged files may take to be ready, or to mend itself, before it is taken to be
// lost.
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
			rotRow(rotFlip, kind, slices.Contains(rotInCI, kind), disk.Flip),
			rotRow(rotTruncate, kind, false, disk.Truncate))
	}
	return rows
}

func rotRow(how string, kind disk.FileKind, ci bool, damage func(path string, seed uint64) (string, error)) Row {
	return Row{
		Name: how + "-" + strings.ReplaceAll(string(kind), " ", "-"), CI: ci, Load: Steady,
		Expect: "nothing is lost; the node mends itself, or is replaced by an empty one",
		Stall:  60 * time.Second, Gap: 30 * time.Second,
		Round: func(w *World) { w.rot(rotOf(how, string(kind)), kind, damage) },
	}
}

// rot damages a file of a node that was stopped, and starts it. What it has not noticed may show after a kill -9, for
// then it reads everything. A node that does not come up is replaced, as the manual says.
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

// guardRows let readers come by damage. The broker does not notice it: after the next kill -9 its copy lacks the rest
// of the file, and calls itself healthy.
var guardRows = []Row{
	{
		Name: "flip-in-backlog", Expect: "the damage is found before its node takes a partition; nothing is skipped",
		CI: true, Load: Steady,
		Spec: kept, Stall: 60 * time.Second, Gap: 30 * time.Second,
		Round: func(w *World) {
			n := w.rotInBacklog()
			w.revive()
			w.mended(n)
		},
	},
	{
		Name: "flip-replayed", Expect: "the damage is found before its node takes a partition; everything is replayed",
		CI: true, Load: Steady,
		Spec: kept, Stall: 60 * time.Second, Gap: 30 * time.Second,
		Round: (*World).replayRot,
	},
}

// kept is a topic whose messages stay when they are handled: else a purge may take the damage away.
func kept(_ *World, s *testcluster.Spec) { s.Topics[0].Extra = `retain = "1h"` }

// rotInBacklog pauses the group, lets a backlog grow, damages a node's copy of it, kills that node when it has loaded
// it, and resumes.
func (w *World) rotInBacklog() *testcluster.Node {
	w.T.Helper()
	w.order("pause", Group, "--yes", "--reason", "a backlog is wanted")
	w.Flows(1500)
	n := w.damageAndKill(rotBehind)
	w.order("resume", Group, "--yes")
	w.Flows(300)
	return n
}

// damageAndKill flips a bit of a payload in the middle of a node's copy of the topic. The node's next clean start does
// not show it; the one after a kill -9 does.
func (w *World) damageAndKill(kind Kind) *testcluster.Node {
	w.T.Helper()
	n := w.Pick()
	n.Term()
	n.FlipPayload(Topic)
	n.Start()
	w.WaitReady(startLimit)
	w.Flows(200)
	e := n.Kill()
	w.Did(kind, e, "a bit of a payload flipped, then kill -9")
	n.Start()
	w.WaitReady(startLimit)
	return n
}

// replayRot damages what is handled already, and has all of it handled again.
func (w *World) replayRot() {
	w.T.Helper()
	w.Flows(1500)
	n := w.damageAndKill(rotReplayed)
	w.Settle()
	sought := monotonic.Now()
	w.Sought()
	w.order("seek", Group, "--to", "earliest", "--yes")
	w.must(w.handled(sought))
	w.mended(n)
}

// mended wants the node to have found and fetched anew its copy.
func (w *World) mended(n *testcluster.Node) {
	w.T.Helper()
	if !strings.Contains(n.Log(), "replica was fetched again and is whole") {
		w.T.Errorf("the log of %s does not tell that it has mended its copy", n.Name)
	}
}

// order runs a command of the command line.
func (w *World) order(args ...string) {
	w.T.Helper()
	_, err := w.CLI(args...)
	w.must(err)
}

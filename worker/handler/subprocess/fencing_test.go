package subprocess

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"leasehold/worker/handler"
	"leasehold/worker/workertest"
)

// TestFencingExampleAppliesOnceAndRefusesOlderOwners plays two owners of one partition against one store: the later one
// has begun when the earlier one's last call arrives.
func TestFencingExampleAppliesOnceAndRefusesOlderOwners(t *testing.T) {
	db := filepath.Join(t.TempDir(), "totals.db")
	early, late := fencingOwner(t, db, 4), fencingOwner(t, db, 5)
	for seq := uint64(1); seq <= 3; seq++ {
		workertest.WantStatus(t, early(seq), handler.OK, "")
	}
	workertest.WantStatus(t, late(3), handler.OK, "") // repeated after the takeover
	workertest.WantStatus(t, late(4), handler.OK, "")
	workertest.WantStatus(t, early(5), handler.Unavailable, "epoch 4 is over")
	workertest.WantStatus(t, late(5), handler.OK, "")

	if got := fencingTotals(t, db); got != "[('c-17', 5, 15)]" {
		t.Errorf("the store holds %s, want 5 messages of 3 bytes", got)
	}
}

// TestFencingExampleAppliesReleasedMessages plays a key that was parked while its partition went on, and is released.
func TestFencingExampleAppliesReleasedMessages(t *testing.T) {
	db := filepath.Join(t.TempDir(), "totals.db")
	s := startExample(t, nil, map[string]any{"db": db}, workertest.Need(t, "python3"), "../../../examples/fencing.py")
	apply := func(key string, seq uint64, released bool) {
		m := workertest.Message(1, seq, "abc")
		m.Key, m.Released = key, released
		workertest.WantStatus(t, s.handle(t, m), handler.OK, "")
	}
	apply("parked", 1, false)
	apply("other", 4, false)
	for range 2 { // The second time is a repeat.
		apply("parked", 2, true)
		apply("parked", 3, true)
	}
	apply("parked", 5, false)
	if got := fencingTotals(t, db); got != "[('other', 1, 3), ('parked', 4, 12)]" {
		t.Errorf("the store holds %s", got)
	}
}

func fencingTotals(t *testing.T, db string) string {
	t.Helper()
	const program = `import sqlite3, sys
print(sqlite3.connect(sys.argv[1]).execute("SELECT key, messages, bytes FROM totals ORDER BY key").fetchall())`
	out, err := exec.Command("python3", "-c", program, db).CombinedOutput()
	if err != nil {
		t.Fatalf("read the store: %v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// fencingOwner starts the example as one owner of partition 1 and returns what handles a message under its epoch.
func fencingOwner(t *testing.T, db string, epoch uint64) func(seq uint64) handler.Result {
	t.Helper()
	s := startExample(t, nil, map[string]any{"db": db}, workertest.Need(t, "python3"), "../../../examples/fencing.py")
	if err := s.Assign(t.Context(), handler.Assignment{Partition: 1, Epoch: epoch, NextSeq: 1}); err != nil {
		t.Fatal(err)
	}
	return func(seq uint64) handler.Result {
		m := workertest.Message(1, seq, "abc")
		m.Epoch = epoch
		return s.handle(t, m)
	}
}

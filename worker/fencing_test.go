package worker

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestFencingExampleAppliesOnceAndRefusesOlderOwners plays two owners of one partition against one store: the later one
// has begun when the earlier one's last call arrives.
func TestFencingExampleAppliesOnceAndRefusesOlderOwners(t *testing.T) {
	db := filepath.Join(t.TempDir(), "totals.db")
	early, late := fencingOwner(t, db, 4), fencingOwner(t, db, 5)
	for seq := uint64(1); seq <= 3; seq++ {
		wantStatus(t, early(seq), OK, "")
	}
	wantStatus(t, late(3), OK, "") // repeated after the takeover
	wantStatus(t, late(4), OK, "")
	wantStatus(t, early(5), Unavailable, "epoch 4 is over")
	wantStatus(t, late(5), OK, "")

	out, err := exec.Command("python3", "-c", `import sqlite3, sys
print(sqlite3.connect(sys.argv[1]).execute("SELECT messages, bytes FROM totals").fetchall())`, db).CombinedOutput()
	if err != nil {
		t.Fatalf("read the store: %v: %s", err, out)
	}
	if got := strings.TrimSpace(string(out)); got != "[(5, 15)]" {
		t.Errorf("the store holds %s, want 5 messages of 3 bytes", got)
	}
}

// fencingOwner starts the example as one owner of partition 1 and returns what handles a message under its epoch.
func fencingOwner(t *testing.T, db string, epoch uint64) func(seq uint64) Result {
	t.Helper()
	s := startExample(t, nil, map[string]any{"db": db}, need(t, "python3"), "../examples/fencing.py")
	if err := s.Assign(t.Context(), Assignment{Partition: 1, Epoch: epoch, NextSeq: 1}); err != nil {
		t.Fatal(err)
	}
	return func(seq uint64) Result {
		m := testMessage(1, seq, "abc")
		m.Epoch = epoch
		return s.handle(t, m)
	}
}

package disk

import (
	"bytes"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"leasehold/internal/harness/testcluster"
)

// noKind are the files of a node whose bytes mean nothing.
var noKind = []string{"ballast", "fsync.probe", "handlers.lock", "lock"}

// A broker with another layout makes this fail, rather than damage nothing.
func TestEveryFileOfANodeIsOfAKind(t *testing.T) {
	c := testcluster.New(t, testcluster.Spec{Topics: []testcluster.Topic{{Name: "orders", Partitions: 4,
		Extra: `retain = "1h"`}}})
	c.StartAll(2 * time.Minute)
	for _, n := range c.Nodes {
		n.Term()
	}
	dir := c.Nodes[0].DataDir()
	found, err := Corruptible(dir)
	must(t, err)
	var known []string
	for kind, files := range found {
		if !slices.Contains(Kinds(), kind) {
			t.Errorf("Kinds lacks %q", kind)
		}
		known = append(known, files...)
	}
	err = filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		must(t, err)
		info, err := e.Info()
		must(t, err)
		if e.Type().IsRegular() && info.Size() > 0 && !slices.Contains(known, path) && !slices.Contains(noKind, e.Name()) {
			t.Errorf("%s is of no kind", path)
		}
		return nil
	})
	must(t, err)
	for _, kind := range Kinds() {
		if len(found[kind]) == 0 && kind != ConsumerState && kind != ConsumerMeta { // a node has no consumers of its own
			t.Errorf("no %s among %s", kind, strings.Join(known, "\n"))
		}
	}
}

func TestFlipTurnsOneBitWhereTheSeedSays(t *testing.T) {
	path, zeros := filepath.Join(t.TempDir(), "f"), make([]byte, 1000)
	flipped := func(seed uint64) []byte {
		must(t, os.WriteFile(path, zeros, 0o600))
		did, err := Flip(path, seed)
		if err != nil || !strings.Contains(did, path) {
			t.Errorf("%q, %v", did, err)
		}
		text, err := os.ReadFile(path)
		must(t, err)
		return text
	}
	first, ones := flipped(1), 0
	for _, b := range first {
		ones += bits.OnesCount8(b)
	}
	if ones != 1 || len(first) != len(zeros) {
		t.Errorf("%d bits of %d bytes", ones, len(first))
	}
	if !bytes.Equal(first, flipped(1)) || bytes.Equal(first, flipped(2)) {
		t.Error("the seed does not decide")
	}
}

func TestTruncateCutsWhereTheSeedSays(t *testing.T) {
	path, text := filepath.Join(t.TempDir(), "f"), bytes.Repeat([]byte("abc"), 300)
	left := func(seed uint64) int {
		must(t, os.WriteFile(path, text, 0o600))
		_, err := Truncate(path, seed)
		must(t, err)
		got, err := os.ReadFile(path)
		if err != nil || !bytes.HasPrefix(text, got) || len(got) >= len(text) {
			t.Errorf("%d of %d bytes, %v", len(got), len(text), err)
		}
		return len(got)
	}
	if a := left(1); a != left(1) || a == left(2) {
		t.Error("the seed does not decide")
	}
	must(t, os.WriteFile(path, nil, 0o600))
	if _, err := Truncate(path, 1); err == nil {
		t.Error("an empty file was truncated")
	}
	if _, err := Flip(path, 1); err == nil {
		t.Error("a bit of an empty file was flipped")
	}
}

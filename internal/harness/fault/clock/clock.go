// Package clock makes binaries whose clocks a test can put wrong while they
// run; internal/skewclock says how.
package clock

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	"leasehold/internal/harness/overlay"
)

// edits are those of the toolchain's time.go: in time.Now, where both clocks
// come out of the runtime, the wall clock is moved.
var edits = []overlay.Edit{
	{Old: "import (\n\t\"errors\"\n\t\"math/bits\"\n",
		New: "import (\n\t\"errors\"\n\t\"math/bits\"\n\t\"sync/atomic\"\n"},
	{Old: "\tsec, nsec, mono := runtimeNow()\n",
		New: "\tsec, nsec, mono := runtimeNow()\n\tsec, nsec = skewclock(sec, nsec)\n"},
	{Old: "func unixTime(", New: `// skewclockWall is how far the wall clock is ahead, in nanoseconds.
//
//go:linkname skewclockWall
var skewclockWall atomic.Int64

func skewclock(sec int64, nsec int32) (int64, int32) {
	total := int64(nsec) + skewclockWall.Load()
	sec += total / 1e9
	rest := total % 1e9
	if rest < 0 {
		sec, rest = sec-1, rest+1e9
	}
	return sec, int32(rest)
}

func unixTime(`},
}

// Overlay writes into the directory what the toolchain needs for such a
// binary, from its own sources, and returns the arguments for go build. It
// fails with a toolchain whose sources read otherwise.
func Overlay(dir string) ([]string, error) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, fmt.Errorf("ask go for its root: %w", err)
	}
	file := filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
	var placed []overlay.Edit
	for _, e := range edits {
		placed = append(placed, overlay.Edit{File: file, Old: e.Old, New: e.New})
	}
	changed, err := overlay.Write(dir, placed)
	if err != nil {
		return nil, err
	}
	return []string{"-overlay", changed, "-tags", "skewclock"}, nil
}

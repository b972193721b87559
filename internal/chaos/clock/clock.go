// Package clock makes binaries whose clocks a test can put wrong while they
// run; internal/skewclock says how.
package clock

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// added is a further file of package time.
const added = `package time

import (
	"sync/atomic"
	_ "unsafe" // for go:linkname
)

// skewclockWall is how far the wall clock is ahead, in nanoseconds.
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
`

// reading is the line of time.Now after which the wall clock is moved. Only
// there both clocks come out of the runtime, and only once.
const reading = "\tsec, nsec, mono := runtimeNow()\n"

// Overlay writes into the directory what the toolchain needs for such a
// binary, from its own sources, and returns the arguments for go build.
func Overlay(dir string) ([]string, error) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, fmt.Errorf("ask go for its root: %w", err)
	}
	src := filepath.Join(strings.TrimSpace(string(root)), "src", "time")
	now, err := os.ReadFile(filepath.Join(src, "time.go"))
	if err != nil {
		return nil, fmt.Errorf("read the toolchain's package time: %w", err)
	}
	if bytes.Count(now, []byte(reading)) != 1 {
		return nil, fmt.Errorf("time.Now of this toolchain reads the clock in another way: no single line %q", reading)
	}
	now = bytes.Replace(now, []byte(reading), []byte(reading+"\tsec, nsec = skewclock(sec, nsec)\n"), 1)
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {
		filepath.Join(src, "time.go"):      filepath.Join(dir, "time.go"),
		filepath.Join(src, "skewclock.go"): filepath.Join(dir, "skewclock.go"),
	}})
	if err != nil {
		return nil, err
	}
	for name, text := range map[string][]byte{"time.go": now, "skewclock.go": []byte(added), "overlay.json": overlay} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return nil, fmt.Errorf("write the overlay: %w", err)
		}
	}
	return []string{"-overlay", filepath.Join(dir, "overlay.json"), "-tags", "skewclock"}, nil
}

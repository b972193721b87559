// package testcluster runs a real cluster for tests: N agents as processes on
// free loopback ports, with faults (kill, stop, pause), a handler that logs
// its calls, a publisher that logs its outcomes, and the history of it all for
// internal/harness/history to judge.
//
// A package that uses it has
//
//	func TestMain(m *testing.M) { testcluster.Main(m) }
//
// which builds the binaries at most once and removes them at the end.
package testcluster

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"leasehold/internal/harness/fault/clock"
	"leasehold/internal/harness/overlay"
)

// binaries are the programs under test, built at first use.
var binaries struct {
	sync.Mutex
	dir   string // set by Main
	built map[string]error
}

// Main runs the package's tests and removes what was built for them.
func Main(m *testing.M) { os.Exit(Run(m)) }

// Run is Main for who wants to exit by itself with the code.
func Run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "leasehold-bin-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "testcluster:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	binaries.dir, binaries.built = dir, make(map[string]error)
	return m.Run()
}

// LeaseholdBinary is the path of the leasehold binary.
func LeaseholdBinary(t testing.TB) string { return Build(t, "leasehold", "leasehold") }

// HandlerBinary is the path of the handlers of tests, see package testhandler/program.
func HandlerBinary(t testing.TB) string {
	return Build(t, "handler", "leasehold/internal/harness/testhandler/program")
}

// ExecHandlerBinary is the path of a small exec handler that does nothing.
func ExecHandlerBinary(t testing.TB) string {
	return Build(t, "exechandler", "leasehold/internal/harness/testhandler/exec")
}

// FailingBinary is the path of a leasehold binary that can be made to kill itself at
// a place of internal/failpoint.
func FailingBinary(t testing.TB) string {
	return Build(t, "leasehold-failpoints", "leasehold", "-tags", "failpoints")
}

// Edited is the path of a leasehold binary with these edits of its source, of
// which no two sets have one name.
func Edited(t testing.TB, name string, edits []overlay.Edit) string {
	t.Helper()
	changed, err := overlay.Write(t.TempDir(), edits)
	if err != nil {
		t.Fatal(err)
	}
	return Build(t, "leasehold-"+name, "leasehold", "-overlay", changed)
}

// AttackerBinary is the path of the program that makes an assault.
func AttackerBinary(t testing.TB) string {
	return Build(t, "attacker", "leasehold/internal/harness/fault/hostile/attacker")
}

// SkewedBinary is the path of a leasehold binary whose clocks can be put wrong while
// it runs.
func SkewedBinary(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(binaries.dir, "skewclock")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	args, err := clock.Overlay(dir)
	if err != nil {
		t.Fatal(err)
	}
	return Build(t, "leasehold-skewclock", "leasehold", args...)
}

// Build builds a package, at most once for each name, and returns the path of its binary.
func Build(t testing.TB, name, pkg string, args ...string) string {
	t.Helper()
	binaries.Lock()
	defer binaries.Unlock()
	if binaries.dir == "" {
		t.Fatal("this package's TestMain must call testcluster.Main")
	}
	path := filepath.Join(binaries.dir, name)
	err, done := binaries.built[name]
	if !done {
		err = goBuild(path, pkg, args...)
		binaries.built[name] = err
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// goBuild builds a package of this module, wherever in it the test runs.
func goBuild(path, pkg string, args ...string) error {
	args = append(append([]string{"build", "-o", path}, args...), pkg)
	out, err := exec.Command("go", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, strings.TrimSpace(string(out)))
	}
	return nil
}

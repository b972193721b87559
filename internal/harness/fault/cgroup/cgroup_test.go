package cgroup

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"leasehold/internal/harness/fault/process"
)

// group makes a group, or skips the test where the machine has none.
func group(t *testing.T, name string) *Group {
	t.Helper()
	g, err := New(t, name)
	can(t, err)
	return g
}

// can skips the test for what a machine does not have, and fails it for any
// other error.
func can(t *testing.T, err error) {
	t.Helper()
	switch {
	case errors.Is(err, ErrUnavailable):
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	}
}

// shell runs a script in a process group of its own; the test's end kills it.
// The channel has the lines that it prints.
func shell(t *testing.T, script string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command("bash", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // it may be gone
		_ = cmd.Wait()
	})
	return cmd, bufio.NewScanner(out)
}

func line(t *testing.T, out *bufio.Scanner) string {
	t.Helper()
	if !out.Scan() {
		t.Fatalf("the script printed nothing more: %v", out.Err())
	}
	return out.Text()
}

// used is the CPU time of a process, in clock ticks.
func used(t *testing.T, pid int) int {
	t.Helper()
	fields := process.Stat(pid)
	if len(fields) < 13 {
		t.Fatalf("process %d has ended", pid)
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return user + system
}

func wait(d time.Duration) { <-time.NewTimer(d).C }

// A child that was there before, and one that comes later, stand still with
// their parent, and go on with it.
func TestFreezeStopsTheWholeTree(t *testing.T) {
	g := group(t, "freeze")
	spin := `while :; do :; done & echo $!; `
	cmd, out := shell(t, spin+`sleep 0.2; `+spin+` wait`)
	child, _ := strconv.Atoi(line(t, out))
	if err := errors.Join(g.Add(cmd.Process.Pid), g.Freeze()); err != nil {
		t.Fatal(err)
	}
	e, err := g.Effects()
	before := used(t, child)
	wait(300 * time.Millisecond)
	if after := used(t, child); err != nil || !e.Frozen || after != before {
		t.Errorf("%+v, %v: a frozen child ran for %d ticks", e, err, after-before)
	}
	if err := g.Thaw(); err != nil {
		t.Fatal(err)
	}
	later, _ := strconv.Atoi(line(t, out))
	wait(300 * time.Millisecond)
	if e, err := g.Effects(); err != nil || e.Frozen || used(t, child) == before {
		t.Errorf("%+v, %v: a thawed child does not run", e, err)
	}
	if pids, err := g.PIDs(); err != nil || !slices.Contains(pids, child) || !slices.Contains(pids, later) {
		t.Errorf("the group has %v, not %d and %d: %v", pids, child, later, err)
	}
}

func TestKillLeavesNobody(t *testing.T) {
	g := group(t, "kill")
	cmd, out := shell(t, `sleep 600 & (setsid sleep 600 & echo up; wait) & wait`)
	line(t, out)
	if err := g.Add(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	before, _ := g.PIDs()
	if err := g.Freeze(); err != nil { // which must not save them
		t.Fatal(err)
	}
	// Its parent is this process, and a zombie stays in its group.
	go cmd.Process.Wait()
	if err := g.Kill(); err != nil {
		t.Fatal(err)
	}
	if after, err := g.PIDs(); err != nil || len(before) < 3 || len(after) != 0 {
		t.Errorf("killed %v, left %v, %v", before, after, err)
	}
}

func TestCPUQuotaThrottles(t *testing.T) {
	g := group(t, "cpu")
	cmd, _ := shell(t, `while :; do :; done`)
	if err := g.Add(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	can(t, g.CPU(0.1))
	wait(time.Second)
	e, err := g.Effects()
	if err != nil || e.Throttled < 3 || e.ThrottledFor < 200*time.Millisecond {
		t.Errorf("a second of a tenth of a core: %+v, %v", e, err)
	}
	before := used(t, cmd.Process.Pid)
	if err := g.CPU(0); err != nil {
		t.Fatal(err)
	}
	wait(time.Second)
	if ticks := used(t, cmd.Process.Pid) - before; ticks < 15 {
		t.Errorf("without a quota it ran for %d hundredths of a second in a second", ticks)
	}
}

// Two processes that want more than one core has: who yields gets next to nothing of it.
func TestYieldLeavesTheProcessorToOthers(t *testing.T) {
	g := group(t, "yield")
	can(t, g.Yield())
	fair := group(t, "fair")
	can(t, fair.CPU(0))
	spin := `while :; do :; done`
	pids := make([]int, 2)
	for i, g := range []*Group{g, fair} {
		cmd, _ := shell(t, "taskset -p -c 0 $$ > /dev/null; "+spin)
		pids[i] = cmd.Process.Pid
		if err := g.Add(pids[i]); err != nil {
			t.Fatal(err)
		}
	}
	for until := time.Now().Add(30 * time.Second); used(t, pids[1]) < 50 && time.Now().Before(until); {
		wait(100 * time.Millisecond)
	}
	if yielding, other := used(t, pids[0]), used(t, pids[1]); other < 50 || yielding > other/2 {
		t.Errorf("the one that yields ran for %d ticks, the other for %d", yielding, other)
	}
}

func TestMemoryLimitKills(t *testing.T) {
	g := group(t, "memory")
	can(t, g.Memory(32<<20))
	cmd, _ := shell(t, `read -t 0.3 <> <(:); x=$(head -c 200000000 /dev/zero | tr '\0' x); echo ${#x}`)
	if err := g.Add(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // how it ends depends on whom the kernel takes
	if e, err := g.Effects(); err != nil || e.OOMKills == 0 || g.counts("memory", "memory.max_usage_in_bytes") &&
		e.MemoryPeak < 16<<20 {
		t.Errorf("200 MB in 32 MiB: %+v, %v", e, err)
	}
}

func TestNothingIsLeft(t *testing.T) {
	var dirs []string
	var pid int
	t.Run("run", func(t *testing.T) {
		g := group(t, "left")
		cmd, _ := shell(t, `sleep 600 & wait`)
		pid = cmd.Process.Pid
		if err := errors.Join(g.Add(pid), g.Freeze()); err != nil {
			t.Fatal(err)
		}
		for _, limit := range []error{g.CPU(0.5), g.Memory(1 << 30)} {
			if limit != nil && !errors.Is(limit, ErrUnavailable) {
				t.Error(limit)
			}
		}
		for _, d := range g.dirs {
			dirs = append(dirs, d.path)
		}
	})
	for _, dir := range dirs {
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", dir, err)
		}
	}
	if err := syscall.Kill(pid, 0); pid != 0 && !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d: %v", pid, err)
	}
}

// In a mount namespace of its own, whose /sys is a new one without any
// hierarchy.
func TestInAMountNamespaceWithANewSys(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounts need root")
	}
	runtime.LockOSThread() // for good: the thread ends with its namespace
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		t.Skip(err)
	}
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		t.Fatal(err)
	}
	_ = unix.Unmount("/sys", unix.MNT_DETACH)
	if err := unix.Mount("new", "/sys", "sysfs", 0, ""); err != nil {
		t.Skip(err)
	}
	if found, _ := filepath.Glob("/sys/fs/cgroup/*"); len(found) != 0 {
		t.Skipf("/sys still shows %v", found)
	}
	g := group(t, "namespace")
	cmd, _ := shell(t, `sleep 600 & wait`)
	if err := errors.Join(g.Add(cmd.Process.Pid), g.Freeze()); err != nil {
		t.Fatal(err)
	}
	if e, err := g.Effects(); err != nil || !e.Frozen {
		t.Errorf("%+v, %v", e, err)
	}
}

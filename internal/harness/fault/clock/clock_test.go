package clock

import (
	"bufio"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"leasehold/internal/skewclock"
)

// clocks is one look at a process's clocks, with ours at nearly the same time.
type clocks struct{ wall, mono, boot time.Duration }

func ours(t *testing.T) (c clocks) {
	t.Helper()
	for id, to := range map[int32]*time.Duration{
		unix.CLOCK_REALTIME: &c.wall, unix.CLOCK_MONOTONIC: &c.mono, unix.CLOCK_BOOTTIME: &c.boot,
	} {
		var ts unix.Timespec
		if err := unix.ClockGettime(id, &ts); err != nil {
			t.Fatal(err)
		}
		*to = time.Duration(ts.Nano())
	}
	return c
}

// show runs the program that prints its clocks; ahead is how far they are
// ahead of ours at its next line. Its monotonic clock counts from its start.
func show(t *testing.T, file string) (ahead func() clocks) {
	t.Helper()
	dir := t.TempDir()
	args, err := Overlay(dir)
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "show")
	args = append(append([]string{"build", "-o", bin}, args...), "leasehold/internal/harness/fault/clock/show")
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		t.Fatalf("build with the overlay: %v\n%s", err, out)
	}
	cmd := exec.Command(bin)
	cmd.Env = append(cmd.Environ(), skewclock.Variable+"="+file)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	lines := bufio.NewScanner(out)
	return func() clocks {
		t.Helper()
		var its clocks
		lines.Scan()
		if _, err := fmt.Sscan(lines.Text(), &its.wall, &its.mono, &its.boot); err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		now := ours(t)
		return clocks{its.wall - now.wall, its.mono - now.mono, its.boot - now.boot}
	}
}

// near allows for the way from the program to us, on a busy machine.
func near(a, b time.Duration) bool { return (a - b).Abs() < time.Second/2 }

func TestClocksOfOneProcessGoWrong(t *testing.T) {
	file := filepath.Join(t.TempDir(), "skew")
	set := func(s skewclock.Skew) {
		t.Helper()
		if err := s.Save(file); err != nil {
			t.Fatal(err)
		}
	}
	set(skewclock.Skew{Wall: -time.Hour})
	ahead := show(t, file)
	first := ahead()
	if !near(first.wall, -time.Hour) || !near(first.boot, 0) {
		t.Fatalf("from the start, an hour behind: %+v", first)
	}
	for _, s := range []skewclock.Skew{
		{Wall: time.Hour}, {Wall: -30*time.Second - time.Nanosecond}, {Boot: time.Minute},
		{Wall: time.Hour, Boot: 90 * time.Second}, {},
	} {
		set(s)
		var now clocks
		for range 20 { // lines: two seconds
			if now = ahead(); near(now.wall, s.Wall) && near(now.boot, s.Boot) {
				break
			}
		}
		if !near(now.wall, s.Wall) || !near(now.boot, s.Boot) || !near(now.mono, first.mono) {
			t.Errorf("for %+v the clocks are ahead by %+v, the monotonic one by %v at first", s, now, first.mono)
		}
	}
	set(skewclock.Skew{Drift: 1})
	for range 15 {
		first = ahead()
	}
	for range 10 {
		ahead()
	}
	if last := ahead(); !near(last.wall-first.wall, 1100*time.Millisecond) || !near(last.mono, first.mono) {
		t.Errorf("a clock at double speed gained %v in 1.1 s", last.wall-first.wall)
	}
}

// In a build without the tag there is no way to a wrong clock.
func TestOrdinaryBuildsHaveRightClocks(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", "{{.GoFiles}} {{.IgnoredGoFiles}}",
		"leasehold/internal/skewclock").Output()
	if err != nil || string(out) != "[off.go skew.go] [on.go]\n" {
		t.Errorf("built is %s, %v", out, err)
	}
	if skewclock.Boot() != 0 {
		t.Error("the boot-time clock is wrong")
	}
}

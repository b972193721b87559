package disk

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func seconds(do func()) float64 {
	start := time.Now()
	do()
	return time.Since(start).Seconds()
}

// syncForever is the process that faults happen to: it appends to dir/fsync
// and syncs it, and writes through dir/through, in turns, and prints what came
// of each and how long it took. It makes its calls in many threads.
func syncForever(dir string) {
	f, err := os.Create(filepath.Join(dir, "fsync"))
	if err != nil {
		panic(err)
	}
	through, err := os.OpenFile(filepath.Join(dir, "through"), os.O_CREATE|os.O_WRONLY|unix.O_DSYNC, 0o600)
	if err != nil {
		panic(err)
	}
	say := func(what string, do func() error) {
		start := time.Now()
		result := "ok"
		if err := do(); err != nil {
			result = "failed"
		}
		fmt.Println(what, result, time.Since(start).Seconds())
	}
	for {
		if _, err := f.WriteString("x"); err != nil {
			panic(err)
		}
		say("fsync", f.Sync)
		say("write", func() error { _, err := through.WriteString("x"); return err })
		time.Sleep(time.Millisecond)
	}
}

// syncer is a running syncForever.
type syncer struct {
	t      *testing.T
	cmd    *exec.Cmd
	out    *bufio.Scanner
	synced int // reports of fsync so far
	failed int // those that failed
}

func startSyncer(t *testing.T, dir string) *syncer {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), syncing+"="+dir)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	s := &syncer{t: t, cmd: cmd, out: bufio.NewScanner(out)}
	t.Cleanup(s.kill)
	s.next("fsync")
	return s
}

func (s *syncer) kill() {
	s.cmd.Process.Kill()
	s.cmd.Wait()
}

// next is the result of the next call of the kind.
func (s *syncer) next(what string) (result string, took float64) {
	s.t.Helper()
	for s.out.Scan() {
		var kind string
		if _, err := fmt.Sscan(s.out.Text(), &kind, &result, &took); err != nil {
			s.t.Fatalf("%q: %v", s.out.Text(), err)
		}
		if kind == "fsync" {
			s.synced++
			if result != "ok" {
				s.failed++
			}
		}
		if kind == what {
			return result, took
		}
	}
	s.t.Fatalf("the syncing process has ended: %v", s.out.Err())
	return "", 0
}

// results lets calls pass that were made before now, then counts the results of n.
func (s *syncer) results(what string, n int) map[string]int {
	s.t.Helper()
	for start := time.Now(); time.Since(start) < 200*time.Millisecond; {
		s.next(what)
	}
	counts := make(map[string]int)
	for range n {
		result, _ := s.next(what)
		counts[result]++
	}
	return counts
}

// untilSlow passes over the calls that were made before a delay.
func (s *syncer) untilSlow(what string) {
	s.t.Helper()
	for range 10_000 {
		if _, took := s.next(what); took >= 0.3 {
			return
		}
	}
	s.t.Fatalf("no %s is slow", what)
}

func (s *syncer) inject(f Fault) *Injection {
	s.t.Helper()
	i, err := InjectFsync(s.cmd.Process.Pid, f)
	orSkip(s.t, err)
	s.t.Cleanup(func() { must(s.t, i.Stop()) })
	return i
}

// stop ends the fault and gives its hits, after which all is well again.
func (s *syncer) stop(i *Injection) int {
	s.t.Helper()
	must(s.t, i.Stop())
	if got := s.results("fsync", 20); got["ok"] != 20 {
		s.t.Errorf("after the end of the fault: %v", got)
	}
	if err := syscall.Kill(i.cmd.Process.Pid, 0); err == nil {
		s.t.Error("strace is still there")
	}
	hits, err := i.Hits()
	must(s.t, err)
	return hits
}

func TestFsyncFailsUntilTheFaultEnds(t *testing.T) {
	s := startSyncer(t, t.TempDir())
	i := s.inject(Fault{Error: "EIO"})
	if got := s.results("fsync", 20); got["failed"] != 20 {
		t.Errorf("fsync: %v", got)
	}
	if got := s.results("write", 20); got["ok"] != 20 {
		t.Errorf("writes, which were not to fail: %v", got)
	}
	if hits := s.stop(i); hits < 20 {
		t.Errorf("%d hits", hits)
	}
}

func TestFsyncFailsOnce(t *testing.T) {
	s := startSyncer(t, t.TempDir())
	i := s.inject(Fault{Error: "EIO", Once: true})
	failed := 0
	for range 300 {
		if result, _ := s.next("fsync"); result == "failed" {
			failed++
		}
	}
	// The process makes one call after the other, but the next may come before strace is gone.
	if failed == 0 || failed > 20 {
		t.Errorf("%d of 300 failed", failed)
	}
	if hits := s.stop(i); hits != failed {
		t.Errorf("%d hits, %d failures", hits, failed)
	}
}

func TestSlowFsync(t *testing.T) {
	s := startSyncer(t, t.TempDir())
	i := s.inject(Fault{Delay: 300 * time.Millisecond})
	s.untilSlow("fsync")
	for range 3 {
		if result, took := s.next("fsync"); result != "ok" || took < 0.3 {
			t.Errorf("%s after %.3f s", result, took)
		}
	}
	if hits := s.stop(i); hits < 3 {
		t.Errorf("%d hits", hits)
	}
}

// What an fsync lied about is gone after a power loss, and what was written
// through is not.
func TestLyingFsyncLosesWhatItSaidWasSafe(t *testing.T) {
	d := newDisk(t)
	s := startSyncer(t, d.Dir())
	s.results("write", 20)
	i := s.inject(Fault{Lie: true})
	if got := s.results("fsync", 100); got["ok"] != 100 {
		t.Errorf("fsync: %v", got)
	}
	must(t, syscall.Kill(s.cmd.Process.Pid, syscall.SIGSTOP))
	must(t, d.PowerOff())
	written, err := s.lines()
	must(t, err)
	must(t, i.Stop())
	must(t, d.PowerOn())
	if kept := strings.Count(contents(d.path("fsync")), "x"); kept > written-100 {
		t.Errorf("%d of %d lied-about bytes were kept", kept, written)
	}
	if kept := strings.Count(contents(d.path("through")), "x"); kept < written-1 {
		t.Errorf("%d of %d bytes written through were kept", kept, written)
	}
	if hits, err := i.Hits(); err != nil || hits < 100 {
		t.Errorf("%d hits: %v", hits, err)
	}
}

// lines ends the process and counts the syncs it has reported in all.
func (s *syncer) lines() (int, error) {
	s.cmd.Process.Kill()
	n := s.synced
	for s.out.Scan() {
		if strings.HasPrefix(s.out.Text(), "fsync") {
			n++
		}
	}
	return n, s.out.Err()
}

// A fault may end at any moment, but no call may come back with an error that
// was not asked for.
func TestEndOfALieIsNoFailure(t *testing.T) {
	s := startSyncer(t, t.TempDir())
	for range 20 {
		i := s.inject(Fault{Lie: true})
		s.results("fsync", 1)
		must(t, i.Stop())
	}
	s.results("fsync", 1)
	if s.failed > 0 {
		t.Errorf("%d of %d syncs failed", s.failed, s.synced)
	}
}

func TestPausedProcessStaysPaused(t *testing.T) {
	s := startSyncer(t, t.TempDir())
	i := s.inject(Fault{Lie: true})
	s.results("fsync", 1)
	must(t, syscall.Kill(s.cmd.Process.Pid, syscall.SIGSTOP))
	must(t, within(5*time.Second, func() error {
		if running, all := i.threads(); running > 0 || all == 0 {
			return fmt.Errorf("%d of %d threads run", running, all)
		}
		return nil
	}))
	must(t, i.Stop())
	must(t, s.paused())
	must(t, syscall.Kill(s.cmd.Process.Pid, syscall.SIGCONT))
	s.results("fsync", 1)

	// After a pause that has ended it goes on.
	i = s.inject(Fault{Lie: true})
	must(t, syscall.Kill(s.cmd.Process.Pid, syscall.SIGSTOP))
	must(t, syscall.Kill(s.cmd.Process.Pid, syscall.SIGCONT))
	s.results("fsync", 1)
	must(t, i.Stop())
	s.results("fsync", 1)
}

// paused fails unless the process is stopped, and not by a tracer.
func (s *syncer) paused() error {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err == nil && !strings.Contains(string(status), "\nState:\tT") {
		err = fmt.Errorf("not paused: %s", status)
	}
	return err
}

func TestFaultEndsWithItsProcess(t *testing.T) {
	s := startSyncer(t, t.TempDir())
	i := s.inject(Fault{Error: "EIO"})
	s.results("fsync", 5)
	s.kill()
	must(t, i.Stop())
	if hits, err := i.Hits(); err != nil || hits < 5 {
		t.Errorf("%d hits: %v", hits, err)
	}
}

func TestFaultsThatCannotBe(t *testing.T) {
	for _, f := range []Fault{
		{}, {Error: "EIO", Lie: true}, {Error: "EIO", Delay: 1}, {Error: "NONSENSE"},
	} {
		if i, err := InjectFsync(os.Getpid(), f); err == nil {
			i.Stop()
			t.Errorf("%+v was accepted", f)
		}
	}
	if _, err := InjectFsync(1<<22+1, Fault{Lie: true}); err == nil {
		t.Error("a process that is not there was accepted")
	}
}

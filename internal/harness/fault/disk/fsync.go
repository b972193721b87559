package disk

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Fault is what becomes of a process's calls of fsync and fdatasync. Just one
// of Delay, Error and Lie is set.
type Fault struct {
	// Delay is how long each call takes longer.
	Delay time.Duration
	// Error is the name of what the call fails with, without being made: "EIO".
	Error string
	// Lie makes calls return success without being made. What a process writes
	// through files opened with O_SYNC or O_DSYNC stays honest.
	Lie bool
	// Once ends it after the first call that it happened to. Further calls may
	// come in the few milliseconds that this takes; Hits tells.
	Once bool
}

// calls are those that it happens to.
const calls = "fsync,fdatasync"

const (
	// attachLimit is how long strace may take to hold all threads, and to let
	// go of them.
	attachLimit = 20 * time.Second
	// endingLimit is how long a killed process may take to be gone.
	endingLimit = 10 * time.Second
	// onceTick is how often a fault that happens once looks whether it has.
	onceTick = time.Millisecond
)

// Injection is a fault that is at work on a process. It makes every system
// call of the process slower, also those that it leaves alone. Its methods are
// for one goroutine.
type Injection struct {
	pid    int
	dir    string // of the list of calls
	cmd    *exec.Cmd
	exited chan struct{} // closed when strace is gone
	said   bytes.Buffer  // by strace, read after exited
	quiet  bool          // it has to be ended between calls
	ended  func() error  // ends it, at the first call
	final  *int          // hits, set by Stop
}

// InjectFsync makes a running process's fsyncs slow, fail or lie, in all of
// its threads and in the processes that it starts from now on, until Stop.
// Stop must be called, also where the process has ended meanwhile.
func InjectFsync(pid int, f Fault) (*Injection, error) {
	what, err := f.expression()
	if err != nil {
		return nil, err
	}
	strace, err := program("strace")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "leasehold-strace-")
	if err != nil {
		return nil, fmt.Errorf("inject a fault: %w", err)
	}
	i := &Injection{pid: pid, dir: dir, exited: make(chan struct{}), quiet: f.Delay == 0}
	i.ended = sync.OnceValue(i.end)
	args := []string{"-f", "-qq", "-a", "1", "-s", "0", "-e", "trace=" + calls, "-e", "signal=SIGSTOP,SIGCONT", "-e", what,
		"-o", i.log(), "-p", fmt.Sprint(pid)}
	i.cmd = exec.Command(strace, args...)
	i.cmd.Stderr = &i.said
	if err := i.start(); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	if f.Once {
		go i.endAfterFirst()
	}
	return i, nil
}

// expression is the fault in strace's words.
func (f Fault) expression() (string, error) {
	var does []string
	if f.Delay > 0 {
		does = append(does, fmt.Sprintf("delay_enter=%d", f.Delay.Microseconds()))
	}
	if f.Error != "" {
		does = append(does, "error="+f.Error)
	}
	if f.Lie {
		does = append(does, "retval=0")
	}
	if len(does) != 1 {
		return "", fmt.Errorf("a fault is just one of Delay, Error and Lie: %+v", f)
	}
	return fmt.Sprintf("inject=%s:%s:when=1+", calls, does[0]), nil
}

func (i *Injection) log() string { return filepath.Join(i.dir, "calls") }

// start starts strace and waits until it holds every thread.
func (i *Injection) start() error {
	started := make(chan error, 1)
	go i.run(started)
	if err := <-started; err != nil {
		return fmt.Errorf("start strace: %w", err)
	}
	err := within(attachLimit, func() error {
		select {
		case <-i.exited:
			return nil
		default:
			return tracedBy(i.pid, i.cmd.Process.Pid)
		}
	})
	select {
	case <-i.exited:
		said := i.said.String()
		if strings.Contains(said, "not permitted") {
			return fmt.Errorf("attach to %d: %w: %s", i.pid, ErrUnavailable, said)
		}
		return fmt.Errorf("attach to %d: strace ended: %s", i.pid, said)
	default:
	}
	if err != nil {
		err = errors.Join(fmt.Errorf("attach to %d: %w", i.pid, err), i.ended())
	}
	return err
}

// run keeps the thread that started strace as long as strace lives: the kernel
// ends strace with that thread, and so with this process. By SIGTERM, for
// strace then lets go of the process in an orderly way.
func (i *Injection) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(i.exited)
	i.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	err := i.cmd.Start()
	started <- err
	if err == nil {
		i.cmd.Wait() // how it ended says nothing: it is told to, or the process has ended
	}
}

// endAfterFirst lets go as soon as one call was hit.
func (i *Injection) endAfterFirst() {
	tick := time.NewTicker(onceTick)
	defer tick.Stop()
	for {
		select {
		case <-i.exited:
			return
		case <-tick.C:
			if n, err := i.count(); n > 0 || err != nil {
				i.ended() // Stop has the error
				return
			}
		}
	}
}

// Hits is how many calls the fault has happened to. A call that is being
// delayed counts when it is through.
func (i *Injection) Hits() (int, error) {
	if i.final != nil {
		return *i.final, nil
	}
	return i.count()
}

// count looks for the marks of strace in its list of calls.
func (i *Injection) count() (int, error) {
	calls, err := os.ReadFile(i.log())
	if err != nil {
		return 0, fmt.Errorf("count the calls of %d: %w", i.pid, err)
	}
	return bytes.Count(calls, []byte("(INJECTED)")) + bytes.Count(calls, []byte("(DELAYED)")), nil
}

// Stop ends the fault and waits until the process is on its own again. Hits
// still answers. A process that is paused stays so.
func (i *Injection) Stop() error {
	if i.final != nil {
		return nil
	}
	err := i.ended()
	hits, countErr := i.count()
	i.final = &hits
	return errors.Join(err, countErr, os.RemoveAll(i.dir))
}

// end makes strace go. A call that it had replaced and not yet answered would
// come back as "no such system call", so that the process is paused first.
func (i *Injection) end() error {
	if i.quiet {
		defer i.pause()()
	}
	// Told to go while the process is being killed, strace may wait forever.
	if !ending(i.pid) || !i.exits(endingLimit) {
		i.cmd.Process.Signal(syscall.SIGTERM) // fails only if it is gone
	}
	if i.exits(attachLimit) {
		return within(attachLimit, func() error { return tracedBy(i.pid, 0) })
	}
	i.cmd.Process.Kill()
	<-i.exited
	return fmt.Errorf("strace of %d did not end within %s and was killed", i.pid, attachLimit)
}

// exits tells whether strace ends within the limit.
func (i *Injection) exits(limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-i.exited:
		return true
	case <-timer.C:
		return false
	}
}

// ending tells whether the process has ended or is about to: its signals
// pending are those of proc_pid_status(5), of the thread and of the process.
func ending(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return true
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":\t")
		switch name {
		case "State":
			if strings.HasPrefix(value, "Z") || strings.HasPrefix(value, "X") {
				return true
			}
		case "SigPnd", "ShdPnd":
			if set, err := strconv.ParseUint(value, 16, 64); err == nil && set&(1<<(syscall.SIGKILL-1)) != 0 {
				return true
			}
		}
	}
	return false
}

// tracedBy fails unless every thread of the process is traced by that process;
// 0 is nobody. A process that is gone is fine for 0.
func tracedBy(pid, tracer int) error {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil {
		return err
	}
	if len(files) == 0 && tracer != 0 {
		return fmt.Errorf("no process %d", pid)
	}
	want := fmt.Sprintf("\nTracerPid:\t%d\n", tracer)
	for _, name := range files {
		status, err := os.ReadFile(name)
		if err == nil && !strings.Contains(string(status), want) {
			return fmt.Errorf("%s: not traced by %d", name, tracer)
		}
	}
	return nil
}

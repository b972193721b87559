// Package process runs a user's program in a process group that ends with it, and logs what it writes.
package process

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"leasehold/worker/handler"

	"golang.org/x/sys/unix"
)

// drainTime is how long the pipes of a dead process are still read. What it wrote is there at once; only a process that
// left its group and kept the pipe open makes us wait.
const drainTime = 200 * time.Millisecond

// Process is one run of a user's program. It leads a process group that ends with it, and both end with this node.
type Process struct {
	Cmd    *exec.Cmd
	Pid    int // Also its process group.
	Pipes  pipes
	onExit func()        // Called when it has ended, before what is left of its group is.
	Exited chan struct{} // Closed when the process has ended; nothing of its group runs any more.

	mu     sync.Mutex
	reaped bool // pid may belong to somebody else from now on.
}

// pipes are our ends of a child's standard streams.
type pipes struct{ Stdin, Stdout, Stderr *os.File }

func (p pipes) close() {
	for _, f := range []*os.File{p.Stdin, p.Stdout, p.Stderr} {
		if f != nil {
			f.Close() // Nothing is buffered on our side, and there is nobody left to tell.
		}
	}
}

// Program is a program to start, as a config describes it.
type Program struct {
	Command []string          // The program and its arguments.
	Env     map[string]string // Variables to set.
	PassEnv []string          // Names of the node's own variables to pass on.
}

// validEnv matches the variable names that every shell and C library accepts.
var validEnv = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// Validate reports every fault by its key. Variables that begin with reserved are set by the caller; "" reserves none.
func (p Program) Validate(fault handler.FaultFunc, reserved string) {
	if len(p.Command) == 0 || p.Command[0] == "" {
		fault("command", "must name a program, like [\"python3\", \"/opt/handler.py\"]")
	}
	for _, name := range append(slices.Sorted(maps.Keys(p.Env)), p.PassEnv...) {
		switch {
		case !validEnv.MatchString(name):
			fault("env", "%q is not a valid name of an environment variable", name)
		case reserved != "" && strings.HasPrefix(name, reserved):
			fault("env", "%q is set by Leasehold itself", name)
		}
	}
}

// Cmd returns the command to start a program. Its environment is a clean one, because the node's own may hold secrets
// that a handler must not see. The program inherits lock, which may be nil.
func (p Program) Cmd(lock *os.File) *exec.Cmd {
	cmd := exec.Command(p.Command[0], p.Command[1:]...)
	cmd.Env = p.environment()
	if lock != nil {
		cmd.ExtraFiles = []*os.File{lock}
	}
	return cmd
}

// environment lists a program's variables: a few of the node's own, then the configured ones.
func (p Program) environment() []string {
	vars := []string{}
	for _, name := range append([]string{"PATH", "HOME", "LANG", "TZ"}, p.PassEnv...) {
		if value, ok := os.LookupEnv(name); ok {
			vars = append(vars, name+"="+value)
		}
	}
	for name, value := range p.Env {
		vars = append(vars, name+"="+value)
	}
	slices.Sort(vars[len(vars)-len(p.Env):])
	return vars
}

// Start starts a program. It starts a goroutine that ends with it; Communicate joins it.
func Start(cmd *exec.Cmd, onExit func()) (*Process, error) {
	ours, theirs, err := newPipes()
	if err != nil {
		return nil, fmt.Errorf("make pipes: %w", err)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs.Stdin, theirs.Stdout, theirs.Stderr
	p := &Process{Cmd: cmd, Pipes: ours, onExit: onExit, Exited: make(chan struct{})}
	started := make(chan error)
	go p.live(started)
	err = <-started
	theirs.close()
	if err != nil {
		ours.close()
		return nil, err
	}
	return p, nil
}

// newPipes makes the three pipes: our ends and the child's.
func newPipes() (ours, theirs pipes, err error) {
	for _, p := range []struct{ read, write **os.File }{
		{&theirs.Stdin, &ours.Stdin}, {&ours.Stdout, &theirs.Stdout}, {&ours.Stderr, &theirs.Stderr},
	} {
		if *p.read, *p.write, err = os.Pipe(); err != nil {
			ours.close()
			theirs.close()
			return pipes{}, pipes{}, err
		}
	}
	return ours, theirs, nil
}

// live starts the process and waits for its end. The kernel sends the parent-death signal when the *thread* that forked
// ends, not the process, so this goroutine keeps its thread for the child's whole life: otherwise the runtime could
// retire the thread and kill a healthy child.
func (p *Process) live(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p.Cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.Cmd.Start(); err != nil {
		started <- err
		return
	}
	p.Pid = p.Cmd.Process.Pid
	started <- nil
	awaitExit(p.Pid)
	p.onExit()
	// The process is a zombie: its number still stands for its group and for nobody else. What it leaves behind in the
	// group may still work on a call, and a call ends with its child.
	awaitGroupEnd(p.Pid)
	p.mu.Lock()
	p.reaped = true
	p.mu.Unlock()
	_ = p.Cmd.Wait() // Its error is the exit status, which ProcessState has too.
	close(p.Exited)
}

// Communicate runs one function for each pipe until the process has ended and its output has been read, and closes the
// pipes.
func (p *Process) Communicate(write, readOut, readErr func()) {
	var readers, writer sync.WaitGroup
	writer.Go(write)
	readers.Go(readOut)
	readers.Go(readErr)
	<-p.Exited
	until := time.Now().Add(drainTime)
	_ = p.Pipes.Stdout.SetReadDeadline(until) // An error means that it is closed: then nobody reads.
	_ = p.Pipes.Stderr.SetReadDeadline(until)
	readers.Wait()
	p.Pipes.close()
	writer.Wait()
}

// Signal signals the process group.
func (p *Process) Signal(sig unix.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.reaped {
		_ = unix.Kill(-p.Pid, sig) // An error means that it is gone.
	}
}

// awaitExit blocks until the process has ended, and leaves it a zombie.
func awaitExit(pid int) {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return
		}
	}
}

// awaitGroupEnd kills what is left of a process group whose leader is a zombie, and blocks until it is gone.
func awaitGroupEnd(pgid int) {
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		_ = unix.Kill(-pgid, unix.SIGKILL) // An error means that it is gone, which is looked at next.
		if !groupAlive(pgid) {
			return
		}
		time.Sleep(wait) // Nothing tells us of the end of a process that is not our child.
	}
}

// groupAlive looks for a process of the group that is not dead. A signal of 0 to the group would not tell: it reaches
// zombies too, and in a container nobody may ever reap those. To ask for each process's group costs one call; only what
// belongs to the group is examined further.
func groupAlive(pgid int) bool {
	proc, err := os.Open("/proc")
	if err != nil {
		return false
	}
	defer proc.Close()
	names, _ := proc.Readdirnames(-1) // What cannot be listed cannot be waited for.
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue // No process.
		}
		if group, err := unix.Getpgid(pid); err == nil && group == pgid && !isDead(pid) {
			return true
		}
	}
	return false
}

// isDead reports whether a process is a zombie, or gone.
func isDead(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	// pid (name) state …; the name may hold anything, so look behind its last bracket.
	state := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	return len(state) == 0 || state[0] == "Z" || state[0] == "X"
}

// WriteInput writes the program's input and closes it. A program need not read its stdin.
func (p *Process) WriteInput(data []byte) {
	_, _ = p.Pipes.Stdin.Write(data)
	p.Pipes.Stdin.Close()
}

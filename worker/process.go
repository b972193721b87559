package worker

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

	"golang.org/x/sys/unix"
)

// drainTime is how long the pipes of a dead process are still read. What it wrote is there at once; only a process that
// left its group and kept the pipe open makes us wait.
const drainTime = 200 * time.Millisecond

// process is one life of a user's program. It leads a process group that ends with it, and both end with this node.
type process struct {
	cmd    *exec.Cmd
	pid    int // Also its process group.
	pipes  pipes
	onExit func()        // Called when it has ended, before what is left of its group is.
	exited chan struct{} // Closed when the process has ended; nothing of its group runs any more.

	mu     sync.Mutex
	reaped bool // pid may belong to somebody else from now on.
}

// pipes are our ends of a child's standard streams.
type pipes struct{ stdin, stdout, stderr *os.File }

func (p pipes) close() {
	for _, f := range []*os.File{p.stdin, p.stdout, p.stderr} {
		if f != nil {
			f.Close() // Nothing is buffered on our side, and there is nobody left to tell.
		}
	}
}

// program is what a config says of a program to start.
type program struct {
	Command []string          // The program and its arguments.
	Env     map[string]string // Variables to set.
	PassEnv []string          // Names of the node's own variables to pass on.
}

// Environment names that a shell and every C library can hold.
var validEnv = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// validate reports every fault by its key. Variables that begin with reserved are set by the caller; "" reserves none.
func (p program) validate(fault faultFunc, reserved string) {
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

// command is the command line, environment and extra file of a program: a clean environment, because the node's own may hold
// what is not a handler's business. lock may be nil.
func (p program) command(lock *os.File) *exec.Cmd {
	cmd := exec.Command(p.Command[0], p.Command[1:]...)
	cmd.Env = p.environment()
	if lock != nil {
		cmd.ExtraFiles = []*os.File{lock}
	}
	return cmd
}

// environment lists a program's variables: a few of the node's own, then the configured ones.
func (p program) environment() []string {
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

// startProcess starts a program. It starts a goroutine that ends with it; wait for exited, in talk, to join it.
func startProcess(cmd *exec.Cmd, onExit func()) (*process, error) {
	ours, theirs, err := newPipes()
	if err != nil {
		return nil, fmt.Errorf("make pipes: %w", err)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs.stdin, theirs.stdout, theirs.stderr
	p := &process{cmd: cmd, pipes: ours, onExit: onExit, exited: make(chan struct{})}
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
		{&theirs.stdin, &ours.stdin}, {&ours.stdout, &theirs.stdout}, {&ours.stderr, &theirs.stderr},
	} {
		if *p.read, *p.write, err = os.Pipe(); err != nil {
			ours.close()
			theirs.close()
			return pipes{}, pipes{}, err
		}
	}
	return ours, theirs, nil
}

// live starts the process and stays with it. The kernel sends the parent-death signal when the *thread* that forked
// ends, not the process, so this goroutine keeps its thread for the child's whole life: otherwise the runtime could
// retire the thread and kill a healthy child.
func (p *process) live(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		started <- err
		return
	}
	p.pid = p.cmd.Process.Pid
	started <- nil
	awaitExit(p.pid)
	p.onExit()
	// The process is a zombie: its number still stands for its group and for nobody else. What it leaves behind in the
	// group may still work on a call, and a call ends with its child.
	awaitGroupEnd(p.pid)
	p.mu.Lock()
	p.reaped = true
	p.mu.Unlock()
	p.cmd.Wait() // Its error is the exit status, which ProcessState has too.
	close(p.exited)
}

// talk runs the pipes, one function for each, until the process has ended and what it wrote has been read, and closes
// them.
func (p *process) talk(write, readOut, readErr func()) {
	var readers, writer sync.WaitGroup
	writer.Go(write)
	readers.Go(readOut)
	readers.Go(readErr)
	<-p.exited
	until := time.Now().Add(drainTime)
	p.pipes.stdout.SetReadDeadline(until) // An error means that it is closed: then nobody reads.
	p.pipes.stderr.SetReadDeadline(until)
	readers.Wait()
	p.pipes.close()
	writer.Wait()
}

// signal signals the process group.
func (p *process) signal(sig unix.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.reaped {
		unix.Kill(-p.pid, sig) // An error means that it is gone.
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
		unix.Kill(-pgid, unix.SIGKILL)
		if !groupAlive(pgid) {
			return
		}
		time.Sleep(wait) // Nothing tells us of the end of a process that is not our child.
	}
}

// groupAlive looks for a process of the group that is not dead. A signal of 0 to the group would not tell: it reaches
// zombies too, and in a container nobody may ever reap those. To ask for each process's group costs one call; only what
// belongs to the group is looked at closely.
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

// feed writes all of the program's input, unless it does not want it: not to read stdin is its good right.
func (p *process) feed(data []byte) {
	p.pipes.stdin.Write(data)
	p.pipes.stdin.Close()
}

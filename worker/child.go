package worker

import (
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

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
)

const (
	// drainTime is how long the pipes of a dead child are still read. What it wrote is there at once; only a process
	// that left its group and kept the pipe open makes us wait.
	drainTime = 200 * time.Millisecond
	// deafTime is how long a child may live after it closed stdin or stdout. On its way to an exit it does so too, and
	// its exit status says more than our kill.
	deafTime = time.Second
)

// child is one life of a child process. Its goroutines end when the process does, and dead is closed after them.
type child struct {
	log    hclog.Logger
	out    *output
	cmd    *exec.Cmd
	pid    int // Also its process group.
	pipes  pipes
	exited chan struct{} // Closed when the process has ended; nothing of its group runs any more.
	dead   chan struct{} // Closed when, besides, every request has its end.
	queued chan struct{} // Holds one token while the outbox may have something to write.

	mu       sync.Mutex
	reaped   bool           // pid may belong to somebody else from now on.
	end      *ending        // Why it dies or died; nil while it is of use.
	pending  []*request     // Requests without an answer, in the order they were given.
	outbox   []*request     // Those of them that the writer has not taken yet; a suffix of all that was given.
	closing  bool           // The writer closes stdin when the outbox is empty.
	clock    *time.Timer    // Runs for pending[0].
	assigned map[int]uint64 // Partitions it has acknowledged, with their epoch.
	messages int            // Messages it has been given.
	nextID   int            // Of control lines.
	ignored  int            // Answers that nobody waited for.
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

// spawn starts a process. It starts goroutines that end with it; wait for dead to join them.
func spawn(cmd *exec.Cmd, log hclog.Logger) (*child, error) {
	ours, theirs, err := newPipes()
	if err != nil {
		return nil, fmt.Errorf("make pipes: %w", err)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs.stdin, theirs.stdout, theirs.stderr
	c := &child{
		log: log, cmd: cmd, pipes: ours,
		exited: make(chan struct{}), dead: make(chan struct{}), queued: make(chan struct{}, 1),
		assigned: make(map[int]uint64),
	}
	c.clock = time.AfterFunc(time.Hour, c.expire)
	c.clock.Stop()
	started := make(chan error)
	go c.live(started)
	err = <-started
	theirs.close()
	if err != nil {
		ours.close()
		return nil, err
	}
	c.log = log.With("pid", c.pid)
	c.out = newOutput(c.log)
	go c.communicate()
	return c, nil
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
func (c *child) live(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := c.cmd.Start(); err != nil {
		started <- err
		return
	}
	c.pid = c.cmd.Process.Pid
	started <- nil
	awaitExit(c.pid)
	c.markDead()
	// The process is a zombie: its number still stands for its group and for nobody else. What it leaves behind in the
	// group may still work on a call, and a call ends with its child.
	awaitGroupEnd(c.pid)
	c.mu.Lock()
	c.reaped = true
	c.mu.Unlock()
	c.cmd.Wait() // Its error is the exit status, which ProcessState has too.
	close(c.exited)
}

// markDead has the child take no more requests: one that it can never have read must not be blamed for its death.
func (c *child) markDead() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end == nil {
		c.end = &ending{how: crashed}
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
// zombies too, and in a container nobody may ever reap those.
func groupAlive(pgid int) bool {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // The pattern is well formed.
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // Gone since.
		}
		// pid (name) state ppid pgrp …; the name may hold anything, so look behind its last bracket.
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if len(fields) > 2 && fields[2] == strconv.Itoa(pgid) && fields[0] != "Z" && fields[0] != "X" {
			return true
		}
	}
	return false
}

// communicate runs the pipes until the process has ended, then settles what is left.
func (c *child) communicate() {
	var readers, writer sync.WaitGroup
	writer.Go(c.writeLines)
	readers.Go(func() {
		readLines(c.pipes.stdout, maxLine, c.take)
		c.deaf("it closed its stdout")
	})
	readers.Go(func() { readLines(c.pipes.stderr, 64<<10, c.out.stderr) })
	<-c.exited
	until := time.Now().Add(drainTime)
	c.pipes.stdout.SetReadDeadline(until) // An error means that it is closed: then nobody reads.
	c.pipes.stderr.SetReadDeadline(until)
	readers.Wait()
	c.pipes.close()
	writer.Wait()
	c.settle()
	close(c.dead)
}

// writeLines writes the outbox to the child.
func (c *child) writeLines() {
	for {
		line, more := c.nextLine()
		switch {
		case line != nil:
			if _, err := c.pipes.stdin.Write(line); err != nil {
				c.deaf("it closed its stdin")
				return
			}
		case !more:
			c.pipes.stdin.Close() // The child is told to exit; there is nothing to lose.
			return
		default:
			select {
			case <-c.queued:
			case <-c.exited:
				return
			}
		}
	}
}

// deaf kills a child that has closed a stream that it needs, unless it exits by itself soon.
func (c *child) deaf(why string) {
	select {
	case <-c.exited:
	case <-time.After(deafTime):
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.end == nil { // Else it is on its way out, and whoever sent it has set a limit.
			c.killLocked(&ending{how: crashed, text: why})
		}
	}
}

// kill ends the process group, and is the reason for it unless there is one already.
func (c *child) kill(e *ending) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.killLocked(e)
}

// killLocked is kill with mu held.
func (c *child) killLocked(e *ending) {
	if c.end == nil {
		c.end = e
	}
	c.signalLocked(unix.SIGKILL)
}

// signalLocked signals the process group, with mu held.
func (c *child) signalLocked(sig unix.Signal) {
	if !c.reaped {
		unix.Kill(-c.pid, sig) // An error means that it is gone.
	}
}

// stop asks the child to exit, in three ways, each for a part of limit, and returns when it is dead.
func (c *child) stop(limit time.Duration) {
	c.sayStop()
	polite := time.NewTimer(limit / 2)
	defer polite.Stop()
	select {
	case <-c.dead:
		return
	case <-polite.C:
	}
	c.mu.Lock()
	c.signalLocked(unix.SIGTERM)
	c.mu.Unlock()
	c.pipes.stdin.Close() // If it never read the stop line, the writer still hangs on it.
	firm := time.NewTimer(limit / 2)
	defer firm.Stop()
	select {
	case <-c.dead:
	case <-firm.C:
		c.log.Warn("handler child did not stop, killing it")
		c.kill(&ending{how: stopped})
		<-c.dead
	}
}

package subprocess

import (
	"os/exec"
	"sync"
	"time"

	"leasehold/worker/handler/process"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
)

// closedStdioGrace is how long a child may run after it closed stdin or stdout. An exiting child does so too, and its
// exit status says more than our kill.
const closedStdioGrace = time.Second

// child is one run of a child process. Its goroutines end when the process does, and dead is closed after them.
type child struct {
	*process.Process
	log    hclog.Logger
	out    *process.Output
	onLine func(line []byte) // Sees each line of stdout first; nil if nobody wants to.
	dead   chan struct{}     // Closed when the process has ended and every call is done.
	queued chan struct{}     // Holds one token while the outbox may have something to write.

	mu       sync.Mutex
	end      *exitCause     // Why it dies or died; nil while it accepts calls.
	waiting  []*call        // Messages that the child must not be sent yet, in the order they came.
	pending  []*call        // Calls that it has or is about to be sent, and has not replied to, in order of their lines.
	outbox   []*call        // Those of them that the writer has not taken yet, and lines that need no answer.
	closing  bool           // The writer closes stdin when the outbox is empty.
	clock    *time.Timer    // Runs for pending[0].
	assigned map[int]uint64 // Partitions it has acknowledged, with their epoch.
	batches  bool           // It has asked for batches.
	parallel bool           // It has asked for calls of several partitions at once.
	// The child repeats this in every result: a line without it is output, whatever it looks like. "": it does not.
	token     string
	unsigned  int    // Lines that would be results but for the token.
	messages  int    // Messages it has been sent; a batch counts as one.
	nextID    int    // Of control lines.
	ignored   int    // Replies that no call waited for.
	unmatched string // Last line of stdout that was not a reply, if none has been since.
}

// spawn starts a process. It starts goroutines that end with it; wait for dead to join them. heard may be nil.
func spawn(cmd *exec.Cmd, log hclog.Logger, heard func(line []byte)) (*child, error) {
	c := &child{
		onLine: heard, dead: make(chan struct{}), queued: make(chan struct{}, 1),
		assigned: make(map[int]uint64),
	}
	c.clock = time.AfterFunc(time.Hour, c.expire)
	c.clock.Stop()
	p, err := process.Start(cmd, c.markDead)
	if err != nil {
		return nil, err
	}
	c.Process = p
	c.log = log.With("pid", c.Pid)
	c.out = process.NewOutput(c.log, process.NewOutputLimit())
	go c.communicate()
	return c, nil
}

// markDead makes the child accept no more calls: one that it can never have read must not be blamed for its death.
func (c *child) markDead() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end == nil {
		c.end = &exitCause{kind: crashed}
	}
}

// communicate runs the pipes until the process has ended, then fails the calls that are left.
func (c *child) communicate() {
	c.Communicate(c.writeLines, func() {
		process.ReadLines(c.Pipes.Stdout, process.MaxLine, c.receive)
		c.closedStdio("it closed its stdout")
	}, func() {
		process.ReadLines(c.Pipes.Stderr, process.MaxOutputLine, c.out.Stderr)
	})
	c.failPending()
	close(c.dead)
}

// writeLines writes the outbox to the child.
func (c *child) writeLines() {
	for {
		line, more := c.nextLine()
		switch {
		case line != nil:
			if _, err := c.Pipes.Stdin.Write(line); err != nil {
				c.closedStdio("it closed its stdin")
				return
			}
		case !more:
			c.Pipes.Stdin.Close() // The child is told to exit; there is nothing to lose.
			return
		default:
			select {
			case <-c.queued:
			case <-c.Exited:
				return
			}
		}
	}
}

// closedStdio kills a child that has closed a stream that it needs, unless it exits by itself soon.
func (c *child) closedStdio(why string) {
	select {
	case <-c.Exited:
	case <-time.After(closedStdioGrace):
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.end == nil { // Otherwise it is exiting already, within a limit.
			c.killLocked(&exitCause{kind: crashed, text: why})
		}
	}
}

// kill kills the process group, because of e unless there is a cause already.
func (c *child) kill(e *exitCause) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.killLocked(e)
}

// killLocked is kill with mu held.
func (c *child) killLocked(e *exitCause) {
	if c.end == nil {
		c.end = e
	}
	c.Signal(unix.SIGKILL)
}

// stop asks the child to exit, by the stop line and then by SIGTERM, each for half of limit; then it kills it. It
// returns when the child is dead.
func (c *child) stop(limit time.Duration) {
	c.sendStop(c.newID())
	polite := time.NewTimer(limit / 2)
	defer polite.Stop()
	select {
	case <-c.dead:
		return
	case <-polite.C:
	}
	c.Signal(unix.SIGTERM)
	c.Pipes.Stdin.Close() // If it never read the stop line, the writer is still blocked on it.
	firm := time.NewTimer(limit / 2)
	defer firm.Stop()
	select {
	case <-c.dead:
	case <-firm.C:
		c.log.Warn("handler child did not stop, killing it")
		c.kill(&exitCause{kind: stopped})
		<-c.dead
	}
}

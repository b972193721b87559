package testcluster

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"leasehold/internal/failpoint"
	"leasehold/internal/harness/history"
	"leasehold/internal/skewclock"
)

// exitLimit is how long a signalled process may take to be gone; longer than
// a clean stop with its 5 s for each step that waits for a quorum.
const exitLimit = 40 * time.Second

// Node is one agent. Its methods fail the test where they cannot do what they
// say. They are for the test's goroutine.
type Node struct {
	Name       string
	ConfigFile string
	// Within is a command that becomes the agent, whose command line it gets as
	// arguments; nil: none.
	Within []string
	// Cluster is the cluster that the node belongs to.
	Cluster *Cluster
	// Host is where the node runs, with no field left empty.
	Host Host
	// Ports are where the node listens, on Host.Address.
	Ports Ports

	logFile string // of all lives, appended
	skew    skewclock.Skew
	own     *Own     // what its config says instead of the cluster's; nil: the same
	proc    *Process // nil before the first start and after an end
}

// ClientURL is the URL for clients, with credentials where it needs some.
func (n *Node) ClientURL() string {
	return fmt.Sprintf("nats://%s%s:%d", n.login(), n.Host.Address, n.Ports.NATS)
}

// httpURL is the base URL of health and status.
func (n *Node) httpURL() string { return fmt.Sprintf("http://%s:%d", n.Host.Address, n.Ports.HTTP) }

// DataDir is the node's data directory.
func (n *Node) DataDir() string { return n.Host.DataDir }

// ClusterPort is the port on which it listens for the others.
func (n *Node) ClusterPort() int { return n.Ports.Cluster }

// Listeners are the addresses of all its ports: for clients, the cluster, HTTP.
func (n *Node) Listeners() []string {
	var all []string
	for _, port := range []int{n.Ports.NATS, n.Ports.Cluster, n.Ports.HTTP} {
		all = append(all, fmt.Sprintf("%s:%d", n.Host.Address, port))
	}
	return all
}

// PID is the process id of the present life, 0 if it has none.
func (n *Node) PID() int {
	if n.proc == nil {
		return 0
	}
	return n.proc.cmd.Process.Pid
}

// Start starts the agent and returns at once; see Cluster.WaitReady.
func (n *Node) Start() {
	n.Cluster.T.Helper()
	switch spec := n.Cluster.Spec; {
	case spec.Skewed:
		n.startAs(SkewedBinary(n.Cluster.T), skewclock.Variable+"="+n.skewFile())
	case spec.Binary != "":
		n.startAs(spec.Binary)
	default:
		n.startAs(LeaseholdBinary(n.Cluster.T))
	}
}

// Skew puts the clocks of the node wrong, also for its next lives. If it runs
// it waits until the node says so. Only in a cluster whose Spec says so.
func (n *Node) Skew(s skewclock.Skew) {
	t := n.Cluster.T
	t.Helper()
	if !n.Cluster.Spec.Skewed {
		t.Fatal("this cluster's clocks cannot be put wrong")
	}
	if s == n.skew {
		return
	}
	said := func() int { return strings.Count(n.Log(), s.Said()+"\n") }
	before := 0
	if n.proc != nil {
		before = said()
	}
	if err := s.Save(n.skewFile()); err != nil {
		t.Fatal(err)
	}
	n.skew = s
	if n.proc == nil {
		return
	}
	Eventually(t, MoveLimit, func() error {
		if said() == before {
			return fmt.Errorf("%s did not say %q", n.Name, s.Said())
		}
		return nil
	})
}

func (n *Node) skewFile() string { return n.ConfigFile + ".skew" }

// StartFailing starts an agent that kills itself when it has passed the place
// so many times.
func (n *Node) StartFailing(place failpoint.Place, passes int) {
	n.Cluster.T.Helper()
	n.startAs(FailingBinary(n.Cluster.T),
		"LEASEHOLD_FAILPOINT="+string(place), fmt.Sprintf("LEASEHOLD_FAILPOINT_AFTER=%d", passes))
}

// WaitFailed waits until the agent has killed itself.
func (n *Node) WaitFailed(limit time.Duration) {
	t := n.Cluster.T
	t.Helper()
	if !n.proc.Wait(limit) {
		t.Fatalf("%s did not come by its failpoint within %s", n.Name, limit)
	}
	if state := n.proc.cmd.ProcessState.Sys().(syscall.WaitStatus); !state.Signaled() ||
		state.Signal() != syscall.SIGKILL {
		t.Fatalf("%s ended otherwise: %v", n.Name, n.proc.err)
	}
	n.proc = nil
	n.Cluster.note(history.Kill, n)
}

// startAs starts the agent as another build of it, with more in its
// environment.
func (n *Node) startAs(binary string, environment ...string) {
	t := n.Cluster.T
	t.Helper()
	if n.proc != nil {
		t.Fatalf("%s is running", n.Name)
	}
	n.Cluster.note(history.Start, n)
	log, err := os.OpenFile(n.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close() // the child has its own
	line := append(slices.Clone(n.Within), binary, "agent", "--config", n.ConfigFile)
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, filepath.Dir(n.ConfigFile)
	cmd.Env = append(os.Environ(), environment...)
	if n.proc, err = startProcessIn(n.Host.Namespace, cmd); err != nil {
		t.Fatalf("start %s: %v", n.Name, err)
	}
}

// Kill kills the agent (SIGKILL) and waits until it is gone.
func (n *Node) Kill() history.Event { return n.end(history.Kill, syscall.SIGKILL) }

// Term asks the agent to stop (SIGTERM) and waits until it is gone. Its exit
// code must be 0.
func (n *Node) Term() history.Event {
	n.Cluster.T.Helper()
	proc := n.proc
	e := n.end(history.Term, syscall.SIGTERM)
	if proc.err != nil {
		n.Cluster.T.Errorf("%s after SIGTERM: %v", n.Name, proc.err)
	}
	return e
}

// Stop pauses the agent (SIGSTOP), not its handlers.
func (n *Node) Stop() history.Event { return n.signal(history.Stop, syscall.SIGSTOP) }

// Cont ends a pause (SIGCONT).
func (n *Node) Cont() history.Event { return n.signal(history.Cont, syscall.SIGCONT) }

// Exited is closed when the present life has ended, nil if there is none.
func (n *Node) Exited() <-chan struct{} {
	if n.proc == nil {
		return nil
	}
	return n.proc.exited
}

// ExitError is how the present life has ended; read after Exited.
func (n *Node) ExitError() error { return n.proc.err }

// AskToStop asks the agent to stop (SIGTERM) and does not wait for it.
func (n *Node) AskToStop() history.Event { return n.signal(history.Term, syscall.SIGTERM) }

func (n *Node) signal(kind history.EventKind, sig os.Signal) history.Event {
	t := n.Cluster.T
	t.Helper()
	if n.proc == nil {
		t.Fatalf("%s is not running", n.Name)
	}
	e := n.Cluster.note(kind, n)
	if err := n.proc.cmd.Process.Signal(sig); err != nil {
		t.Fatalf("%s %s: %v", kind, n.Name, err)
	}
	return e
}

func (n *Node) end(kind history.EventKind, sig os.Signal) history.Event {
	n.Cluster.T.Helper()
	e := n.signal(kind, sig)
	if !n.proc.Wait(exitLimit) {
		n.Cluster.T.Fatalf("%s is still there %s after %s", n.Name, exitLimit, kind)
	}
	n.proc = nil
	return e
}

// Log is what the node has logged, in all its lives.
func (n *Node) Log() string {
	n.Cluster.T.Helper()
	log, err := os.ReadFile(n.logFile)
	if err != nil {
		n.Cluster.T.Fatal(err)
	}
	return string(log)
}

// logTail is the end of the log, whole lines.
func (n *Node) logTail(size int) string {
	log, err := os.ReadFile(n.logFile)
	if err != nil {
		return err.Error()
	}
	if len(log) > size {
		log = log[len(log)-size:]
		_, log, _ = bytes.Cut(log, []byte("\n"))
	}
	return string(log)
}

// Process is one child. It dies with this process, whatever ends it: the
// kernel kills it when the thread that started it ends, so that thread lives
// as long as the child.
type Process struct {
	cmd    *exec.Cmd
	exited chan struct{}
	err    error // of Wait; read after exited
}

// StartProcess starts a command that dies with this process.
func StartProcess(cmd *exec.Cmd) (*Process, error) { return startProcessIn("", cmd) }

// startProcessIn starts it in the network namespace at the path, if there is
// one. A thread that has gone there is never used for anything else.
func startProcessIn(namespace string, cmd *exec.Cmd) (*Process, error) {
	p := &Process{cmd: cmd, exited: make(chan struct{})}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if namespace == "" {
			defer runtime.UnlockOSThread()
		}
		defer close(p.exited)
		err := enter(namespace)
		if err == nil {
			err = cmd.Start()
		}
		started <- err
		if err == nil {
			p.err = cmd.Wait()
		}
	}()
	return p, <-started
}

// enter takes the present thread into the network namespace at the path.
func enter(namespace string) error {
	if namespace == "" {
		return nil
	}
	f, err := os.Open(namespace)
	if err != nil {
		return fmt.Errorf("open the network namespace: %w", err)
	}
	defer f.Close()
	if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", namespace, err)
	}
	return nil
}

// Wait waits until the process has ended, and tells whether it has within the limit.
func (p *Process) Wait(limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-p.exited:
		return true
	case <-timer.C:
		return false
	}
}

// PID is its process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Kill ends the process for the clean-up, stopped or not.
func (p *Process) Kill() {
	p.cmd.Process.Kill() // fails only if it is gone
	<-p.exited
}

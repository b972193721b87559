package devcluster

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// PID returns the process that runs the node. A pid file outlives its process and pids are used again, so only a
// process whose command line runs this very config is ours.
func (n Node) PID() (int, bool) {
	text, err := os.ReadFile(n.PIDFile())
	if err != nil {
		return 0, false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid <= 1 {
		return 0, false
	}
	return pid, n.runs(pid)
}

// runs reports whether a process runs the node: an agent with its config, or `agent --dev` above its directory.
func (n Node) runs(pid int) bool {
	args := commandLine(pid)
	switch {
	case !slices.Contains(args, "agent"):
		return false
	case slices.Contains(args, n.Config()):
		return true
	}
	above, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	return err == nil && slices.Contains(args, "--dev") && filepath.Join(above, DefaultDir) == filepath.Dir(n.Dir)
}

// execLimit is how long a process may take from the start of its program to the line with its arguments.
const execLimit = 2 * time.Second

// commandLine is a process's program and arguments, nil of one that has ended. The kernel tells the parent that a
// program has started a little before it shows its arguments; a node looked at in between must not be taken for dead,
// or it would be left behind. One that is dead and not reaped has no arguments either, but no program.
func commandLine(pid int) []string {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(execLimit); ; <-tick.C {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil || len(line) > 0 {
			return strings.Split(string(line), "\x00")
		}
		if _, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err != nil || time.Now().After(deadline) {
			return nil
		}
	}
}

// Reapers are the goroutines that reap nodes started in the foreground.
type Reapers struct{ sync.WaitGroup }

// Join waits until the nodes have ended.
func (k *Reapers) Join() { k.Wait() }

// LaunchAll starts every node.
func LaunchAll(nodes []Node, detach bool) (*Reapers, error) {
	k := &Reapers{}
	for _, n := range nodes {
		if err := n.Launch(k, detach); err != nil {
			return k, err
		}
	}
	return k, nil
}

// Launch starts the node. A detached one gets a session of its own and is left to itself. Another one is told to stop
// when we die: the kernel sends that signal when the *thread* that started the child ends, so the goroutine that
// starts it keeps its thread until the child has ended.
func (n Node) Launch(k *Reapers, detach bool) error {
	cmd, err := n.command()
	if err != nil {
		return err
	}
	defer cmd.Stderr.(*os.File).Close()
	if detach {
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := n.start(cmd); err != nil {
			return err
		}
		return cmd.Process.Release()
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	started := make(chan error, 1)
	k.Go(func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := n.start(cmd)
		started <- err
		if err == nil {
			_ = cmd.Wait() // How it ended is in its log.
		}
	})
	return <-started
}

func (n Node) command() (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this binary: %w", err)
	}
	log, err := os.OpenFile(n.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open the log of node %s: %w", n.Name, err)
	}
	cmd := exec.Command(self, "agent", "--config", n.Config())
	cmd.Stdout, cmd.Stderr = log, log
	return cmd, nil
}

func (n Node) start(cmd *exec.Cmd) error {
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start node %s: %w", n.Name, err)
	}
	if err := n.WritePID(cmd.Process.Pid); err != nil {
		_ = cmd.Process.Kill() // Nobody could find it later.
		return err
	}
	return nil
}

// WritePID notes the process that runs the node.
func (n Node) WritePID(pid int) error {
	if err := os.WriteFile(n.PIDFile(), []byte(strconv.Itoa(pid)+"\n"), 0o640); err != nil {
		return fmt.Errorf("write the pid of node %s: %w", n.Name, err)
	}
	return nil
}

// StopLimit is how long a node may take to stop cleanly before it is killed, killLimit how long it may take to be gone
// after that. Together they are less than the 10 s in which a cluster on one machine should be down.
const (
	StopLimit = 8 * time.Second
	killLimit = time.Second
	lookEvery = 50 * time.Millisecond
)

// StopAll stops every node at once and returns the names of those that had to be killed.
func StopAll(nodes []Node) (stopped, killed []string) {
	var wait sync.WaitGroup
	var mu sync.Mutex
	for _, n := range nodes {
		wait.Go(func() {
			ran, hard := n.stop()
			mu.Lock()
			defer mu.Unlock()
			if ran {
				stopped = append(stopped, n.Name)
			}
			if hard {
				killed = append(killed, n.Name)
			}
		})
	}
	wait.Wait()
	slices.Sort(stopped)
	slices.Sort(killed)
	return stopped, killed
}

// stop ends the node's process, cleanly if it can be done in time.
func (n Node) stop() (ran, killed bool) {
	pid, running := n.PID()
	if running {
		_ = syscall.Kill(pid, syscall.SIGTERM) // If it has just ended, all the better.
		if !n.Gone(StopLimit) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			n.Gone(killLimit)
			killed = true
		}
	}
	_ = os.Remove(n.PIDFile())
	return running, killed
}

// Gone waits until the node's process has ended.
func (n Node) Gone(limit time.Duration) bool {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if _, running := n.PID(); !running {
			return true
		}
		select {
		case <-deadline.C:
			return false
		case <-tick.C:
		}
	}
}

package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
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

	"leasehold/internal/config"
)

// devNode is one node of a `dev` cluster: a directory that holds all of it. A node's process is known only by the pid
// file there, so that every command sees the same, whoever started it.
type devNode struct {
	name string
	dir  string // Absolute.
}

// defaultDevDir is where `leasehold dev` and `agent --dev` keep their nodes unless told otherwise.
const defaultDevDir = "./leasehold-dev"

// Names in a node's directory.
const (
	logName = "log"
	pidName = "pid"
)

func (n devNode) config() string  { return filepath.Join(n.dir, config.FileName) }
func (n devNode) logFile() string { return filepath.Join(n.dir, logName) }
func (n devNode) pidFile() string { return filepath.Join(n.dir, pidName) }

// socket is where the node answers, also if its config was edited.
func (n devNode) socket() string {
	if c, err := config.Load(n.config()); err == nil {
		return c.SocketPath()
	}
	return filepath.Join(n.dir, "data", config.SocketName)
}

// nodesIn finds the nodes in a directory; there may be none.
func nodesIn(dir string) ([]devNode, error) {
	configs, err := filepath.Glob(filepath.Join(globQuote(dir), "n*", config.FileName))
	if err != nil {
		return nil, err
	}
	var nodes []devNode
	for _, c := range configs {
		nodes = append(nodes, devNode{name: filepath.Base(filepath.Dir(c)), dir: filepath.Dir(c)})
	}
	return nodes, nil
}

// globQuote makes a path match itself only.
func globQuote(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// pid returns the process that runs the node. A pid file outlives its process and pids are used again, so only a
// process whose command line runs this very config is ours.
func (n devNode) pid() (int, bool) {
	text, err := os.ReadFile(n.pidFile())
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
func (n devNode) runs(pid int) bool {
	args := commandLine(pid)
	switch {
	case !slices.Contains(args, "agent"):
		return false
	case slices.Contains(args, n.config()):
		return true
	}
	above, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	return err == nil && slices.Contains(args, "--dev") && filepath.Join(above, defaultDevDir) == filepath.Dir(n.dir)
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

// keepers are the goroutines that reap nodes started in the foreground.
type keepers struct{ sync.WaitGroup }

func (k *keepers) join() { k.Wait() }

// launchAll starts every node.
func launchAll(nodes []devNode, detach bool) (*keepers, error) {
	k := &keepers{}
	for _, n := range nodes {
		if err := n.launch(k, detach); err != nil {
			return k, err
		}
	}
	return k, nil
}

// launch starts the node. A detached one gets a session of its own and is left to itself. Another one is told to stop
// when we die: the kernel sends that signal when the *thread* that started the child ends, so the goroutine that
// starts it keeps its thread until the child has ended.
func (n devNode) launch(k *keepers, detach bool) error {
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

func (n devNode) command() (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this binary: %w", err)
	}
	log, err := os.OpenFile(n.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open the log of node %s: %w", n.name, err)
	}
	cmd := exec.Command(self, "agent", "--config", n.config())
	cmd.Stdout, cmd.Stderr = log, log
	return cmd, nil
}

func (n devNode) start(cmd *exec.Cmd) error {
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start node %s: %w", n.name, err)
	}
	if err := n.writePID(cmd.Process.Pid); err != nil {
		_ = cmd.Process.Kill() // Nobody could find it later.
		return err
	}
	return nil
}

func (n devNode) writePID(pid int) error {
	if err := os.WriteFile(n.pidFile(), []byte(strconv.Itoa(pid)+"\n"), 0o640); err != nil {
		return fmt.Errorf("write the pid of node %s: %w", n.name, err)
	}
	return nil
}

// How long nodes get to stop cleanly before they are killed, and to be gone after that; together less than the 10 s in
// which a cluster on one machine should be down.
const (
	stopLimit = 8 * time.Second
	killLimit = time.Second
	lookEvery = 50 * time.Millisecond
)

// stopAll stops every node at once and returns the names of those that had to be killed.
func stopAll(nodes []devNode) (stopped, killed []string) {
	var wait sync.WaitGroup
	var mu sync.Mutex
	for _, n := range nodes {
		wait.Go(func() {
			ran, hard := n.stop()
			mu.Lock()
			defer mu.Unlock()
			if ran {
				stopped = append(stopped, n.name)
			}
			if hard {
				killed = append(killed, n.name)
			}
		})
	}
	wait.Wait()
	slices.Sort(stopped)
	slices.Sort(killed)
	return stopped, killed
}

// stop ends the node's process, cleanly if it can be done in time.
func (n devNode) stop() (ran, killed bool) {
	pid, running := n.pid()
	if running {
		_ = syscall.Kill(pid, syscall.SIGTERM) // If it has just ended, all the better.
		if !n.gone(stopLimit) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			n.gone(killLimit)
			killed = true
		}
	}
	_ = os.Remove(n.pidFile())
	return running, killed
}

// gone waits until the node's process has ended.
func (n devNode) gone(limit time.Duration) bool {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if _, running := n.pid(); !running {
			return true
		}
		select {
		case <-deadline.C:
			return false
		case <-tick.C:
		}
	}
}

// tailLines is how much of a log explains why its node ended.
const tailLines = 8

func (n devNode) logTail() string {
	text, err := os.ReadFile(n.logFile())
	if errors.Is(err, fs.ErrNotExist) {
		return "(no log)"
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-tailLines):], []byte("\n")))
}

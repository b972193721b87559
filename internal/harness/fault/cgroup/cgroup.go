// Package cgroup puts a process and all its children into a control group of
// their own, where a test can freeze, starve, limit and kill them together. It
// works with version 1 and version 2, and with a mix of both; what a machine
// does not have is ErrUnavailable.
package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"leasehold/internal/harness/fault/process"
)

// ErrUnavailable is that this machine cannot do it; the text says why.
var ErrUnavailable = errors.New("control groups are not available")

// settleLimit is how long the kernel may take to freeze a group, and killed
// processes to be gone.
const settleLimit = 10 * time.Second

// Group is a control group. It is for one goroutine.
type Group struct {
	t    testing.TB
	name string
	core dir            // which has all processes of the group, and freezes them
	dirs map[string]dir // those of the controllers in use, by name

	mounts []string // hierarchies that we mounted
}

// dir is the directory of the group in one hierarchy.
type dir struct {
	v2   bool
	path string
}

// New makes a group with nothing in it. The end of the test kills what is in
// it then, and removes it.
func New(t testing.TB, name string) (*Group, error) {
	t.Helper()
	g := &Group{t: t, name: fmt.Sprintf("leasehold-%d-%s", os.Getpid(), name), dirs: make(map[string]dir)}
	t.Cleanup(g.cleanUp)
	// Version 2, where it is mounted, because a process that it has frozen can
	// still be killed.
	core, err := g.make(unified)
	if err != nil {
		core, err = g.make("freezer")
	}
	g.core = core
	return g, err
}

// make makes the group's directory in the controller's hierarchy.
func (g *Group) make(controller string) (dir, error) {
	if d, made := g.dirs[controller]; made {
		return d, nil
	}
	h, err := g.find(controller)
	if err != nil {
		return dir{}, err
	}
	d := dir{v2: h.v2, path: filepath.Join(h.dir, g.name)}
	if err := os.Mkdir(d.path, 0o755); err != nil && !(errors.Is(err, os.ErrExist) && g.has(d)) {
		return dir{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	g.dirs[controller] = d
	return d, nil
}

// has tells whether the directory is ours already: hierarchies may be shared by
// several controllers.
func (g *Group) has(d dir) bool {
	for _, other := range g.dirs {
		if other == d {
			return true
		}
	}
	return false
}

// use makes the group's directory for a controller and moves the processes
// there.
func (g *Group) use(controller string) (dir, error) {
	d, err := g.make(controller)
	if err != nil {
		return dir{}, err
	}
	pids, err := g.PIDs()
	if err != nil {
		return dir{}, err
	}
	return d, d.move(pids)
}

// Add puts the process and its descendants into the group. What they start
// from then on is in it by itself.
func (g *Group) Add(pid int) error {
	if !process.Alive(pid) {
		return fmt.Errorf("add process %d: it does not run", pid)
	}
	// A child that was forked between the look and the move is found by the
	// next look; from a parent that has moved there are none.
	for added := -1; ; {
		tree, err := process.Tree(pid)
		if err != nil {
			return err
		}
		if len(tree) == added {
			return nil
		}
		added = len(tree)
		for _, d := range g.dirs {
			if err := d.move(tree); err != nil {
				return err
			}
		}
	}
}

// Within is a command that enters the group and becomes the command that its
// further arguments are, which so never runs outside.
func (g *Group) Within() []string {
	script := ""
	for _, d := range g.dirs {
		script += fmt.Sprintf("echo $$ > '%s/cgroup.procs' && ", d.path)
	}
	return []string{"sh", "-c", script + `exec "$@"`, "sh"}
}

// move puts the processes into the directory. One that has ended is no error.
func (d dir) move(pids []int) error {
	for _, pid := range pids {
		if err := write(d.path, "cgroup.procs", strconv.Itoa(pid)); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return nil
}

// PIDs are the processes of the group.
func (g *Group) PIDs() ([]int, error) {
	words, err := read(g.core.path, "cgroup.procs")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, word := range strings.Fields(words) {
		if pid, err := strconv.Atoi(word); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// Kill kills every process of the group (SIGKILL) and waits until they are
// gone, or only their parents have not asked for them yet.
func (g *Group) Kill() error {
	if err := write(g.core.path, "cgroup.kill", "1"); err != nil {
		if err := g.killEach(); err != nil {
			return err
		}
	}
	return g.settle("gone", func() (bool, error) {
		pids, err := g.PIDs()
		return len(pids) == 0, err
	})
}

// killEach is Kill where the kernel has no order for it: nothing can fork while
// it is frozen.
func (g *Group) killEach() error {
	if err := g.Freeze(); err != nil {
		return err
	}
	pids, err := g.PIDs()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("kill %d of group %s: %w", pid, g.name, err)
		}
	}
	return g.Thaw()
}

// settle waits until the kernel says that it is so.
func (g *Group) settle(what string, so func() (bool, error)) error {
	deadline := time.Now().Add(settleLimit)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err := so(); ok || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the processes of group %s are not %s within %s", g.name, what, settleLimit)
		}
		<-tick.C
	}
}

// cleanUp leaves nothing of the group.
func (g *Group) cleanUp() {
	var err error
	if g.core.path != "" {
		err = errors.Join(g.Thaw(), g.Kill())
	}
	removed := make(map[string]bool)
	for _, d := range g.dirs {
		if !removed[d.path] {
			removed[d.path] = true
			err = errors.Join(err, g.remove(d))
		}
	}
	if err := errors.Join(err, g.unmount()); err != nil {
		g.t.Errorf("end group %s: %v", g.name, err)
	}
}

// remove removes the directory. A killed process holds it until its parent has
// asked for it.
func (g *Group) remove(d dir) error {
	return g.settle("out of it", func() (bool, error) {
		err := os.Remove(d.path)
		if errors.Is(err, syscall.EBUSY) {
			return false, nil
		}
		return true, err
	})
}

func write(dir, file, text string) error {
	// Not os.WriteFile, which would create what is missing.
	f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("set %s: %w", file, err)
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

func read(dir, file string) (string, error) {
	text, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", file, err)
	}
	return strings.TrimSpace(string(text)), nil
}

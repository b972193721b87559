package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// unified is the controller's name under which /proc lists version 2.
const unified = ""

// A hierarchy is one tree of control groups, as the mount namespace of this
// thread shows it.
type hierarchy struct {
	v2  bool
	dir string // in which a group of ours is made
}

// find is the hierarchy that has the controller. Version 1 goes first: a
// controller that is mounted there is not in version 2.
//
// In version 1 a group is made below the one that this process is in, so that
// limits on us stay limits on our children. In version 2 that would be refused,
// because only a group without processes of its own hands controllers down; the
// topmost one may have both.
func (g *Group) find(controller string) (hierarchy, error) {
	own, err := ownGroups()
	if err != nil {
		return hierarchy{}, err
	}
	if group, listed := own[controller]; listed && controller != unified {
		top, err := g.mounted("cgroup", controller)
		if err != nil {
			return hierarchy{}, err
		}
		dir := filepath.Join(top, group)
		if _, err := os.Stat(dir); err != nil {
			dir = top // The namespace shows less than the whole tree.
		}
		return hierarchy{dir: dir}, nil
	}
	if _, listed := own[unified]; !listed {
		return hierarchy{}, fmt.Errorf("%w: this kernel has no controller %q", ErrUnavailable, controller)
	}
	top, err := g.mounted("cgroup2", unified)
	if err != nil {
		return hierarchy{}, err
	}
	return hierarchy{v2: true, dir: top}, handDown(top, controller)
}

// handDown makes a controller of version 2 available to the groups in dir.
func handDown(dir, controller string) error {
	if controller == unified {
		return nil
	}
	words, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("read the controllers of version 2: %w", err)
	}
	if !slices.Contains(strings.Fields(string(words)), controller) {
		return fmt.Errorf("%w: no hierarchy has the controller %q", ErrUnavailable, controller)
	}
	if err := write(dir, "cgroup.subtree_control", "+"+controller); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}

// ownGroups is the group of this process for each controller.
func ownGroups() (map[string]string, error) {
	text, err := os.ReadFile("/proc/thread-self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	groups := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		for _, controller := range strings.Split(parts[1], ",") {
			groups[controller] = parts[2]
		}
	}
	return groups, nil
}

// mounted is where the hierarchy is mounted. A namespace with a new /sys (as
// `ip netns exec` makes one) shows none; then it is mounted in a directory of
// the test's own.
func (g *Group) mounted(kind, controller string) (string, error) {
	info, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	for line := range strings.Lines(string(info)) {
		before, after, _ := strings.Cut(line, " - ")
		mount, fs := strings.Fields(before), strings.Fields(after)
		if len(mount) < 5 || len(fs) < 3 || fs[0] != kind {
			continue
		}
		if controller == unified || slices.Contains(strings.Split(fs[2], ","), controller) {
			return mount[4], nil
		}
	}
	return g.mountOwn(kind, controller)
}

func (g *Group) mountOwn(kind, controller string) (string, error) {
	dir, err := os.MkdirTemp("", "cgroup-")
	if err != nil {
		return "", fmt.Errorf("make a place for a hierarchy: %w", err)
	}
	if err := unix.Mount("none", dir, kind, unix.MS_NOSUID|unix.MS_NOEXEC|unix.MS_NODEV, controller); err != nil {
		return "", errors.Join(fmt.Errorf("%w: mount %s %s: %w", ErrUnavailable, kind, controller, err), os.Remove(dir))
	}
	g.mounts = append(g.mounts, dir)
	return dir, nil
}

// unmount puts away what mountOwn mounted.
func (g *Group) unmount() error {
	var errs []error
	for _, dir := range g.mounts {
		errs = append(errs, unix.Unmount(dir, 0), os.Remove(dir))
	}
	return errors.Join(errs...)
}

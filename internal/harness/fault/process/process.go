// Package process looks at running processes and limits them, for tests.
package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Tree is the process and all that stem from it now, by number. One of them may
// have ended by the time that the caller sees it.
func Tree(root int) ([]int, error) {
	children, err := families()
	if err != nil {
		return nil, err
	}
	tree := []int{root}
	for i := 0; i < len(tree); i++ {
		tree = append(tree, children[tree[i]]...)
	}
	slices.Sort(tree)
	return tree, nil
}

// Children are the processes that the process has started and that are there
// now, by number.
func Children(parent int) ([]int, error) {
	children, err := families()
	slices.Sort(children[parent])
	return children[parent], err
}

// families are the children of each process.
func families() (map[int][]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	children := make(map[int][]int)
	for _, name := range stats {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err != nil {
			continue
		}
		if fields := Stat(pid); len(fields) > 1 {
			parent, _ := strconv.Atoi(fields[1])
			children[parent] = append(children[parent], pid)
		}
	}
	return children, nil
}

// Alive tells whether the process runs; one that only waits for its parent to
// ask for it does not.
func Alive(pid int) bool {
	fields := Stat(pid)
	return len(fields) > 0 && fields[0] != "Z" && fields[0] != "X"
}

// Stat is what /proc/PID/stat says after the command's name, which may hold anything:
// state, parent, …; nothing if there is no such process.
func Stat(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
}

// LimitFiles sets how many files, sockets included, the running process may
// have open. Those that it has stay open. With 0 it may have as many as ever.
func LimitFiles(pid, n int) error {
	var old unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &old); err != nil {
		return fmt.Errorf("read the file limit of process %d: %w", pid, err)
	}
	// Only the soft limit: the hard one could not be raised again.
	limit := unix.Rlimit{Cur: min(uint64(n), old.Max), Max: old.Max}
	if n == 0 {
		limit.Cur = old.Max
	}
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
		return fmt.Errorf("limit process %d to %d files: %w", pid, n, err)
	}
	return nil
}

// OpenFiles is how many files the process has open, and how many it may have.
func OpenFiles(pid int) (open, limit int, err error) {
	var l unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &l); err != nil {
		return 0, 0, fmt.Errorf("read the file limit of process %d: %w", pid, err)
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return len(files), int(l.Cur), err
}

// Memory is how much memory the process has resident, in bytes.
func Memory(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, fmt.Errorf("read the memory of process %d: %w", pid, err)
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(text), &size, &resident); err != nil {
		return 0, fmt.Errorf("read the memory of process %d: %w", pid, err)
	}
	return resident * int64(os.Getpagesize()), nil
}

// ticksASecond is the unit of processor times in /proc: 100 on every Linux.
const ticksASecond = 100

// Time is how much processor time the process has used, its children apart.
func Time(pid int) (time.Duration, error) {
	fields := Stat(pid)
	if len(fields) < 13 {
		return 0, fmt.Errorf("read the processor time of process %d: it does not run", pid)
	}
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	return time.Duration(user+system) * time.Second / ticksASecond, errors.Join(err1, err2)
}

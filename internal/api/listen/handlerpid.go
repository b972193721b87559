package listen

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// maxAncestors bounds the way up from a process; nobody nests shells so deep.
const maxAncestors = 64

// IsHandler reports whether the caller is a handler's process: one that descends from this one, or, as a service of
// systemd, any other of the same service, where one that has left its parents stays.
func (c Caller) IsHandler() bool {
	if c.cred == nil || int(c.cred.Pid) == os.Getpid() {
		return false
	}
	pid := int(c.cred.Pid)
	if c.cred.Uid != 0 && int(c.cred.Uid) == os.Getuid() && parent(pid) == 0 {
		return true // It hides from its own user, under whom only handlers have a reason to.
	}
	return descends(pid, os.Getpid()) || sameService(controlGroup("self"), controlGroup(strconv.Itoa(pid)))
}

// descends reports whether a process has an ancestor.
func descends(pid, from int) bool {
	for range maxAncestors {
		if pid = parent(pid); pid == from {
			return true
		}
		if pid <= 1 {
			return false
		}
	}
	return true // So deep is nobody who has nothing to hide.
}

// parent is a process's parent, 0 if there is none or the process is gone.
func parent(pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// pid (name) state ppid …; the name may hold anything, so look behind its last bracket.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 2 {
		return 0
	}
	ppid, _ := strconv.Atoi(fields[1]) // 0 is nobody.
	return ppid
}

// controlGroup is a process's group in the unified hierarchy, "" if there is none.
func controlGroup(pid string) string {
	text, err := os.ReadFile("/proc/" + pid + "/cgroup")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			return strings.TrimSpace(path)
		}
	}
	return ""
}

// sameService reports whether a process is in the service of another. Outside of one a shared group says nothing: a
// terminal or a container has one for all.
func sameService(own, other string) bool {
	return strings.HasSuffix(own, ".service") && (other == own || strings.HasPrefix(other, own+"/"))
}

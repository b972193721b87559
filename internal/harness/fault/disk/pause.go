package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// pauseLimit is how long the threads of a process may take to stop; one may be
// in a call that cannot be interrupted.
const pauseLimit = 5 * time.Second

// pause stops the process and waits until strace has seen every thread stop,
// so that none is in a call. The returned function lets it go on, unless it
// was paused before.
func (i *Injection) pause() (goOn func()) {
	running, all := i.threads()
	if all == 0 {
		return func() {} // the process is gone
	}
	goOn = func() {}
	if running == all {
		syscall.Kill(i.pid, syscall.SIGSTOP)
		goOn = func() { syscall.Kill(i.pid, syscall.SIGCONT) }
	}
	// Without success it is let go all the same; then one call may come back wrong.
	_ = within(pauseLimit, func() error {
		if running, all := i.threads(); running > 0 {
			return fmt.Errorf("%d of %d threads of %d run", running, all, i.pid)
		}
		return nil
	})
	return goOn
}

// threads counts the process's threads that run, after strace's list, and all
// of them.
func (i *Injection) threads() (running, all int) {
	list, err := os.ReadFile(i.log())
	tasks, globErr := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", i.pid))
	if errors.Join(err, globErr) != nil {
		return 0, 0
	}
	stops := make(map[string]bool, len(tasks))
	for _, t := range tasks {
		stops[filepath.Base(t)] = false
	}
	for line := range strings.Lines(string(list)) {
		thread, what, _ := strings.Cut(line, " ")
		if _, ours := stops[thread]; !ours {
			continue // of a child, or of a thread that has ended
		}
		switch {
		case strings.Contains(what, "--- stopped by SIGSTOP"):
			stops[thread] = true
		case strings.Contains(what, "--- SIGCONT"): // to one thread, for all
			for t := range stops {
				stops[t] = false
			}
		}
	}
	for _, stopped := range stops {
		if !stopped {
			running++
		}
	}
	return running, len(tasks)
}

package scenario

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"leasehold/internal/harness/testcluster"
)

// UnreadyLimit is how long a node may be not ready, on a starved machine.
const UnreadyLimit = 10 * time.Second

// MarkVariable is in the environment of a handler and of whatever it starts.
const MarkVariable = "LEASEHOLD_TEST_RUN"

// Marked are the processes of this cluster's handlers, and those that they started: pid and name.
func Marked(c *testcluster.Cluster) []string {
	c.T.Helper()
	all, err := os.ReadDir("/proc")
	if err != nil {
		c.T.Error(err) // Not Fatal: watch calls this, too.
	}
	var found []string
	mark := MarkVariable + "=" + c.Dir
	for _, p := range all {
		if _, err := strconv.Atoi(p.Name()); err != nil {
			continue
		}
		env, err := os.ReadFile(filepath.Join("/proc", p.Name(), "environ"))
		if err != nil || !slices.Contains(strings.Split(string(env), "\x00"), mark) {
			continue // Gone, a zombie, somebody else's.
		}
		name, _ := os.ReadFile(filepath.Join("/proc", p.Name(), "comm"))
		found = append(found, p.Name()+" "+strings.TrimSpace(string(name)))
	}
	return found
}

// Watch looks at the nodes while something goes on.
type Watch struct {
	*testcluster.Cluster
	stop, done chan struct{}

	// Read after end.
	Began, Ended time.Time
	Polls        int
	Unready      map[string]time.Duration // By node: the longest time in a row.
	Left         int                      // Most processes seen that handlers had left behind.
}

// WatchNodes looks at the nodes until End, or the end of the test.
func WatchNodes(t testing.TB, c *testcluster.Cluster) *Watch {
	w := &Watch{Cluster: c, stop: make(chan struct{}), done: make(chan struct{}), Began: time.Now(),
		Unready: map[string]time.Duration{}}
	go w.run()
	t.Cleanup(w.End)
	return w
}

func (w *Watch) run() {
	defer close(w.done)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	since := map[string]time.Time{}
	for {
		select {
		case <-w.stop:
			return
		case <-tick.C:
		}
		w.Polls++
		for _, n := range w.Nodes {
			if n.Ready() == nil {
				delete(since, n.Name)
				continue
			}
			if since[n.Name].IsZero() {
				since[n.Name] = time.Now()
			}
			w.Unready[n.Name] = max(w.Unready[n.Name], time.Since(since[n.Name]))
		}
		left := 0
		for _, p := range Marked(w.Cluster) {
			if strings.HasSuffix(p, " sleep") {
				left++
			}
		}
		w.Left = max(w.Left, left)
	}
}

// End ends the watch. It may be called again.
func (w *Watch) End() {
	if w.Ended.IsZero() {
		w.Ended = time.Now()
		close(w.stop)
	}
	<-w.done
}

// Short rounds a duration for a table.
func Short(d time.Duration) time.Duration { return d.Round(10 * time.Millisecond) }

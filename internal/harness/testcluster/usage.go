package testcluster

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	proc "leasehold/internal/harness/fault/process"
)

// Usage is what the node has used in its present life.
func (n *Node) Usage() Usage {
	n.Cluster.T.Helper()
	fields := proc.Stat(n.PID())
	if len(fields) < 13 {
		n.Cluster.T.Fatalf("%s has ended", n.Name)
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return Usage{
		At: time.Now(), Ticks: user + system,
		Writes: n.ProcNumber("io", "syscw:"), RSS: n.ProcNumber("status", "VmRSS:") / 1024,
	}
}

// ProcNumber is the number behind a word in a file of /proc/PID.
func (n *Node) ProcNumber(file, word string) int {
	n.Cluster.T.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", n.PID(), file))
	if err != nil {
		n.Cluster.T.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == word {
			number, err := strconv.Atoi(fields[1])
			if err != nil {
				n.Cluster.T.Fatal(err)
			}
			return number
		}
	}
	n.Cluster.T.Fatalf("no %s in /proc/%d/%s", word, n.PID(), file)
	return 0
}

// Usage is what a process has used so far.
type Usage struct {
	At     time.Time
	Ticks  int // of CPU, user and system
	Writes int // system calls
	RSS    int // MiB
}

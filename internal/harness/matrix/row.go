// Package matrix is the fault matrix: real clusters under load, a fault of each kind that a site can have, and a judge
// of what every publisher was told and every handler was called with. Each row is a workload, a fault, what must come
// of it and within what time. `make chaos` runs rows, `make soak` runs them again and again with new seeds.
//
// A fault counts when its effect was seen: the process gone, packets dropped, an error returned. A row that proved
// nothing is inconclusive, and fails. A row that this machine cannot run says so and is counted as not run.
package matrix

import (
	"fmt"
	"math/rand/v2"
	"time"

	"leasehold/internal/harness/history"
	"leasehold/internal/harness/testcluster"
)

// Need is something of the machine that a row cannot do without.
type Need string

// What a row may need.
const (
	// Disks: each node has a file system of its own, which can be cut off from
	// power, filled and damaged.
	Disks Need = "disks"
	// Network: each node is a host of its own on a bridge.
	Network Need = "network"
	// Switched: each node is a host of its own on a switch with latency and loss.
	Switched Need = "switched network"
	// Groups: each node has a control group of its own.
	Groups Need = "control groups"
)

// Workload is what is published and how long handling takes.
type Workload struct {
	Partitions int
	Keys       int
	Rate       int // Messages a second.
	Size       int // Of each message, in bytes; 0: a few.
	Burst      int // As fast as they go, before.
	Delay      time.Duration
	RetryEvery uint64 // Every so many sequences fail at first; 0: none.
	Deaf       bool   // Handlers finish their calls although their node is gone.
}

// Workloads of the rows.
var (
	// Steady has short calls and keeps up.
	Steady = Workload{Partitions: 16, Keys: 200, Rate: 300, Delay: 2 * time.Millisecond, RetryEvery: 500}
	// Watched is a publisher whose acknowledgements are timed: often enough for a p99, and too little to keep anything
	// busy.
	Watched = Workload{Partitions: 16, Keys: 200, Rate: 100, Delay: 2 * time.Millisecond}
	// Slow has long calls, so that a fault falls into many of them.
	Slow = Workload{Partitions: 16, Keys: 200, Rate: 60, Delay: 150 * time.Millisecond}
	// Large has messages about as large as max_payload lets them be.
	Large = Workload{Partitions: 64, Keys: 200, Rate: 30, Size: 1_000_000, Delay: 300 * time.Millisecond}
	// Backlogged has every partition behind, so that each has something to call
	// the moment it may.
	Backlogged = Workload{Partitions: 32, Keys: 1009, Rate: 350, Burst: 3000, Delay: 70 * time.Millisecond}
)

// data is the payload of the i-th message, of text that does not compress to nearly nothing.
func (l Workload) data(i int, _ string) []byte {
	text := fmt.Appendf(nil, `{"n":%d`, i)
	if l.Size == 0 {
		return append(text, '}')
	}
	text = append(text, `,"pad":"`...)
	for random := rand.New(rand.NewPCG(uint64(i), 11)); len(text) < l.Size; {
		text = fmt.Appendf(text, "%016x", random.Uint64())
	}
	return append(text[:max(0, l.Size-len(`"}`))], `"}`...)
}

// Row is one line of the matrix.
type Row struct {
	// Name is how ROWS names it: lower-case words joined by dashes.
	Name string
	// Expect is what must come of it, in words.
	Expect string
	// CI: it is run in CI, as time allows.
	CI bool
	// Rounds are how many CI runs; 0: one.
	Rounds int
	Needs  []Need
	Load   Workload
	// Memory is what each node may have with its handlers, in bytes; 0: all that
	// there is. It needs Groups.
	Memory int64
	// Spec changes the cluster before it is made; nil: three nodes, defaults.
	Spec func(w *World, s *testcluster.Spec)
	// Rules changes what the history must show; nil: what fits a crash.
	Rules func(r *history.Rules)
	// Stall and Gap are how long a partition may stand still and publishes may
	// go without an acknowledgement; five times that fails the row. 0: not
	// bounded.
	Stall, Gap time.Duration
	// Found are violations that this row must have: it shows that the other rows
	// could fail.
	Found []history.Kind
	// Round strikes and heals once; the cluster has to be whole again after it,
	// which Settle waits for.
	Round func(w *World)
}

func (r Row) rounds() int { return max(1, r.Rounds) }

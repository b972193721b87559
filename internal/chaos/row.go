// Package chaos is the fault matrix: real clusters under load, a fault of each kind that a site can have, and a judge of what
// every publisher was told and every handler was called with. Each row is a workload, a fault, what must come of it and
// within what time. `make chaos` runs rows, `make soak` runs them again and again with new seeds.
//
// A fault counts when its effect was seen: the process gone, packets dropped, an error returned. A row that proved nothing is
// inconclusive, and fails. A row that this machine cannot run says so and is counted as not run.
package chaos

import (
	"time"

	"leasehold/internal/history"
	"leasehold/internal/testcluster"
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
	Burst      int // As fast as they go, before.
	Delay      time.Duration
	RetryEvery uint64 // Every so many sequences fail at first; 0: none.
	Deaf       bool   // Handlers finish their calls although their node is gone.
}

// Workloads of the rows.
var (
	// Steady has short calls and keeps up.
	Steady = Workload{Partitions: 16, Keys: 200, Rate: 300, Delay: 2 * time.Millisecond, RetryEvery: 500}
	// Slow has long calls, so that a fault falls into many of them.
	Slow = Workload{Partitions: 16, Keys: 200, Rate: 60, Delay: 150 * time.Millisecond}
	// Backlogged has every partition behind, so that each has something to call
	// the moment it may.
	Backlogged = Workload{Partitions: 32, Keys: 1009, Rate: 350, Burst: 3000, Delay: 70 * time.Millisecond}
)

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

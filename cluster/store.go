// Package cluster keeps a node's session and its leases: it drives the protocol of cluster/lease with real clocks, a
// real store and real lanes. DESIGN.md says what it promises, what it does not, and why it is safe.
package cluster

import (
	"context"
	"errors"

	"leasehold/cluster/lease"
	"leasehold/internal/ownership"
)

// ErrConflict: a compare-and-set was refused. That does not prove that another node has written: the server also
// refuses while another write to the key is in flight, and a write of ours that timed out may have landed.
var ErrConflict = errors.New("the record is not at that revision")

// Store keeps the records that ownership rests on. Implementations are safe for concurrent use and retry nothing.
type Store interface {
	// Write does one compare-and-set and returns the new revision. After any error the outcome is unknown: the write
	// may have landed or may still land. It returns when ctx ends.
	Write(ctx context.Context, w lease.Write) (uint64, error)

	// Read returns a record as some replica has it, which may be stale. Revision 0: there is none.
	Read(ctx context.Context, k lease.Key) (lease.Observed, error)

	// Sessions returns every session record that some replica has, and the groups' commands.
	Sessions(ctx context.Context) ([]lease.Observed, error)

	// Leases returns a group's lease records that some replica has, in any order; those never written are left out.
	Leases(ctx context.Context, group string, partitions int) ([]lease.Observed, error)

	// Announce sends a record to the other nodes, at most once.
	Announce(lease.Observed)

	// Listen calls f with the announcements of other nodes until ctx ends. f must not block.
	Listen(ctx context.Context, f func(lease.Observed)) error
}

// Lane is the work of one lease that this node owns. Its methods do not block and may be called from any goroutine,
// also after the lane has stopped.
type Lane interface {
	Drain()                   // Finish the call in flight and stop.
	Cancel(cause error)       // End the call in flight and stop at once.
	Stopped() <-chan struct{} // Closed when nothing runs for the lane any more.

	// Progress returns how far the lane has come, which never goes back. Urgent: the lane waits until it is stored.
	Progress() (p ownership.Progress, urgent bool)
	// Committed says how much of the progress is stored.
	Committed(ownership.Progress)
}

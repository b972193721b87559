package peers

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"

	"leasehold/cluster/lease"
	"leasehold/internal/api"
	"leasehold/server/disk"
	"leasehold/worker/header"
	"leasehold/worker/lane"
)

// reportWait is how long a status waits for what the other nodes report.
const reportWait = 400 * time.Millisecond

// Report is what one node says of itself.
type Report struct {
	Node  string            `json:"node"`
	Ready bool              `json:"ready"`
	Lanes map[string][]Lane `json:"lanes"` // By group.
	Disk  Disk              `json:"disk"`

	Refused []api.Refused `json:"refused,omitempty"`

	LogDropped uint64 `json:"log_dropped,omitempty"`
	LogStuck   bool   `json:"log_stuck,omitempty"`
}

// Lane is the state of one lane.
type Lane struct {
	Partition int    `json:"p"`
	Epoch     uint64 `json:"epoch"`
	Done      uint64 `json:"done"`
	Lag       *int64 `json:"lag"`
	Passed    uint64 `json:"passed,omitempty"`
	State     string `json:"state"`
	Attempt   int    `json:"attempt"`
	Error     string `json:"error,omitempty"`
	RetryAt   string `json:"retry_at,omitempty"`
	Parked    int    `json:"parked,omitempty"`
	Release   string `json:"release,omitempty"`
}

// NewLane is what a node reports of one of its lanes.
func NewLane(l lane.Status) Lane {
	out := Lane{
		Partition: l.Partition, Epoch: l.Epoch, Done: l.Checkpoint, State: l.State, Attempt: l.Attempt, Error: l.Error,
		RetryAt: header.TimeText(l.RetryAt), Parked: l.Parked, Passed: l.Passed, Release: l.Unreleased,
	}
	if l.Lag != nil {
		lag := int64(*l.Lag)
		out.Lag = &lag
	}
	return out
}

// LagOf is the lag that the lane reports, but nil, which is unknown, where it reports 0 and has not passed last, the
// topic's last sequence before it was asked: then the replica that it reads from is behind.
func (l Lane) LagOf(last uint64) *int64 {
	if behind := l.Passed > 0 && l.Passed < last; behind && l.Lag != nil && *l.Lag == 0 {
		return nil
	}
	return l.Lag
}

// Undisturbed reports whether there is nothing about the lane that a resume would change.
func (l Lane) Undisturbed() bool {
	return l.Attempt == 0 && (l.State == lane.StateHeld || l.State == lane.StateStarting || l.State == lane.StateReleasing)
}

// Disk is what a node reports of its disk. Sizes are bytes.
type Disk struct {
	Free       uint64  `json:"free"`
	MinFree    uint64  `json:"min_free"`
	Short      bool    `json:"short"`
	FsyncP99MS float64 `json:"fsync_p99_ms"`
	SlowFsync  bool    `json:"slow_fsync"`
}

// NewDisk is what a node reports of its disk.
func NewDisk(s disk.State) Disk {
	return Disk{
		Free: s.Free, MinFree: s.MinFree, Short: s.Short,
		FsyncP99MS: float64(s.FsyncP99.Microseconds()) / 1000, SlowFsync: s.SlowFsync,
	}
}

// Reports asks as many live nodes what they report of themselves, and returns it by node. A node that does not answer
// in time is left out.
func Reports(ctx context.Context, nc *nats.Conn, live int) map[string]Report {
	reports := map[string]Report{}
	for _, r := range Ask[Report](ctx, nc, Question{Subject: StatusSubject, Answers: live, Wait: reportWait}) {
		reports[r.Node] = r
	}
	return reports
}

// Live lists the nodes whose session is live.
func Live(view lease.View) (names []string) {
	for _, rec := range view.Sessions {
		if rec.State == lease.Live {
			names = append(names, rec.Node)
		}
	}
	return names
}

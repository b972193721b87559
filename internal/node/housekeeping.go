package node

import (
	"context"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go/jetstream"

	"leasehold/cluster"
	"leasehold/internal/ownership"
	"leasehold/internal/registry"
	"leasehold/partitioner"
	"leasehold/partitioner/stream"
)

// housekeeping is the lane of a topic's housekeeping lease: something that runs until it is stopped, without progress
// to store.
type housekeeping struct {
	cancel  context.CancelFunc
	stopped chan struct{}
}

func startHousekeeping(run func(context.Context)) *housekeeping {
	ctx, cancel := context.WithCancel(context.Background())
	h := &housekeeping{cancel: cancel, stopped: make(chan struct{})}
	go func() { // joined by the driver, which waits for Stopped
		defer close(h.stopped)
		run(ctx)
	}()
	return h
}

func (h *housekeeping) Drain()                               { h.cancel() }
func (h *housekeeping) Cancel(error)                         { h.cancel() }
func (h *housekeeping) Stopped() <-chan struct{}             { return h.stopped }
func (h *housekeeping) Progress() (ownership.Progress, bool) { return ownership.Progress{}, false }
func (h *housekeeping) Committed(ownership.Progress)         {}

// refusedLane is the lane of a partition that this node has claimed and must not work on. It waits to be taken away.
type refusedLane struct {
	*housekeeping
	progress ownership.Progress
}

func startRefused(g ownership.Grant) cluster.Lane {
	return &refusedLane{housekeeping: startHousekeeping(func(ctx context.Context) { <-ctx.Done() }), progress: g.Progress}
}

func (l *refusedLane) Progress() (ownership.Progress, bool) { return l.progress, false }

// janitorEvery is how often finished messages are purged.
const janitorEvery = 5 * time.Second

// newJanitor builds the housekeeping of a topic. The groups that hold a purge back are those that the topic's record
// names, and the floor is stored on the very revision that named them: a group that joins in between makes the purge
// fail, however stale the read was that did not show it.
func newJanitor(t partitioner.Topic, r *registry.Registry, js jetstream.JetStream, log hclog.Logger) *stream.Janitor {
	record := r.Topic(t.Name)
	var def registry.Topic // Of the latest Finished; one goroutine calls both.
	return &stream.Janitor{
		Topic: t, JS: js, Every: janitorEvery, Logger: log.Named("janitor"),
		Finished: func(ctx context.Context) (f stream.Finished, ok bool, err error) {
			if def, f.Revision, err = record.Read(ctx); err != nil || f.Revision == 0 {
				return f, false, err
			}
			f.Retain = def.Retain
			f.Seq, ok, err = r.Finished(ctx, def.Groups, t.Partitions)
			return f, ok, err
		},
		Record: func(ctx context.Context, f stream.Finished, floor uint64) error {
			def.Floor = max(def.Floor, floor)
			return record.Put(ctx, f.Revision, def)
		},
	}
}

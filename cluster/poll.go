package cluster

import (
	"context"
	"sync"

	"leasehold/cluster/lease"
	"leasehold/internal/every"
)

// leasePolls is the number of renewals between two complete reads of the leases. Announcements show nearly every change
// earlier; this is for those that were lost.
const leasePolls = 5

// listen takes in the announcements of other nodes.
func (d *Driver) listen(ctx context.Context) {
	for ctx.Err() == nil {
		if err := d.o.Store.Listen(ctx, func(s lease.Observed) { d.inbox.put(s) }); err != nil && ctx.Err() == nil {
			d.log.Warn("announcement subscription failed", "error", err)
			every.Sleep(ctx, d.o.Lease.Renew)
		}
	}
}

// poll reads everything once, then the sessions twice a renewal and the leases every leasePolls renewals.
func (d *Driver) poll(ctx context.Context) {
	for !d.readAll(ctx) {
		if !every.Sleep(ctx, d.o.Lease.Renew/5) {
			return
		}
	}
	d.inbox.put(lease.Synced{})
	for round := 1; every.Sleep(ctx, d.o.Lease.Renew/2); round++ {
		if round%(2*leasePolls) == 0 {
			d.readAll(ctx)
		} else {
			d.readSessions(ctx)
		}
	}
}

func (d *Driver) readSessions(ctx context.Context) bool {
	return d.readRecords(ctx, "sessions", d.o.Store.Sessions)
}

func (d *Driver) readAll(ctx context.Context) bool {
	ok := d.readSessions(ctx)
	for _, g := range d.o.Lease.Groups {
		ok = ok && d.readRecords(ctx, g.Name, func(ctx context.Context) ([]lease.Observed, error) {
			return d.o.Store.Leases(ctx, g.Name, g.Partitions)
		})
	}
	return ok
}

func (d *Driver) readRecords(ctx context.Context, what string,
	read func(context.Context) ([]lease.Observed, error)) bool {
	ctx, cancel := context.WithTimeout(ctx, 4*d.o.Lease.WriteLimit)
	defer cancel()
	observed, err := read(ctx)
	for _, s := range observed {
		d.inbox.put(s)
	}
	if err != nil && ctx.Err() == nil {
		d.log.Debug("reading records failed", "what", what, "error", err)
	}
	return err == nil
}

// inbox is the loop's queue. It has no bound, because whatever reports to the loop must never wait for it. The number
// of leases and writes bounds what is put there.
type inbox struct {
	filled chan struct{} // Holds a token while items may be there.

	mu    sync.Mutex
	items []any
}

func newInbox() *inbox { return &inbox{filled: make(chan struct{}, 1)} }

func (q *inbox) put(item any) {
	q.mu.Lock()
	q.items = append(q.items, item)
	q.mu.Unlock()
	select {
	case q.filled <- struct{}{}:
	default:
	}
}

func (q *inbox) drain() []any {
	q.mu.Lock()
	defer q.mu.Unlock()
	items := q.items
	q.items = nil
	return items
}

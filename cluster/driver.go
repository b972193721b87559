package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"leasehold/cluster/lease"
	"leasehold/internal/failpoint"
	"leasehold/internal/ownership"
)

// Options are what a driver needs from its node.
type Options struct {
	Lease lease.Config
	Store Store
	Clock Clock

	// SaveBoot syncs the boot number to disk.
	SaveBoot func(boot uint64) error
	// Start starts a lane. It must not block.
	Start func(ownership.Grant) Lane
	// CommitInterval is how often the checkpoints of a group's lanes are stored.
	CommitInterval func(group string) time.Duration
	// Terminate ends the process at once, with the handler's children. It is called when a lane does not stop in time.
	Terminate func(reason string)

	Logger hclog.Logger
}

// Driver runs the protocol for one node: one goroutine decides, others do what may block and report to it.
type Driver struct {
	o        Options
	core     *lease.Core // Owned by the loop.
	watchdog *watchdog
	log      hclog.Logger

	inbox         *inbox
	io            sync.WaitGroup // Every goroutine but the loop.
	ctx           context.Context
	lanes         map[lease.Key]*runningLane // Owned by the loop.
	reading       map[lease.Key]bool         // Reads in flight; owned by the loop.
	lastCollected map[string]lease.Time      // When a group's progress was last collected; owned by the loop.
	lanesJoined   chan struct{}              // Closed once the last lane is joined.
	result        error
	ended         bool
}

// runningLane is a lane and the epoch it runs under.
type runningLane struct {
	Lane
	epoch uint64
	last  ownership.Progress // As last fed to the core.
}

// Inputs of the loop beside the core's.
type (
	laneWoke  struct{ key lease.Key }
	call      struct{ f func(*lease.Core) }
	readEnded struct{ key lease.Key } // A read has ended, with or without an error.
)

// New returns a driver that does nothing until Run.
func New(o Options) *Driver {
	return &Driver{
		o: o, core: lease.New(o.Lease), log: o.Logger,
		watchdog:    newWatchdog(o.Clock, o.Lease.Margin, o.Terminate),
		inbox:       newInbox(),
		lanesJoined: make(chan struct{}),
		lanes:       map[lease.Key]*runningLane{}, reading: map[lease.Key]bool{},
		lastCollected: map[string]lease.Time{},
	}
}

// Run takes part until ctx ends, then hands everything over, ends the session and returns nil. It returns an error if
// this node must not continue. No lane runs after it has returned.
func (d *Driver) Run(ctx context.Context) error {
	// I/O and the watchdog keep running while the loop hands over, so they end with the loop and not with ctx.
	io, cancel := context.WithCancel(context.WithoutCancel(ctx))
	d.ctx = io
	d.io.Go(func() { d.watchdog.run(io) })
	d.io.Go(func() { d.listen(io) })
	d.io.Go(func() { d.poll(io) })
	d.loop(ctx)
	d.joinLanes()
	close(d.lanesJoined)
	cancel()
	d.io.Wait()
	return d.result
}

// Snapshot returns what the loop knows, or an error if ctx ends first.
func (d *Driver) Snapshot(ctx context.Context) (lease.View, error) {
	view := make(chan lease.View, 1)
	d.inbox.put(call{func(c *lease.Core) { view <- c.View() }})
	select {
	case v := <-view:
		return v, nil
	case <-ctx.Done():
		return lease.View{}, fmt.Errorf("read the state of the leases: %w", ctx.Err())
	}
}

// Observe takes in a record that this node itself has just written or read.
func (d *Driver) Observe(obs lease.Observed) { d.inbox.put(obs) }

// Isolated says that the connections to all other nodes have ended. When it returns, no call starts any more, and lanes
// are being cancelled. They resume once a renewal that is sent from now on is answered. It does not block.
func (d *Driver) Isolated() { d.inbox.put(d.watchdog.isolated()) }

// Witness takes in the proof that the process which wrote this session record is gone. The proof was found after the
// record had been read; by names the other nodes that confirmed it.
func (d *Driver) Witness(obs lease.Observed, by []string) {
	d.inbox.put(obs)
	d.inbox.put(lease.Witnessed{Node: obs.Key.Node, ServerID: obs.Session.ServerID, Revision: obs.Revision, By: by})
}

// Abort cancels every lane at once without handing over, and returns when all are joined. Run then returns err.
func (d *Driver) Abort(err error) {
	d.inbox.put(call{func(*lease.Core) { d.result, d.ended = err, true }})
	<-d.lanesJoined
}

// loop feeds the core. It is the only goroutine that touches it, and does nothing that blocks.
//
//nolint:contextcheck // I/O ends with d.ctx, which outlives ctx: the handover that the end of ctx begins needs it.
func (d *Driver) loop(ctx context.Context) {
	tick := time.NewTicker(d.o.Lease.Renew / 10)
	defer tick.Stop()
	gather := time.NewTicker(d.shortestInterval())
	defer gather.Stop()
	stop := ctx.Done()
	for !d.ended {
		select {
		case <-stop:
			stop = nil
			d.log.Info("handing over leases")
			d.step(lease.Stop{})
		case <-tick.C:
			d.step(lease.Tick{})
		case <-gather.C:
			d.collectProgress()
		case <-d.inbox.filled:
			for _, in := range d.inbox.drain() {
				d.handle(in)
			}
		}
	}
}

func (d *Driver) handle(in any) {
	switch in := in.(type) {
	case lease.Input:
		if s, ok := in.(lease.Stopped); ok {
			d.dropLane(s.Key, s.Epoch)
		}
		d.step(in)
	case laneWoke:
		if l := d.lanes[in.key]; l != nil {
			d.feedProgress(in.key, l)
		}
	case readEnded:
		delete(d.reading, in.key)
	case call:
		in.f(d.core)
	}
}

func (d *Driver) step(in lease.Input) {
	if d.ended {
		return
	}
	for _, a := range d.core.Step(d.o.Clock.Now(), in) {
		d.act(a)
	}
}

func (d *Driver) act(a lease.Action) {
	switch a := a.(type) {
	case lease.Write:
		d.io.Go(func() { d.write(a) })
	case lease.Read:
		d.startRead(a.Key)
	case lease.SaveBoot:
		d.io.Go(func() { d.saveBoot(a.Boot) })
	case lease.Fence:
		d.watchdog.setFence(a)
	case lease.Start:
		d.start(a)
	case lease.Drain:
		if l := d.lanes[a.Key]; l != nil {
			l.Drain()
		}
	case lease.Cancel:
		d.cancel(a)
	case lease.Committed:
		if l := d.lanes[a.Key]; l != nil && l.epoch == a.Epoch {
			l.Committed(a.Progress)
		}
	case lease.Alarm:
		d.log.Error("record in the bucket was not written by a node", "key", a.Key.String(), "revision", a.Revision,
			"fault", a.Text)
	case lease.Exit:
		d.result, d.ended = a.Err, true
	case lease.Finished:
		d.ended = true
	}
}

// write carries out one compare-and-set and reports its outcome to the core, exactly once.
func (d *Driver) write(w lease.Write) {
	ctx, cancel := context.WithTimeout(d.ctx, d.o.Lease.WriteLimit)
	defer cancel()
	rev, err := d.o.Store.Write(ctx, w)
	if err == nil {
		hitFailpoint(w)
	}
	d.inbox.put(lease.WriteDone{ID: w.ID, OK: err == nil, Revision: rev})
	if err != nil {
		d.log.Debug("write outcome unknown", "key", w.Key.String(), "revision", w.Revision, "error", err)
		return
	}
	d.logWrite(w, rev)
	if w.Announce {
		d.o.Store.Announce(lease.Observed{Key: w.Key, Revision: rev, Session: w.Session, Lease: w.Lease})
	}
}

func (d *Driver) logWrite(w lease.Write, rev uint64) {
	switch {
	case !w.Announce:
	case w.Session != nil && w.Session.State == lease.Dead:
		d.log.Warn("node declared dead", "node", w.Session.Node, "boot", w.Session.Boot, "reason", deathReason(w))
	case w.Session != nil:
		d.log.Info("session written", "node", w.Session.Node, "boot", w.Session.Boot, "state", w.Session.State,
			"leaving", w.Session.Leaving)
	case w.Lease.Owner == "":
		d.log.Debug("lease handed over", "key", w.Key.String(), "checkpoint", w.Lease.Checkpoint,
			"successor", w.Lease.Successor)
	default:
		d.log.Debug("lease claimed", "key", w.Key.String(), "epoch", w.Lease.Epoch, "checkpoint", w.Lease.Checkpoint,
			"revision", rev)
	}
}

func deathReason(w lease.Write) string {
	if len(w.Witnesses) == 0 {
		return fmt.Sprintf("silent for %v", w.Session.TTL)
	}
	return "process gone, confirmed by this node and " + strings.Join(w.Witnesses, ", ")
}

// startRead reads one record, unless a read of it is in flight. That read may be older than what prompted this one, but
// any read may be stale, and the next write of unknown outcome asks for another.
func (d *Driver) startRead(k lease.Key) {
	if d.reading[k] {
		return
	}
	d.reading[k] = true
	d.io.Go(func() {
		defer d.inbox.put(readEnded{k})
		ctx, cancel := context.WithTimeout(d.ctx, d.o.Lease.WriteLimit)
		defer cancel()
		if obs, err := d.o.Store.Read(ctx, k); err == nil {
			d.inbox.put(obs)
		}
	})
}

func (d *Driver) saveBoot(boot uint64) {
	if err := d.o.SaveBoot(boot); err != nil {
		d.inbox.put(call{func(*lease.Core) {
			d.result, d.ended = fmt.Errorf("save boot number %d: %w", boot, err), true
		}})
		return
	}
	d.inbox.put(lease.SavedBoot{Boot: boot})
}

// hitFailpoint is the place where a write has landed and this node does not know it yet.
func hitFailpoint(w lease.Write) {
	switch {
	case w.Session != nil && w.Session.State == lease.Ended:
		failpoint.Hit(failpoint.Ended)
	case w.Session != nil:
		failpoint.Hit(failpoint.Renewed)
	case w.Lease.Owner == "":
		failpoint.Hit(failpoint.HandedOver)
	case w.Announce && w.Lease.Applied > 0:
		failpoint.Hit(failpoint.Asked)
	case w.Announce:
		failpoint.Hit(failpoint.Claimed)
	case w.Lease.Attempt > 0:
		failpoint.Hit(failpoint.AttemptKept)
	}
}

func (d *Driver) start(a lease.Start) {
	l, w := &runningLane{epoch: a.Epoch, last: a.Progress}, &watched{}
	grant := a.Grant
	grant.MayStart = func() bool { return d.watchdog.mayStart(w) }
	grant.Wake = func() { d.inbox.put(laneWoke{a.Key}) }
	l.Lane = d.o.Start(grant)
	d.lanes[a.Key], w.Lane = l, l.Lane
	d.watchdog.add(a.Key, w)
	d.io.Go(func() {
		<-l.Stopped()
		d.watchdog.remove(a.Key)
		p, _ := l.Progress()
		d.inbox.put(lease.Stopped{Key: a.Key, Epoch: a.Epoch, Progress: p})
	})
	d.log.Debug("lane started", "key", a.Key.String(), "epoch", a.Epoch, "checkpoint", a.Checkpoint)
}

func (d *Driver) cancel(a lease.Cancel) {
	l := d.lanes[a.Key]
	if l == nil {
		return
	}
	l.Cancel(a.Cause)
	if errors.Is(a.Cause, lease.ErrFenced) {
		d.log.Warn("lane fenced", "key", a.Key.String(), "epoch", l.epoch)
	}
}

// dropLane drops a lane that is joined.
func (d *Driver) dropLane(k lease.Key, epoch uint64) {
	if l := d.lanes[k]; l != nil && l.epoch == epoch {
		delete(d.lanes, k)
	}
}

// collectProgress feeds the core with the progress of the groups that are due.
func (d *Driver) collectProgress() {
	now := d.o.Clock.Now()
	due := map[string]bool{}
	for _, g := range d.o.Lease.Groups {
		if interval := d.o.CommitInterval(g.Name); now-d.lastCollected[g.Name] >= interval-interval/10 {
			due[g.Name], d.lastCollected[g.Name] = true, now
		}
	}
	for k, l := range d.lanes {
		if due[k.Group] {
			d.feedProgress(k, l)
		}
	}
}

func (d *Driver) feedProgress(k lease.Key, l *runningLane) {
	if p, _ := l.Progress(); p != l.last {
		l.last = p
		d.step(lease.Progressed{Key: k, Epoch: l.epoch, Progress: p})
	}
}

func (d *Driver) shortestInterval() time.Duration {
	shortest := d.o.Lease.Renew
	for _, g := range d.o.Lease.Groups {
		shortest = min(shortest, d.o.CommitInterval(g.Name))
	}
	return shortest
}

// joinLanes ends the lanes that still run when the loop has ended for a reason other than a clean stop. The watchdog
// keeps running and ends the process if a lane does not stop.
func (d *Driver) joinLanes() {
	d.watchdog.fence.Store(int64(d.o.Clock.Now()))
	for _, l := range d.watchdog.running() {
		l.Cancel(lease.ErrDeclaredDead)
	}
	for _, l := range d.lanes {
		<-l.Stopped()
	}
}

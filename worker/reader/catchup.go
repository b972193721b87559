package reader

import (
	"context"
	"time"

	"leasehold/worker/stream"
)

const (
	// maxDwell is how long the catch-up reader stays with the lanes it feeds before it goes back for one that waits
	// further down, so that a slow lane far behind and fast ones ahead of it both get on.
	maxDwell = 300 * time.Millisecond
	// maxDwellFresh is the same while a lane waits that has not been fed yet: the others have full queues. It is long
	// enough for lanes of the same hand-over to be fed together.
	maxDwellFresh = 20 * time.Millisecond
	// skipThreshold is up to how many unwanted messages are read rather than skipped: a jump costs a new consumer.
	skipThreshold = 5 * stream.PullBatch
	// holdTicks is how many ticks a consumer is kept while no lane has room.
	holdTicks = 20
)

// action is what the catch-up reader does next.
type action struct {
	kind actionKind
	to   uint64 // Where a jump goes.
}

type actionKind int

const (
	actionRest actionKind = iota // Nobody lags: no consumer.
	actionHold                   // Nobody has room: read no further, but keep the consumer for a while.
	actionRead                   // Continue reading.
	actionJump                   // Read from somewhere else.
)

// catchUp is the reader of the lanes that lag. Its goroutine owns it.
type catchUp struct {
	*scanner
	// The message before pos, for a lane that had no room for it when nobody else did either.
	last             stream.Entry
	dwellingSince    time.Time // When its turn began.
	ticksHeld        int       // Ticks that it has been holding.
	ticksWithoutData int       // Ticks since the last message.
}

// runCatchUp feeds the lanes that are behind. It reads upwards from the lowest of them and feeds all that it passes. A
// lane whose queue is full stays behind; the reader comes back for it once it has room. Stretches that no lane needs
// are skipped.
func (r *Reader) runCatchUp(ctx context.Context) {
	c := &catchUp{scanner: &scanner{r: r, name: "catch-up", wake: r.wake}}
	c.sink = c
	defer c.close()
	for ctx.Err() == nil {
		c.replan = false
		if err := c.execute(ctx, c.plan(time.Now())); err != nil {
			c.close()
			c.pauseAfter(ctx, err)
		}
	}
}

// execute carries out an action until the plan may change.
func (c *catchUp) execute(ctx context.Context, to action) error {
	switch to.kind {
	case actionRest:
		c.close()
		c.last = stream.Entry{}
		c.awaitChange(ctx, nil)
		return nil
	case actionHold:
		return c.hold(ctx)
	case actionJump:
		return c.jump(ctx, to.to)
	default:
		return c.follow(ctx)
	}
}

// awaitChange waits until the lanes may need something else, or for tick.
func (c *catchUp) awaitChange(ctx context.Context, tick <-chan time.Time) {
	select {
	case <-ctx.Done():
	case <-c.wake:
	case <-tick:
		c.ticksHeld++
	}
}

// hold reads nothing. Messages that were already asked for wait in the consumer.
func (c *catchUp) hold(ctx context.Context) error {
	if c.consumer == nil {
		c.awaitChange(ctx, nil)
		return nil
	}
	t := time.NewTimer(stream.TickInterval)
	defer t.Stop()
	c.awaitChange(ctx, t.C)
	if c.ticksHeld >= holdTicks {
		c.close()
	}
	return nil
}

// jump opens a consumer at another place.
func (c *catchUp) jump(ctx context.Context, to uint64) error {
	c.close()
	c.detachAll(to)
	c.last = stream.Entry{}
	c.dwellingSince, c.ticksHeld, c.ticksWithoutData = time.Now(), 0, 0
	if err := c.open(ctx, to); err != nil {
		return err
	}
	c.plan(c.dwellingSince) // Attaches lanes before a gap at the start is filled.
	return c.fill(ctx, c.consumer.Start)
}

// detachAll notes for every lane how far it has been fed, and moves the reader to a position.
func (c *catchUp) detachAll(to uint64) {
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	for _, f := range c.r.cursors {
		if f.attached {
			f.next, f.attached = max(f.next, c.pos), false
		}
	}
	c.pos = to
}

// plan decides where to read.
func (c *catchUp) plan(now time.Time) action {
	r := c.r
	r.mu.Lock()
	defer r.mu.Unlock()
	near, low, some, fresh := c.attachLanes()
	limit := maxDwell
	if fresh {
		limit = maxDwellFresh
	}
	switch {
	case r.behind == 0:
		return action{kind: actionRest}
	case !some:
		return action{kind: actionHold}
	case c.consumer == nil:
		return action{kind: actionJump, to: min(near, low)}
	case near == none || low != none && now.Sub(c.dwellingSince) >= limit:
		return action{kind: actionJump, to: low}
	case near-c.pos > skipThreshold:
		return action{kind: actionJump, to: near}
	}
	c.ticksHeld = 0
	return action{kind: actionRead}
}

// none stands for no sequence.
const none = ^uint64(0)

// attachLanes hands lanes that have come that far over to the tail, and attaches those that the reader will pass. It
// returns the lowest sequence needed by a lane that it feeds (near), and by a lane with room that it has already passed
// (low); whether there are such lanes (some), and whether one of the latter has never been fed (fresh). Reader.mu is
// held.
func (c *catchUp) attachLanes() (near, low uint64, some, fresh bool) {
	near, low = none, none
	for _, f := range c.r.cursors {
		if f.feeder != byCatchUp || f.full || c.r.joinTail(f, c.pos) || f.full {
			continue
		}
		some = true
		if c.consumer != nil && !f.attached {
			f.attached = f.next >= c.pos || c.pushLast(f)
		}
		if f.attached {
			near, f.fed = min(near, max(f.next, c.pos)), true
		} else {
			low, fresh = min(low, f.next), fresh || !f.fed
		}
	}
	c.flush()
	return near, low, some, fresh
}

// pushLast gives a lane the message before pos, if it lacks only that one. So a single lane that lags is fed from one
// consumer, however often its queue is full: BenchmarkLoneLag opens 27 without this, and reads a third as fast (with a
// handler that returns at once).
func (c *catchUp) pushLast(f *Cursor) bool {
	if c.last.Seq != f.next || f.next+1 != c.pos {
		return false
	}
	if c.r.partitionOf(c.last.Subject) == f.partition && !c.push(f, &c.last) {
		return false
	}
	f.next = c.pos
	return true
}

// deliver gives a message to the lanes it feeds.
func (c *catchUp) deliver(e *stream.Entry) {
	r := c.r
	p := r.partitionOf(e.Subject)
	r.mu.Lock()
	defer r.mu.Unlock()
	c.ticksWithoutData = 0
	c.pos = e.Seq + 1
	if p >= 0 {
		for _, f := range r.byPartition[p] {
			if !f.attached || f.next > e.Seq {
				continue
			}
			r.passGap(f)
			if !c.push(f, e) {
				f.attached, f.full, f.next = false, true, e.Seq
				c.last, c.replan = *e, true
			}
		}
	}
	if c.pos >= r.tailPos && r.tailPos > 0 {
		c.replan = true
	}
}

// skip passes sequences that were purged. The lanes that wait below have nothing to wait for there either.
func (c *catchUp) skip(to uint64) {
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	from := c.pos
	c.pos = to
	for _, f := range c.r.cursors {
		if f.feeder == byCatchUp && f.next >= from {
			f.next = max(f.next, to)
		}
	}
	c.replan = true
}

// missing stops the lanes that need the message at pos, and moves past it.
func (c *catchUp) missing(text string) {
	r := c.r
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.cursors {
		if f.feeder == byCatchUp && (f.attached || f.next == c.pos) && f.next <= c.pos {
			r.stopAtGap(f, c.pos, text)
		}
	}
	c.pos++
	c.replan = true
}

// tick looks after the consumer, and notices that a turn is over.
func (c *catchUp) tick() error {
	c.ticksWithoutData++
	c.replan = true
	c.r.mu.Lock()
	waiting := c.pos < c.r.tailPos
	c.r.mu.Unlock()
	// The server says nothing about messages that were purged before it delivered them: a new consumer will tell.
	if waiting && c.ticksWithoutData >= stream.SilentTicks {
		return stream.ErrSilent
	}
	return c.consumer.Tick()
}

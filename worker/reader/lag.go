package reader

import (
	"context"
	"slices"
	"time"

	"leasehold/worker/stream"
)

const (
	idleEvery = time.Second
	lagEvery  = 3 * time.Second
	lagBudget = 500 * time.Millisecond // For one round of counting, however many lanes lag.
	lagValid  = 30 * time.Second       // After which a count is out of date.
)

// runIdle lets the checkpoint of lanes with nothing to do follow the tail, and lets lanes look again for what is
// missing.
func (r *Reader) runIdle(ctx context.Context) {
	tick := time.NewTicker(idleEvery)
	defer tick.Stop()
	for from := 0; ; {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			r.retryGaps(now)
			from = r.moveIdle(from, now)
		}
	}
}

// moveIdle moves the checkpoints of idle lanes, beginning with lane number from, until the node's limit is reached. It
// returns where to begin the next time, so that every lane has its turn.
func (r *Reader) moveIdle(from int, now time.Time) int {
	lanes, position := r.atTail()
	pressed := r.Pressure()
	for i := range lanes {
		l := lanes[(from+i)%len(lanes)]
		if !l.MayIdle(position, now, pressed) {
			continue
		}
		if !r.IdleWrites.Allow() {
			return (from + i) % len(lanes)
		}
		l.IdleTo(position)
	}
	return from
}

// atTail returns the lanes that the tail feeds, and the last sequence that it has passed: read at the same time, so
// that every message up to position has been pushed to the lanes returned.
func (r *Reader) atTail() (lanes []Lane, position uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.tailPos == 0 {
		return nil, 0
	}
	for _, f := range r.cursors {
		if f.feeder == byTail {
			lanes = append(lanes, f.lane)
		}
	}
	return lanes, r.tailPos - 1
}

// Lag returns how many messages the lane has not finished, nil if that is unknown; and for a lane at the tail the last
// sequence of the topic that the tail has passed, otherwise 0.
func (f *Cursor) Lag(now time.Time) (lag *uint64, passed uint64) {
	r := f.reader
	r.mu.Lock()
	defer r.mu.Unlock()
	backlog := f.lane.Backlog()
	if f.feeder == byTail {
		passed = max(r.tailPos, 1) - 1
		if !r.tailOpen {
			return nil, passed
		}
		return &backlog, passed
	}
	if f.lagAt.IsZero() || now.Sub(f.lagAt) > lagValid {
		return nil, 0
	}
	// A count that has become old may not pass for "nothing left": that is only known at the tail.
	if backlog = max(f.lag, backlog); backlog == 0 {
		return nil, 0
	}
	return &backlog, 0
}

// runLag counts the messages that lagging lanes have not finished.
func (r *Reader) runLag(ctx context.Context) {
	tick := time.NewTicker(lagEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			r.countLags(ctx)
		}
	}
}

// countLags counts for as many lanes as its budget allows, beginning with those whose count is oldest.
func (r *Reader) countLags(ctx context.Context) {
	begun := time.Now()
	for _, f := range r.lagging() {
		if ctx.Err() != nil || time.Since(begun) > lagBudget {
			return
		}
		lag, err := stream.CountPartition(ctx, r.JS, r.Topic, f.partition, f.lane.Checkpoint()+1)
		r.mu.Lock()
		f.lagTried = time.Now()
		if err == nil {
			f.lag, f.lagAt = lag, f.lagTried
		}
		r.mu.Unlock()
	}
}

func (r *Reader) lagging() []*Cursor {
	r.mu.Lock()
	defer r.mu.Unlock()
	var lagging []*Cursor
	for _, f := range r.cursors {
		if f.feeder != byTail {
			lagging = append(lagging, f)
		}
	}
	slices.SortStableFunc(lagging, func(a, b *Cursor) int { return a.lagTried.Compare(b.lagTried) })
	return lagging
}

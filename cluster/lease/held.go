package lease

import "leasehold/internal/ownership"

// lane is what runs here for a lease.
type lane int

const (
	none      lane = iota
	active         // A lane runs.
	draining       // It was asked to finish its call and stop.
	cancelled      // It was told to stop at once; waits to be joined.
	parked         // Joined, under a lease that is still ours: may go on under the same epoch, or be handed over.
	handing        // The hand-over was sent, or a request's new epoch: it never runs again under this one.
)

// held is one lease: what its record says, and what runs here for it.
//
// Invariants: one write under way at most; lane ≠ none only under epoch, which a claim of this boot was answered with;
// nothing is written while lane ≠ none that the record's owner alone may not write.
type held struct {
	key    Key
	group  *group
	rev    uint64 // Highest revision known; 0 if the lease was never written.
	rec    Lease
	seenAt Time // When this revision was first seen.
	deadAt Time // Since when its owner is known to be dead; 0 if it is not.

	pending *Write // Under way.
	retryAt Time   // After an unknown end, not before.

	lane      lane
	epoch     uint64
	progress  ownership.Progress // How far the lane came, stored or not.
	claimedAt Time
	drainAt   Time
	lost      bool // The lane is cancelled because the lease went to somebody else.

	believed   *Lease // The newest record that can be believed; nil if none was seen.
	vanished   bool   // Revision rev has none: rec is what is remembered.
	vanishedAt Time   // When that was seen.
	ours       bool   // It vanished under a lane of ours, which no hand-over had been sent for: nobody else can have it.
}

// mine reports whether the record names this session life.
func (c *Core) mine(h *held) bool {
	return h.rec.Owner == c.cfg.Self.Node && h.rec.Boot == c.own.boot && c.phase >= running
}

func (c *Core) sawLease(in Saw) {
	h := c.held(in.Key)
	if h == nil || in.Revision <= h.rev {
		return
	}
	if in.Lease == nil || c.wentBack(h, *in.Lease) {
		c.vanish(h, in)
		return
	}
	c.learn(h, in.Revision, *in.Lease)
	c.decide(h)
}

// learn takes in a revision above the known one, and drops a lane whose lease it shows in other hands.
func (c *Core) learn(h *held, rev uint64, rec Lease) {
	h.rev, h.rec, h.seenAt, h.deadAt = rev, rec, c.now, 0
	h.believed, h.vanished = &rec, false
	if h.lane == none {
		return
	}
	if c.mine(h) && rec.Epoch == h.epoch {
		c.do(Committed{Key: h.key, Epoch: h.epoch, Progress: rec.progress()})
		return
	}
	switch h.lane {
	case active, draining:
		h.lost = true
		c.cancel(h, ErrLeaseLost)
	case cancelled:
		h.lost = true
	default: // parked, or the hand-over has landed: nothing runs
		h.lane = none
	}
}

func (c *Core) wroteLease(h *held, in Wrote) {
	if h == nil || h.pending == nil || h.pending.ID != in.ID {
		return
	}
	w := h.pending
	h.pending = nil
	switch {
	case !in.OK:
		h.retryAt = c.now + c.pause()
		c.do(Read{Key: h.key})
	case in.Revision < h.rev:
		// Landed, and something newer was seen since.
	case w.Lease.Epoch > h.epoch || h.lane == none:
		c.claimed(h, in.Revision, *w.Lease)
	default:
		c.learn(h, in.Revision, *w.Lease)
	}
	c.decide(h)
}

// claimed starts the lane of a claim that was answered OK; nothing else ever starts one. A lease that we give back
// without a lane, at stop, comes by here too, free; and one that a request gave a new epoch, which does not make it young.
func (c *Core) claimed(h *held, rev uint64, rec Lease) {
	h.rev, h.rec, h.seenAt, h.deadAt = rev, rec, c.now, 0
	h.believed, h.vanished = &rec, false
	if !c.mine(h) {
		h.lane = none
		return
	}
	if h.lane == none {
		h.claimedAt = c.now
	}
	h.lane, h.epoch, h.progress, h.lost = parked, rec.Epoch, rec.progress(), false
}

func (c *Core) moved(k Key, epoch uint64, p ownership.Progress) {
	if h := c.held(k); h != nil && h.epoch == epoch && h.lane != none && h.lane != handing {
		h.progress = later(h.progress, p)
		c.decide(h)
	}
}

// stopped takes in that a lane is joined.
func (c *Core) stopped(k Key, epoch uint64, p ownership.Progress) {
	h := c.held(k)
	if h == nil || h.epoch != epoch || h.lane == none || h.lane == parked || h.lane == handing {
		return
	}
	h.progress = later(h.progress, p)
	if h.vanished && h.ours && c.mine(h) {
		h.rec = h.rec.with(later(h.rec.progress(), h.progress))
		h.rec.CheckDeadLetters = true // it still rests on memory
	}
	if h.lost || c.phase == rejoining {
		h.lane = none
	} else {
		h.lane = parked
	}
	c.decide(h)
	c.advanceOwn()
	c.advanceStop()
}

func (c *Core) cancelAll(cause error) {
	c.eachHeld(func(h *held) {
		if h.lane == active || h.lane == draining {
			c.cancel(h, cause)
		}
	})
}

func (c *Core) cancel(h *held, cause error) {
	h.lane = cancelled
	c.do(Cancel{Key: h.key, Cause: cause})
}

// anyLane reports whether anything may still run here.
func (c *Core) anyLane() (any bool) {
	c.eachHeld(func(h *held) { any = any || h.lane == active || h.lane == draining || h.lane == cancelled })
	return any
}

// anyLeaseLeft reports whether a lease still has to be given back before the session may end.
func (c *Core) anyLeaseLeft() (any bool) {
	c.eachHeld(func(h *held) { any = any || h.lane != none || h.pending != nil || c.mine(h) })
	return any
}

// decide does what is due for one lease.
func (c *Core) decide(h *held) {
	if c.phase != running || h.pending != nil || c.now < h.retryAt {
		return
	}
	switch h.lane {
	case none:
		c.decideFree(h)
	case active:
		if c.wantsAway(h) || h.asked() {
			h.lane, h.drainAt = draining, c.now
			c.do(Drain{Key: h.key})
		}
		c.commit(h)
	case draining:
		if c.now-h.drainAt >= h.group.Handover {
			c.cancel(h, ErrHandoverTimeout)
		}
		c.commit(h)
	case cancelled:
		c.commit(h)
	case parked:
		c.decideParked(h)
	case handing:
		c.handOver(h)
	}
}

// decideFree takes a lease that nothing runs for here, if it may be taken and is ours to take.
func (c *Core) decideFree(h *held) {
	switch {
	case h.vanished && !c.mayReclaim(h):
	case c.mine(h) && c.stopping:
		c.put(h, c.freed(h), true) // a claim of ours that landed unheard
	case c.stopping || c.own.expired:
	case c.mine(h) || c.mayTake(h):
		rec := h.rec
		rec.Version, rec.Owner, rec.Boot, rec.Successor = 1, c.cfg.Self.Node, c.own.boot, ""
		c.put(h, h.raised(rec), true)
	}
}

// raised is a lease under the next epoch, with everything done that was asked for.
func (h *held) raised(rec Lease) Lease {
	rec.Epoch++
	return h.group.requests.apply(h.key.Partition, rec)
}

// mayTake reports whether a lease that is not ours is free for the taking, and by us. Whoever the plan names goes
// first; a lease that nobody took in five renewals is everybody's, so that no disagreement about plans leaves it lying.
func (c *Core) mayTake(h *held) bool {
	since := h.seenAt
	if h.rec.Owner != "" {
		if !c.dead(h.rec.Owner, h.rec.Boot) {
			h.deadAt = 0
			return false
		}
		if h.deadAt == 0 {
			h.deadAt = c.now
		}
		since = h.deadAt
	} else if h.rec.Successor == c.cfg.Self.Node {
		return true
	} else if c.canTake(h.rec.Successor, h.group.Name) && c.now-since < 2*c.cfg.Renew {
		return false
	}
	planned := h.group.target[h.key.Partition]
	return planned == c.cfg.Self.Node || c.now-max(since, c.own.joinedAt) >= 5*c.cfg.Renew
}

// wantsAway reports whether a lease of ours should be handed over.
func (c *Core) wantsAway(h *held) bool {
	to := h.group.target[h.key.Partition]
	return c.stopping || to != c.cfg.Self.Node && c.canTake(to, h.group.Name) && c.now-h.claimedAt >= c.cfg.MinHold
}

// decideParked hands a joined lane's lease over, applies what was asked for, or lets the lane go on under the same epoch.
func (c *Core) decideParked(h *held) {
	switch {
	case c.wantsAway(h), h.asked() && !c.own.expired:
		h.lane = handing
		c.handOver(h)
	case h.progress != h.rec.progress():
		c.commit(h)
	case !c.own.expired:
		h.lane = active
		c.do(Start{Key: h.key, Grant: c.grant(h)})
	}
}

// grant is what the lane of a lease starts with.
func (c *Core) grant(h *held) ownership.Grant {
	return ownership.Grant{
		Kind: h.group.Kind, Group: h.key.Group, Partition: h.key.Partition,
		Boot: c.own.boot, Epoch: h.epoch, Progress: h.progress, Applied: h.rec.Applied,
	}
}

// commit stores a lane's progress, fenced or not: the compare-and-set fails if anybody has claimed the lease since.
func (c *Core) commit(h *held) {
	if h.pending != nil || !c.mine(h) || h.rec.Epoch != h.epoch || h.progress == h.rec.progress() {
		return
	}
	c.put(h, h.rec.with(h.progress), false)
}

// handOver gives the lease up, or keeps it under the next epoch if that is what a request needs; an heir applies requests
// by itself. Until it is settled the write is repeated, on whatever revision an earlier commit of ours turns out to have
// left.
func (c *Core) handOver(h *held) {
	if !c.mine(h) || h.rec.Epoch != h.epoch {
		h.lane = none
		return
	}
	switch {
	case c.wantsAway(h) || !h.asked():
		c.put(h, c.freed(h).with(h.progress), true)
	case !c.own.expired:
		c.put(h, h.raised(h.rec.with(h.progress)), true)
	}
}

// freed is the lease's record without an owner, left to whoever the plan names.
func (c *Core) freed(h *held) Lease {
	rec := h.rec
	rec.Owner, rec.Boot, rec.Successor = "", 0, ""
	if to := h.group.target[h.key.Partition]; c.canTake(to, h.group.Name) {
		rec.Successor = to
	}
	return rec
}

func (c *Core) put(h *held, rec Lease, announce bool) {
	w := Write{Key: h.key, Revision: h.rev, Lease: &rec, Announce: announce}
	w.ID = c.write(w)
	h.pending = &w
}

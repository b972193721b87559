package lease

import "leasehold/internal/ownership"

// lane is what runs here for a lease.
type laneState int

const (
	none        laneState = iota
	active                // A lane runs.
	draining              // It was asked to finish its call and stop.
	cancelled             // It was told to stop at once; waits to be joined.
	joined                // Joined, under a lease that is still ours: may go on under the same epoch, or be handed over.
	handingOver           // The hand-over was sent, or a request's new epoch: it never runs again under this one.
)

// held is one lease: what its record says, and what runs here for it.
//
// Invariants: one write under way at most; lane ≠ none only under epoch, which a claim of this boot was answered with;
// nothing is written while lane ≠ none that the record's owner alone may not write.
type leaseState struct {
	key    Key
	group  *group
	rev    uint64 // Highest revision known; 0 if the lease was never written.
	rec    Lease
	seenAt Time // When this revision was first seen.
	deadAt Time // Since when its owner is known to be dead; 0 if it is not.

	pending *Write // Under way.
	retryAt Time   // After an unknown end, not before.

	lane      laneState
	epoch     uint64
	progress  ownership.Progress // How far the lane came, stored or not.
	claimedAt Time
	drainAt   Time
	revoked   bool // The lane is cancelled because the lease went to somebody else.

	lastValid      *Lease // The newest record that can be believed; nil if none was seen.
	recordLost     bool   // Revision rev has none: rec is what is remembered.
	recordLostAt   Time   // When that was seen.
	lostWhileOwned bool   // It vanished under a lane of ours, which no hand-over had been sent for: nobody else can have it.
}

// mine reports whether the record names this session life.
func (c *Core) mine(h *leaseState) bool {
	return h.rec.Owner == c.cfg.Self.Node && h.rec.Boot == c.self.boot && c.phase >= running
}

func (c *Core) observedLease(in Observed) {
	h := c.leaseOf(in.Key)
	if h == nil || in.Revision <= h.rev {
		return
	}
	if in.Lease == nil || c.regressed(h, *in.Lease) {
		c.loseRecord(h, in)
		return
	}
	c.learn(h, in.Revision, *in.Lease)
	c.decide(h)
}

// learn takes in a revision above the known one, and drops a lane whose lease it shows in other hands.
func (c *Core) learn(h *leaseState, rev uint64, rec Lease) {
	h.rev, h.rec, h.seenAt, h.deadAt = rev, rec, c.now, 0
	h.lastValid, h.recordLost = &rec, false
	if h.lane == none {
		return
	}
	if c.mine(h) && rec.Epoch == h.epoch {
		c.emit(Committed{Key: h.key, Epoch: h.epoch, Progress: rec.progress()})
		return
	}
	switch h.lane {
	case active, draining:
		h.revoked = true
		c.cancel(h, ErrLeaseLost)
	case cancelled:
		h.revoked = true
	default: // parked, or the hand-over has landed: nothing runs
		h.lane = none
	}
}

func (c *Core) leaseWriteDone(h *leaseState, in WriteDone) {
	if h == nil || h.pending == nil || h.pending.ID != in.ID {
		return
	}
	w := h.pending
	h.pending = nil
	switch {
	case !in.OK:
		h.retryAt = c.now + c.pause()
		c.emit(Read{Key: h.key})
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
func (c *Core) claimed(h *leaseState, rev uint64, rec Lease) {
	h.rev, h.rec, h.seenAt, h.deadAt = rev, rec, c.now, 0
	h.lastValid, h.recordLost = &rec, false
	if !c.mine(h) {
		h.lane = none
		return
	}
	if h.lane == none {
		h.claimedAt = c.now
	}
	h.lane, h.epoch, h.progress, h.revoked = joined, rec.Epoch, rec.progress(), false
}

func (c *Core) progressed(k Key, epoch uint64, p ownership.Progress) {
	if h := c.leaseOf(k); h != nil && h.epoch == epoch && h.lane != none && h.lane != handingOver {
		h.progress = later(h.progress, p)
		c.decide(h)
	}
}

// stopped takes in that a lane is joined.
func (c *Core) stopped(k Key, epoch uint64, p ownership.Progress) {
	h := c.leaseOf(k)
	if h == nil || h.epoch != epoch || h.lane == none || h.lane == joined || h.lane == handingOver {
		return
	}
	h.progress = later(h.progress, p)
	if h.recordLost && h.lostWhileOwned && c.mine(h) {
		h.rec = h.rec.with(later(h.rec.progress(), h.progress))
		h.rec.CheckDeadLetters = true // it still rests on memory
	}
	if h.revoked || c.phase == rejoining {
		h.lane = none
	} else {
		h.lane = joined
	}
	c.decide(h)
	c.advanceSelf()
	c.advanceStop()
}

func (c *Core) cancelAll(cause error) {
	c.eachLease(func(h *leaseState) {
		if h.lane == active || h.lane == draining {
			c.cancel(h, cause)
		}
	})
}

func (c *Core) cancel(h *leaseState, cause error) {
	h.lane = cancelled
	c.emit(Cancel{Key: h.key, Cause: cause})
}

// anyLane reports whether anything may still run here.
func (c *Core) anyLane() (any bool) {
	c.eachLease(func(h *leaseState) { any = any || h.lane == active || h.lane == draining || h.lane == cancelled })
	return any
}

// anyLeaseLeft reports whether a lease still has to be given back before the session may end.
func (c *Core) anyLeaseLeft() (any bool) {
	c.eachLease(func(h *leaseState) { any = any || h.lane != none || h.pending != nil || c.mine(h) })
	return any
}

// decide does what is due for one lease.
func (c *Core) decide(h *leaseState) {
	if c.phase != running || h.pending != nil || c.now < h.retryAt {
		return
	}
	switch h.lane {
	case none:
		c.decideFree(h)
	case active:
		if c.shouldRelease(h) || h.commandDue() {
			h.lane, h.drainAt = draining, c.now
			c.emit(Drain{Key: h.key})
		}
		c.commit(h)
	case draining:
		if c.now-h.drainAt >= h.group.Handover {
			c.cancel(h, ErrHandoverTimeout)
		}
		c.commit(h)
	case cancelled:
		c.commit(h)
	case joined:
		c.decideParked(h)
	case handingOver:
		c.handOver(h)
	}
}

// decideFree takes a lease that nothing runs for here, if it may be taken and is ours to take.
func (c *Core) decideFree(h *leaseState) {
	switch {
	case h.recordLost && !c.mayReclaim(h):
	case c.mine(h) && c.stopping:
		c.writeLease(h, c.freed(h), true) // a claim of ours that landed unheard
	case c.stopping || c.self.expired:
	case c.mine(h) || c.eligible(h):
		rec := h.rec
		rec.Version, rec.Owner, rec.Boot, rec.Successor = 1, c.cfg.Self.Node, c.self.boot, ""
		c.writeLease(h, h.underNextEpoch(rec), true)
	}
}

// raised is a lease under the next epoch, with everything done that was asked for.
func (h *leaseState) underNextEpoch(rec Lease) Lease {
	rec.Epoch++
	return h.group.commands.apply(h.key.Partition, rec)
}

// mayTake reports whether a lease that is not ours is free for the taking, and by us. Whoever the plan names goes
// first; a lease that nobody took in five renewals is everybody's, so that no disagreement about plans leaves it lying.
func (c *Core) eligible(h *leaseState) bool {
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
	} else if c.acceptable(h.rec.Successor, h.group.Name) && c.now-since < 2*c.cfg.Renew {
		return false
	}
	planned := h.group.target[h.key.Partition]
	return planned == c.cfg.Self.Node || c.now-max(since, c.self.joinedAt) >= 5*c.cfg.Renew
}

// wantsAway reports whether a lease of ours should be handed over.
func (c *Core) shouldRelease(h *leaseState) bool {
	to := h.group.target[h.key.Partition]
	return c.stopping || to != c.cfg.Self.Node && c.acceptable(to, h.group.Name) && c.now-h.claimedAt >= c.cfg.MinHold
}

// decideParked hands a joined lane's lease over, applies what was asked for, or lets the lane go on under the same epoch.
func (c *Core) decideParked(h *leaseState) {
	switch {
	case c.shouldRelease(h), h.commandDue() && !c.self.expired:
		h.lane = handingOver
		c.handOver(h)
	case h.progress != h.rec.progress():
		c.commit(h)
	case !c.self.expired:
		h.lane = active
		c.emit(Start{Key: h.key, Grant: c.grant(h)})
	}
}

// grant is what the lane of a lease starts with.
func (c *Core) grant(h *leaseState) ownership.Grant {
	return ownership.Grant{
		Kind: h.group.Kind, Group: h.key.Group, Partition: h.key.Partition,
		Boot: c.self.boot, Epoch: h.epoch, Progress: h.progress, Applied: h.rec.Applied,
	}
}

// commit stores a lane's progress, fenced or not: the compare-and-set fails if anybody has claimed the lease since.
func (c *Core) commit(h *leaseState) {
	if h.pending != nil || !c.mine(h) || h.rec.Epoch != h.epoch || h.progress == h.rec.progress() {
		return
	}
	c.writeLease(h, h.rec.with(h.progress), false)
}

// handOver gives the lease up, or keeps it under the next epoch if that is what a request needs; an heir applies requests
// by itself. Until it is settled the write is repeated, on whatever revision an earlier commit of ours turns out to have
// left.
func (c *Core) handOver(h *leaseState) {
	if !c.mine(h) || h.rec.Epoch != h.epoch {
		h.lane = none
		return
	}
	switch {
	case c.shouldRelease(h) || !h.commandDue():
		c.writeLease(h, c.freed(h).with(h.progress), true)
	case !c.self.expired:
		c.writeLease(h, h.underNextEpoch(h.rec.with(h.progress)), true)
	}
}

// freed is the lease's record without an owner, left to whoever the plan names.
func (c *Core) freed(h *leaseState) Lease {
	rec := h.rec
	rec.Owner, rec.Boot, rec.Successor = "", 0, ""
	if to := h.group.target[h.key.Partition]; c.acceptable(to, h.group.Name) {
		rec.Successor = to
	}
	return rec
}

func (c *Core) writeLease(h *leaseState, rec Lease, announce bool) {
	w := Write{Key: h.key, Revision: h.rev, Lease: &rec, Announce: announce}
	w.ID = c.write(w)
	h.pending = &w
}

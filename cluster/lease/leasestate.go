package lease

import "leasehold/internal/ownership"

// laneState is the state of the lane that this node runs for a lease.
type laneState int

const (
	none        laneState = iota
	active                // A lane runs.
	draining              // It was asked to finish its call and stop.
	cancelled             // It was told to stop at once, and is not joined yet.
	joined                // Joined, and the lease is still ours: resumes under the same epoch, or is handed over.
	handingOver           // The hand-over or a command's new epoch was sent: it never runs again under this epoch.
)

// leaseState is one lease: what its record says, and what runs here for it.
//
// Invariants: at most one write in flight; lane ≠ none only under epoch, which an acknowledged claim of this boot set;
// while lane ≠ none only writes that the record's owner alone may send.
type leaseState struct {
	key    Key
	group  *group
	rev    uint64 // Highest revision known; 0 if the lease was never written.
	rec    Lease
	seenAt Time // When this revision was first seen.
	deadAt Time // Since when its owner is known to be dead; 0 if it is not.

	pending *Write // In flight; nil if none is.
	retryAt Time   // No write before this, after one of unknown outcome.

	lane      laneState
	epoch     uint64
	progress  ownership.Progress // How far the lane has come, stored or not.
	claimedAt Time
	drainAt   Time
	revoked   bool // The lane is cancelled because another node owns the lease.

	lastValid      *Lease // The newest valid record seen; nil if none was.
	recordLost     bool   // Revision rev has no valid record: rec is what is remembered.
	recordLostAt   Time   // When that was noticed.
	lostWhileOwned bool   // It was lost under a lane of ours, before a hand-over was sent: nobody else can own it.
}

// mine reports whether the record names this node under its current boot.
func (c *Core) mine(ls *leaseState) bool {
	return ls.rec.Owner == c.cfg.Self.Node && ls.rec.Boot == c.self.boot && c.phase >= running
}

func (c *Core) observedLease(in Observed) {
	ls := c.leaseOf(in.Key)
	if ls == nil || in.Revision <= ls.rev {
		return
	}
	if in.Lease == nil || c.regressed(ls, *in.Lease) {
		c.loseRecord(ls, in)
		return
	}
	c.learn(ls, in.Revision, *in.Lease)
	c.decide(ls)
}

// learn takes in a revision above the known one, and cancels the lane if another node owns the lease.
func (c *Core) learn(ls *leaseState, rev uint64, rec Lease) {
	ls.rev, ls.rec, ls.seenAt, ls.deadAt = rev, rec, c.now, 0
	ls.lastValid, ls.recordLost = &rec, false
	if ls.lane == none {
		return
	}
	if c.mine(ls) && rec.Epoch == ls.epoch {
		c.emit(Committed{Key: ls.key, Epoch: ls.epoch, Progress: rec.progress()})
		return
	}
	switch ls.lane {
	case active, draining:
		ls.revoked = true
		c.cancel(ls, ErrLeaseLost)
	case cancelled:
		ls.revoked = true
	default: // joined, or the hand-over has landed: nothing runs
		ls.lane = none
	}
}

func (c *Core) leaseWriteDone(ls *leaseState, in WriteDone) {
	if ls == nil || ls.pending == nil || ls.pending.ID != in.ID {
		return
	}
	w := ls.pending
	ls.pending = nil
	switch {
	case !in.OK:
		ls.retryAt = c.now + c.retryPause()
		c.emit(Read{Key: ls.key})
	case in.Revision < ls.rev:
		// Landed, and something newer was seen since.
	case w.Lease.Epoch > ls.epoch || ls.lane == none:
		c.claimed(ls, in.Revision, *w.Lease)
	default:
		c.learn(ls, in.Revision, *w.Lease)
	}
	c.decide(ls)
}

// claimed readies the lane of a claim that was acknowledged; nothing else ever starts one. It also takes in a free
// lease that a stop gave back without a lane, and a lease that a command gave a new epoch, which keeps its age.
func (c *Core) claimed(ls *leaseState, rev uint64, rec Lease) {
	ls.rev, ls.rec, ls.seenAt, ls.deadAt = rev, rec, c.now, 0
	ls.lastValid, ls.recordLost = &rec, false
	if !c.mine(ls) {
		ls.lane = none
		return
	}
	if ls.lane == none {
		ls.claimedAt = c.now
	}
	ls.lane, ls.epoch, ls.progress, ls.revoked = joined, rec.Epoch, rec.progress(), false
}

func (c *Core) progressed(k Key, epoch uint64, p ownership.Progress) {
	if ls := c.leaseOf(k); ls != nil && ls.epoch == epoch && ls.lane != none && ls.lane != handingOver {
		ls.progress = later(ls.progress, p)
		c.decide(ls)
	}
}

// stopped takes in that a lane is joined.
func (c *Core) stopped(k Key, epoch uint64, p ownership.Progress) {
	ls := c.leaseOf(k)
	if ls == nil || ls.epoch != epoch || ls.lane == none || ls.lane == joined || ls.lane == handingOver {
		return
	}
	ls.progress = later(ls.progress, p)
	if ls.recordLost && ls.lostWhileOwned && c.mine(ls) {
		ls.rec = ls.rec.with(later(ls.rec.progress(), ls.progress))
		ls.rec.CheckDeadLetters = true // it still rests on memory
	}
	if ls.revoked || c.phase == rejoining {
		ls.lane = none
	} else {
		ls.lane = joined
	}
	c.decide(ls)
	c.advanceSelf()
	c.advanceStop()
}

func (c *Core) cancelAll(cause error) {
	c.eachLease(func(ls *leaseState) {
		if ls.lane == active || ls.lane == draining {
			c.cancel(ls, cause)
		}
	})
}

func (c *Core) cancel(ls *leaseState, cause error) {
	ls.lane = cancelled
	c.emit(Cancel{Key: ls.key, Cause: cause})
}

// anyLane reports whether anything may still run here.
func (c *Core) anyLane() (any bool) {
	c.eachLease(func(ls *leaseState) { any = any || ls.lane == active || ls.lane == draining || ls.lane == cancelled })
	return any
}

// anyLeaseLeft reports whether a lease still has to be given back before the session may end.
func (c *Core) anyLeaseLeft() (any bool) {
	c.eachLease(func(ls *leaseState) { any = any || ls.lane != none || ls.pending != nil || c.mine(ls) })
	return any
}

// decide does what is due for one lease.
func (c *Core) decide(ls *leaseState) {
	if c.phase != running || ls.pending != nil || c.now < ls.retryAt {
		return
	}
	switch ls.lane {
	case none:
		c.decideFree(ls)
	case active:
		if c.shouldRelease(ls) || ls.commandDue() {
			ls.lane, ls.drainAt = draining, c.now
			c.emit(Drain{Key: ls.key})
		}
		c.commit(ls)
	case draining:
		if c.now-ls.drainAt >= ls.group.Handover {
			c.cancel(ls, ErrHandoverTimeout)
		}
		c.commit(ls)
	case cancelled:
		c.commit(ls)
	case joined:
		c.decideJoined(ls)
	case handingOver:
		c.handOver(ls)
	}
}

// decideFree claims a lease without a lane here, if it is free and this node may claim it.
func (c *Core) decideFree(ls *leaseState) {
	switch {
	case ls.recordLost && !c.mayReclaim(ls):
	case c.mine(ls) && c.stopping:
		c.writeLease(ls, c.freed(ls), true) // a claim of ours that landed without a reply
	case c.stopping || c.self.expired:
	case c.mine(ls) || c.eligible(ls):
		rec := ls.rec
		rec.Version, rec.Owner, rec.Boot, rec.Successor = 1, c.cfg.Self.Node, c.self.boot, ""
		c.writeLease(ls, ls.underNextEpoch(rec), true)
	}
}

// underNextEpoch returns the lease under the next epoch, with every command that is due applied.
func (ls *leaseState) underNextEpoch(rec Lease) Lease {
	rec.Epoch++
	return ls.group.commands.apply(ls.key.Partition, rec)
}

// eligible reports whether this node may claim a lease that is not its own. The planned node goes first. A lease that
// nobody claimed within five renewals is open to every node, so that nodes with different plans cannot leave it
// unowned.
func (c *Core) eligible(ls *leaseState) bool {
	since := ls.seenAt
	if ls.rec.Owner != "" {
		if !c.dead(ls.rec.Owner, ls.rec.Boot) {
			ls.deadAt = 0
			return false
		}
		if ls.deadAt == 0 {
			ls.deadAt = c.now
		}
		since = ls.deadAt
	} else if ls.rec.Successor == c.cfg.Self.Node {
		return true
	} else if c.acceptable(ls.rec.Successor, ls.group.Name) && c.now-since < 2*c.cfg.Renew {
		return false
	}
	planned := ls.group.target[ls.key.Partition]
	return planned == c.cfg.Self.Node || c.now-max(since, c.self.joinedAt) >= 5*c.cfg.Renew
}

// shouldRelease reports whether a lease of ours should be handed over.
func (c *Core) shouldRelease(ls *leaseState) bool {
	to := ls.group.target[ls.key.Partition]
	return c.stopping || to != c.cfg.Self.Node && c.acceptable(to, ls.group.Name) && c.now-ls.claimedAt >= c.cfg.MinHold
}

// decideJoined hands a joined lane's lease over, applies commands, or resumes the lane under the same epoch.
func (c *Core) decideJoined(ls *leaseState) {
	switch {
	case c.shouldRelease(ls), ls.commandDue() && !c.self.expired:
		ls.lane = handingOver
		c.handOver(ls)
	case ls.progress != ls.rec.progress():
		c.commit(ls)
	case !c.self.expired:
		ls.lane = active
		c.emit(Start{Key: ls.key, Grant: c.grant(ls)})
	}
}

// grant is what the lane of a lease starts with.
func (c *Core) grant(ls *leaseState) ownership.Grant {
	return ownership.Grant{
		Kind: ls.group.Kind, Group: ls.key.Group, Partition: ls.key.Partition,
		Boot: c.self.boot, Epoch: ls.epoch, Progress: ls.progress, Applied: ls.rec.Applied,
	}
}

// commit stores a lane's progress, fenced or not: the compare-and-set fails if another node has claimed the lease
// since.
func (c *Core) commit(ls *leaseState) {
	if ls.pending != nil || !c.mine(ls) || ls.rec.Epoch != ls.epoch || ls.progress == ls.rec.progress() {
		return
	}
	c.writeLease(ls, ls.rec.with(ls.progress), false)
}

// handOver frees the lease, or keeps it under the next epoch to apply a command; a successor applies commands itself.
// The write is repeated until its outcome is known, on the revision that the latest commit of ours turns out to have
// left.
func (c *Core) handOver(ls *leaseState) {
	if !c.mine(ls) || ls.rec.Epoch != ls.epoch {
		ls.lane = none
		return
	}
	switch {
	case c.shouldRelease(ls) || !ls.commandDue():
		c.writeLease(ls, c.freed(ls).with(ls.progress), true)
	case !c.self.expired:
		c.writeLease(ls, ls.underNextEpoch(ls.rec.with(ls.progress)), true)
	}
}

// freed returns the lease's record without an owner, left to the planned node.
func (c *Core) freed(ls *leaseState) Lease {
	rec := ls.rec
	rec.Owner, rec.Boot, rec.Successor = "", 0, ""
	if to := ls.group.target[ls.key.Partition]; c.acceptable(to, ls.group.Name) {
		rec.Successor = to
	}
	return rec
}

func (c *Core) writeLease(ls *leaseState, rec Lease, announce bool) {
	w := Write{Key: ls.key, Revision: ls.rev, Lease: &rec, Announce: announce}
	w.ID = c.write(w)
	ls.pending = &w
}

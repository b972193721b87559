package lease

import "leasehold/internal/ownership"

// This file is about leases whose record is gone, or is not one that can be believed: something other than a node has
// written to the bucket.

// wentBack reports whether a record cannot follow the one that is known. Under one epoch nothing lowers Done, and only this
// node writes a boot of its own.
func (c *Core) regressed(h *leaseState, rec Lease) bool {
	switch {
	case h.lastValid == nil:
		return false
	case rec.Owner == c.cfg.Self.Node && rec.Boot > c.self.boot && c.phase >= running:
		return true
	}
	last := *h.lastValid
	return rec.Epoch < last.Epoch || rec.Epoch == last.Epoch && rec.Checkpoint < last.Checkpoint
}

// vanish takes in that a lease's record is gone, or is not one that can be believed. What it said last is remembered, except
// for the epoch, which has to exceed all that were given out without this node's knowledge: every epoch is at most the
// revision that it was written as, for each claim raises it by one. Letters may have been stored without this node's knowledge
// too, so the next lane has to look.
func (c *Core) loseRecord(h *leaseState, in Observed) {
	believed, rec := h.lastValid, h.rec
	again := h.recordLost && in.Lease != nil && in.Lease.Owner == rec.Owner && in.Lease.Boot == rec.Boot
	h.lostWhileOwned = h.recordLost && h.lostWhileOwned || h.lane != none && h.lane != handingOver && !h.revoked && c.mine(h) && rec.Epoch == h.epoch
	switch {
	case h.lostWhileOwned && h.lane != none:
		rec = rec.with(later(rec.progress(), h.progress))
	case !h.lostWhileOwned && in.Lease != nil: // a node that has just started may believe it
		rec.Owner, rec.Boot = in.Lease.Owner, in.Lease.Boot
	}
	rec.Version, rec.Successor, rec.CheckDeadLetters = RecordVersion, "", true
	rec.Epoch = max(rec.Epoch+1, in.Revision)
	c.learn(h, in.Revision, rec)
	h.lastValid, h.recordLost, h.recordLostAt = believed, true, c.now
	switch {
	case again: // a node that believes it goes on writing
	case believed != nil || h.group.Kind == ownership.Housekeeping:
		c.alarm(in, leaseReclaimed)
	default:
		c.alarm(in, leaseUnknown)
	}
	c.decide(h)
}

// mayReclaim reports whether a lease that vanished may be claimed on what is remembered of it. Its last owner may, whose
// lane is joined. Others wait until that one has heard of it and done so, or is dead: what they remember may be old. A node
// that remembers nothing needs to be told where the partition begins.
func (c *Core) mayReclaim(h *leaseState) bool {
	switch {
	case h.lastValid == nil && h.group.Kind != ownership.Housekeeping && !h.group.commands.seekDue(h.key.Partition, h.rec):
		return false
	case h.lostWhileOwned && c.mine(h):
		return true
	}
	return c.now-h.recordLostAt >= c.cfg.TTL+10*c.cfg.Renew
}

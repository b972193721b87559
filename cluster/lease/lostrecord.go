package lease

import "leasehold/internal/ownership"

// This file is about leases whose record was lost: it was deleted, is not valid, or went back. Something other than a
// node has written to the bucket.

// regressed reports whether a record cannot follow the one that is known. Within one epoch nothing lowers the
// checkpoint, and only this node writes a boot of its own.
func (c *Core) regressed(ls *leaseState, rec Lease) bool {
	switch {
	case ls.lastValid == nil:
		return false
	case rec.Owner == c.cfg.Self.Node && rec.Boot > c.self.boot && c.phase >= running:
		return true
	}
	last := *ls.lastValid
	return rec.Epoch < last.Epoch || rec.Epoch == last.Epoch && rec.Checkpoint < last.Checkpoint
}

// loseRecord takes in a revision without a valid record. What the last valid one said is remembered, except for the
// epoch: it has to exceed every epoch that was granted without this node's knowledge. The lost revision does: a claim
// raises the epoch by one and is a revision itself, so no epoch is above the revision that it was written as. Dead
// letters may have been stored without this node's knowledge too, so the next lane has to check for them.
func (c *Core) loseRecord(ls *leaseState, in Observed) {
	lastValid, rec := ls.lastValid, ls.rec
	again := ls.recordLost && in.Lease != nil && in.Lease.Owner == rec.Owner && in.Lease.Boot == rec.Boot
	ownLane := ls.lane != none && ls.lane != handingOver && !ls.revoked && c.mine(ls) && rec.Epoch == ls.epoch
	ls.lostWhileOwned = ls.recordLost && ls.lostWhileOwned || ownLane
	switch {
	case ls.lostWhileOwned && ls.lane != none:
		rec = rec.with(later(rec.progress(), ls.progress))
	case !ls.lostWhileOwned && in.Lease != nil: // a node that has just started may take it for valid
		rec.Owner, rec.Boot = in.Lease.Owner, in.Lease.Boot
	}
	rec.Version, rec.Successor, rec.CheckDeadLetters = RecordVersion, "", true
	rec.Epoch = max(rec.Epoch+1, in.Revision)
	c.learn(ls, in.Revision, rec)
	ls.lastValid, ls.recordLost, ls.recordLostAt = lastValid, true, c.now
	switch {
	case again: // a node that takes it for valid keeps writing
	case lastValid != nil || ls.group.Kind == ownership.Housekeeping:
		c.alarm(in, leaseReclaimed)
	default:
		c.alarm(in, leaseUnknown)
	}
	c.decide(ls)
}

// mayReclaim reports whether a lease with a lost record may be claimed from what is remembered of it. Its last owner
// may, once its lane is joined. Others wait until that owner has noticed the loss and claimed it, or is dead: what they
// remember may be old. A node that remembers nothing needs a seek to learn where the partition begins.
func (c *Core) mayReclaim(ls *leaseState) bool {
	switch {
	case ls.lastValid == nil && ls.group.Kind != ownership.Housekeeping &&
		!ls.group.commands.seekDue(ls.key.Partition, ls.rec):
		return false
	case ls.lostWhileOwned && c.mine(ls):
		return true
	}
	return c.now-ls.recordLostAt >= c.cfg.TTL+10*c.cfg.Renew
}

package lease

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// keptAttempts bounds the attempts that an outage of the store accumulates: two a second, for days.
const keptAttempts = 64

// selfState is this node's session.
//
// Invariants: now < fence and not expired whenever a call may start; fence ≤ send time of an attempt known to have
// landed + TTL − Margin; every attempt in sent names revision rev, so at most one of them can ever land.
type selfState struct {
	boot uint64   // Number of this session life, from SaveBoot on.
	rev  uint64   // Highest revision of our record known; 0 if none.
	rec  *Session // What that revision says; nil if absent.

	pending uint64    // ID of the write in flight; 0 if none is.
	sent    []attempt // Attempts of unknown outcome.
	read    attempt   // The latest that a read has shown to have landed; its reply may be in transit.
	nonces  uint64
	nextAt  Time // When to write next.

	fence   Time
	expired bool   // The fence was reached; cleared by an acknowledged renewal.
	cuts    uint64 // Number of the latest Isolated, and when it came: a renewal sent before does not clear expired.
	cutAt   Time
	lastOK  Time // When a write of ours was last known to have landed.

	seenAt   Time // watching: when rev was first seen.
	moves    int  // watching: how often the other process's revision changed.
	joinedAt Time // When this boot went live.
	admitted bool // It takes part in plans; at once if this boot continues a live session, for then it never left.
}

// attempt is one attempt to write our record.
type attempt struct {
	id  uint64
	at  Time
	rec Session
}

// checkFence notices a fence that has passed. The watchdog has cancelled the lanes on its own by then. Cancelling them
// again costs nothing and keeps this state in step with it.
func (c *Core) checkFence() {
	if c.phase < running || c.self.expired || c.now < c.self.fence {
		return
	}
	c.self.expired = true
	c.cancelAll(ErrFenced)
}

// isolated fences this node at once: the others may be about to declare it dead, and wait only until it must have
// noticed. Only the reply to a renewal sent afterwards shows that they have not, and will not because of what they saw.
func (c *Core) isolated(in Isolated) {
	o := &c.self
	o.cuts, o.cutAt = max(o.cuts, in.N), max(o.cutAt, in.At)
	if c.phase >= running {
		o.expired, o.nextAt = true, c.now
		c.cancelAll(ErrFenced)
	}
	o.fence = min(o.fence, in.At)
	c.setFence()
	c.advanceSelf()
}

func (c *Core) setFence() { c.emit(Fence{At: c.self.fence, Cut: c.self.cuts}) }

// begin starts a new session life, if the record of our name allows it.
func (c *Core) begin() {
	o := &c.self
	if o.recordLost() || o.rec != nil && o.rec.State == Live && !o.rec.sameDirectory(c.cfg.Self) {
		c.phase, o.seenAt, o.moves = watching, c.now, 0
		return
	}
	c.newBoot()
}

// recordLost reports whether there was a record that is no longer there. The process that wrote it may be alive.
func (o *selfState) recordLost() bool { return o.rec == nil && o.rev > 0 }

// newBoot begins a session under a boot above all that are known. No earlier one can start a call any more.
func (c *Core) newBoot() {
	o := &c.self
	// An earlier process on our own directory wrote a live record from there under this kernel. We hold the lock on the
	// directory, which proves that process dead. Its partitions need not wait.
	o.admitted = o.rec != nil && o.rec.State == Live
	boot := o.boot
	if o.rec != nil {
		boot = max(boot, o.rec.Boot)
	}
	c.eachLease(func(ls *leaseState) {
		if ls.rec.Owner == c.cfg.Self.Node {
			boot = max(boot, ls.rec.Boot)
		}
	})
	o.boot = boot + 1
	c.phase = saving
	c.emit(SaveBoot{Boot: o.boot})
}

func (c *Core) savedBoot(boot uint64) {
	if c.phase == saving && boot == c.self.boot {
		c.phase = publishing
		c.writeSelf(Live)
	}
}

// writeSelf sends our record in the given state on the revision known.
func (c *Core) writeSelf(s State) {
	o := &c.self
	o.nonces++
	rec := c.cfg.Self
	rec.Version, rec.Boot, rec.State, rec.TTL = 1, o.boot, s, c.cfg.TTL
	rec.Leaving = c.stopping
	rec.Nonce = fmt.Sprintf("%s-%d", c.cfg.Secret, o.nonces)
	changed := o.rec == nil || o.rec.Boot != rec.Boot || o.rec.State != s || o.rec.Leaving != rec.Leaving
	o.pending = c.write(Write{Key: SessionKey(rec.Node), Revision: o.rev, Session: &rec, Announce: changed})
	o.sent = append(o.sent, attempt{id: o.pending, at: c.now, rec: rec})
	if len(o.sent) > keptAttempts {
		o.sent = slices.Delete(o.sent, 0, 1)
	}
}

// attemptOf finds the attempt of this boot that wrote rec. One that is no longer kept was sent so long ago that it
// moves no fence; yet it is ours and nobody else's.
func (c *Core) attemptOf(rec *Session) (attempt, bool) {
	if rec == nil {
		return attempt{}, false
	}
	wrote := func(a attempt) bool {
		return a.rec.Nonce == rec.Nonce && a.rec.Boot == rec.Boot && a.rec.State == rec.State
	}
	if i := slices.IndexFunc(c.self.sent, wrote); i >= 0 {
		return c.self.sent[i], true
	}
	ours := strings.HasPrefix(rec.Nonce, c.cfg.Secret+"-") && rec.Boot == c.self.boot &&
		len(c.self.sent) == keptAttempts
	return attempt{at: -c.cfg.TTL, rec: *rec}, ours
}

func (c *Core) selfWriteDone(in WriteDone) {
	o := &c.self
	if in.ID != o.pending {
		return
	}
	o.pending = 0
	if in.OK && c.phase == watching {
		k := SessionKey(c.cfg.Self.Node)
		c.observedSelf(Observed{Key: k, Revision: in.Revision, Session: markDead(*c.self.rec)})
		return
	}
	i := slices.IndexFunc(o.sent, func(a attempt) bool { return a.id == in.ID })
	switch {
	case in.OK && i >= 0:
		c.landed(o.sent[i], in.Revision, true)
		return
	case in.OK && in.ID == o.read.id && in.Revision == o.rev:
		// A read was faster, and nothing has been written since.
		c.landed(o.read, in.Revision, true)
		return
	}
	o.nextAt = c.now + c.retryPause()
	c.emit(Read{Key: SessionKey(c.cfg.Self.Node)})
}

// landed takes in that an attempt of ours is stored: its reply says so (answered), or a read showed its nonce.
func (c *Core) landed(a attempt, rev uint64, answered bool) {
	o := &c.self
	o.rev, o.rec, o.sent = rev, &a.rec, nil
	o.nextAt = a.at + c.cfg.Renew
	// Peers could not write during an outage either, so their silence counts from its end.
	if c.now-o.lastOK > 2*c.cfg.Renew {
		c.restartSilence()
	}
	o.lastOK = c.now
	fence, cut := a.at+c.cfg.TTL-c.cfg.Margin, o.cuts > 0 && a.at <= o.cutAt
	switch {
	case c.phase == ending && a.rec.State == Ended:
		c.finish()
		return
	case c.phase == ending:
		o.nextAt = c.now // an earlier renewal came in late
		return
	case c.phase == publishing:
		c.phase, o.joinedAt = running, c.now
		o.fence, o.expired = fence, c.now >= fence || cut
	case answered && o.expired && c.now < fence && !cut:
		o.fence, o.expired = fence, false
	case !o.expired:
		o.fence = max(o.fence, fence)
	}
	if o.expired {
		o.nextAt = c.now // read, or sent too early: lanes resume on a reply only
	} else {
		c.setFence()
	}
	c.sweep()
}

// observedSelf takes in a read of our own record. Only revisions above the known one count.
func (c *Core) observedSelf(in Observed) {
	o, rev, rec := &c.self, in.Revision, in.Session
	if rev <= o.rev {
		return
	}
	if a, ok := c.attemptOf(rec); ok {
		o.read = a
		c.landed(a, rev, false)
		return
	}
	before := o.rec
	if rec == nil || rec.Boot < o.boot && c.phase >= running || before != nil && rec.Boot < before.Boot {
		c.alarm(in, sessionEnds)
	}
	o.rev, o.rec, o.sent, o.pending = rev, rec, nil, 0
	switch c.phase {
	case loading:
	case watching:
		c.watchDuplicate(before)
	case saving, publishing:
		c.begin()
	default:
		c.handleForeignRecord()
	}
}

// handleForeignRecord acts on a record of our name that we did not write.
func (c *Core) handleForeignRecord() {
	o := &c.self
	switch {
	case o.rec == nil || o.rec.State != Live || o.rec.Boot < o.boot:
		// Something that we have not seen may have been written in between, so we do not renew under the same boot.
		c.rejoin()
	default:
		c.exit(fmt.Errorf("%w: %s has written boot %d over ours, %d, from %s: stop one of the two",
			ErrNameTaken, o.rec.Node, o.rec.Boot, o.boot, o.rec.Address))
	}
}

// rejoin stops everything that ran under a dead boot. A new boot follows once all lanes are joined.
func (c *Core) rejoin() {
	c.phase = rejoining
	c.self.expired = true
	c.emit(Fence{At: c.now, Cut: c.self.cuts})
	c.forgetWrites()
	c.cancelAll(ErrDeclaredDead)
	c.eachLease(func(ls *leaseState) {
		if ls.lane == joined || ls.lane == handingOver {
			ls.lane = none
		}
	})
	c.advanceSelf()
}

// watchDuplicate watches a session of our name that another process keeps. Two changes prove it alive; one may be a
// stale read.
func (c *Core) watchDuplicate(before *Session) {
	o := &c.self
	o.seenAt = c.now
	if o.rec == nil || o.rec.State != Live {
		c.begin()
		return
	}
	if before != nil && before.State == Live {
		o.moves++
	}
	if o.moves >= 2 {
		c.exit(fmt.Errorf("%w: another node %s is alive at %s; give each node a unique name",
			ErrNameTaken, o.rec.Node, o.rec.Address))
	}
}

// advanceSelf does what is due for our own session.
func (c *Core) advanceSelf() {
	o := &c.self
	switch c.phase {
	case watching:
		switch {
		case o.pending != 0 || c.now < o.nextAt || c.now-o.seenAt < c.silenceLimit(o.rec):
		case o.recordLost():
			c.newBoot()
		default:
			dead := markDead(*o.rec)
			o.pending = c.write(Write{Key: SessionKey(dead.Node), Revision: o.rev, Session: dead, Announce: true})
		}
	case publishing, running:
		if o.pending == 0 && c.now >= o.nextAt {
			c.writeSelf(Live)
		}
	case ending:
		if o.pending == 0 && c.now >= o.nextAt {
			c.writeSelf(Ended)
		}
	case rejoining:
		if !c.anyLane() && !c.stopping {
			c.begin()
		}
	}
}

func (c *Core) exit(err error) {
	c.phase = finished
	c.emit(Fence{At: c.now, Cut: c.self.cuts})
	c.cancelAll(ErrDeclaredDead)
	c.emit(Exit{Err: err})
}

// stop begins a clean stop.
func (c *Core) stop() {
	if c.stopping {
		return
	}
	c.stopping, c.stopAt = true, c.now
	if c.phase < publishing {
		c.finish()
		return
	}
	c.self.nextAt = c.now // tell the others at once to plan nothing onto us
	c.sweep()
}

// advanceStop ends the session once every lane is joined and every hand-over has landed, or is given up because this
// node has not been able to write for the length of its session.
func (c *Core) advanceStop() {
	if !c.stopping || c.phase == finished {
		return
	}
	giveUp := c.self.expired || c.phase == publishing && c.now-c.stopAt >= c.cfg.TTL-c.cfg.Margin
	switch {
	case c.anyLane():
	case giveUp || c.phase == rejoining:
		c.finish()
	case c.phase == running && (!c.anyLeaseLeft() || c.now-c.stopAt >= c.stopLimit()):
		c.eachLease(func(ls *leaseState) { ls.lane, ls.pending = none, nil })
		c.phase, c.self.nextAt = ending, c.now
		c.advanceSelf()
	}
}

// stopLimit is how long a stop waits for hand-overs of unknown outcome while the session is renewed: a record that was
// deleted accepts no write of ours any more. A hand-over or a claim that lands after the session has ended does no
// harm.
func (c *Core) stopLimit() (longest time.Duration) {
	for _, g := range c.groups {
		longest = max(longest, g.Handover)
	}
	return longest + c.cfg.TTL - c.cfg.Margin
}

func (c *Core) finish() {
	c.phase = finished
	c.emit(Finished{})
}

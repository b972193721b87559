package lease

import (
	"cmp"
	"slices"
	"time"

	"leasehold/cluster/plan"
)

// peer is another node as its session record shows it.
type peer struct {
	name         string
	rev          uint64
	rec          *Session // nil while no record was seen.
	boot         uint64   // Highest boot that any revision has shown.
	lastChangeAt Time     // When its revision last changed, on our clock.
	joinedAt     Time     // When it was first seen live after not being so.
	admitted     bool     // It takes part in plans: it is not a newcomer any more.

	witness Witnessed // The latest proof of its death; it holds for one process and one revision.

	pending uint64 // ID of our write in flight that declares it dead; 0 if none is.
	retryAt Time
}

func (p *peer) live() bool { return p.rec != nil && p.rec.State == Live }

// peer returns the named node's entry, and adds one if there is none.
func (c *Core) peer(name string) *peer {
	i, ok := slices.BinarySearchFunc(c.peers, name, func(p *peer, n string) int { return cmp.Compare(p.name, n) })
	if !ok {
		c.peers = slices.Insert(c.peers, i, &peer{name: name, lastChangeAt: c.now})
	}
	return c.peers[i]
}

func (c *Core) observedPeer(in Observed) {
	p := c.peer(in.Key.Node)
	if in.Revision <= p.rev {
		return
	}
	wasLive, was := p.live(), p.rec
	if in.Session == nil || in.Session.Boot < p.boot {
		c.alarm(in, peerDeclaredDead)
	}
	if in.Session != nil {
		p.boot = max(p.boot, in.Session.Boot)
	}
	p.rev, p.rec, p.lastChangeAt = in.Revision, in.Session, c.now
	if p.live() && !wasLive {
		p.joinedAt, p.admitted = c.now, c.phase == loading
	}
	if p.rec == nil || was == nil ||
		p.rec.Boot != was.Boot || p.rec.State != was.State || p.rec.Leaving != was.Leaving {
		c.sweepIfRunning()
	}
}

func (c *Core) sweepIfRunning() {
	if c.phase == running {
		c.sweep()
	}
}

func (c *Core) peerWriteDone(p *peer, in WriteDone) {
	if p.pending != in.ID {
		return
	}
	p.pending = 0
	if !in.OK {
		p.retryAt = c.now + c.retryPause()
		c.emit(Read{Key: SessionKey(p.name)})
		return
	}
	c.observedPeer(Observed{Key: SessionKey(p.name), Revision: in.Revision, Session: c.deathRecord(p)})
}

// restartSilence counts every peer's silence from now.
func (c *Core) restartSilence() {
	for _, p := range c.peers {
		p.lastChangeAt = c.now
	}
}

// witnessed keeps a proof of a peer's death while the peer's record stays at the revision that the proof is about. A
// write that lands later makes the proof void, and a new one is needed: a node that can write is alive, or was until
// just now.
func (c *Core) witnessed(in Witnessed) {
	i := slices.IndexFunc(c.peers, func(p *peer) bool { return p.name == in.Node })
	if i < 0 || in.Revision < c.peers[i].witness.Revision {
		return
	}
	c.peers[i].witness = in
	c.declareDead()
}

// proven reports whether the process that wrote the peer's current record is known to be gone.
func (p *peer) proven() bool {
	w := p.witness
	return p.live() && p.rec.Provable && w.Revision == p.rev && w.ServerID != "" && w.ServerID == p.rec.ServerID
}

// silent reports whether a peer has to be declared dead because its revision has not changed. The record of a dead
// session with a boot below one that leases name frees no partitions, so it counts as silence too.
func (c *Core) silent(p *peer) bool {
	if p.rec != nil && !p.live() && p.rec.Boot >= c.bootOf(p) {
		return false
	}
	return c.now-p.lastChangeAt >= c.silenceLimit(p.rec)
}

// silenceLimit is how long a session record must be unchanged before its node may be declared dead. The cluster's ttl
// is the minimum: something other than a node may have written the record, while the node's own fence counts the
// cluster's ttl.
func (c *Core) silenceLimit(rec *Session) time.Duration {
	if rec == nil {
		return c.cfg.TTL
	}
	return max(rec.TTL, c.cfg.TTL)
}

// bootOf returns the highest boot known of a peer. If that is above its record's, the record is not its latest.
func (c *Core) bootOf(p *peer) uint64 {
	boot := p.boot
	c.eachLease(func(ls *leaseState) {
		if ls.rec.Owner == p.name {
			boot = max(boot, ls.rec.Boot)
		}
	})
	return boot
}

// declareDead declares dead every peer whose revision has not changed for its ttl, counted while our own renewals
// landed, and every peer that is proven to be gone. Compare-and-set on that very revision makes it safe: a renewal in
// between wins.
func (c *Core) declareDead() {
	if c.phase != running || c.self.expired || c.now-c.self.lastOK > 2*c.cfg.Renew {
		return
	}
	for _, p := range c.peers {
		proven := p.proven() && p.rec.Boot >= c.bootOf(p)
		if !proven && !c.silent(p) || p.pending != 0 || c.now < p.retryAt {
			continue
		}
		rec := c.deathRecord(p)
		if rec.Boot == 0 {
			continue
		}
		w := Write{Key: SessionKey(p.name), Revision: p.rev, Session: rec, Announce: true}
		if proven {
			w.Witnesses = p.witness.By
		}
		p.pending = c.write(w)
	}
}

// deathRecord returns the record that declares a peer dead, under the highest boot known of it. A peer that leases name
// and that has no record gets one. Boot 0: nothing is known of it.
func (c *Core) deathRecord(p *peer) *Session {
	rec := Session{Version: 1, Node: p.name, TTL: c.cfg.TTL}
	if p.rec != nil {
		rec = *p.rec
	}
	rec.Boot = max(rec.Boot, c.bootOf(p))
	return markDead(rec)
}

// markDead returns the session as dead and without its nonce. A node that never got the reply to its last renewal would
// otherwise find its own nonce in our record, take it for that reply and keep running.
func markDead(rec Session) *Session {
	rec.State, rec.Nonce = Dead, ""
	return &rec
}

// dead reports whether the session (node, boot) can never start a call again. A record with a lower boot, or none, is a
// stale read and proves nothing.
func (c *Core) dead(node string, boot uint64) bool {
	rec := c.self.rec
	if node != c.cfg.Self.Node {
		rec = c.peer(node).rec
	}
	if rec == nil {
		return false
	}
	return rec.Boot > boot || rec.Boot == boot && rec.State != Live
}

// plan computes who should own what, from what is known now.
func (c *Core) plan(g *group) {
	if c.phase != running {
		return
	}
	owners := make([]string, len(g.leases))
	for i, ls := range g.leases {
		owners[i] = ls.rec.Owner
	}
	g.target = plan.Assign(c.members(g.Name), owners)
}

// admitNewcomers admits newcomers to the plan together, once no node has joined for the stabilization window. Three
// nodes that start together then share the partitions at once, and none claims what it would soon have to give away.
// Nodes that keep joining delay the others by three windows at most.
func (c *Core) admitNewcomers() {
	first, last, any := c.now, Time(0), false
	note := func(admitted bool, joined Time) {
		if !admitted {
			first, last, any = min(first, joined), max(last, joined), true
		}
	}
	note(c.self.admitted, c.self.joinedAt)
	for _, p := range c.peers {
		note(p.admitted || !p.live(), p.joinedAt)
	}
	if !any || c.now-last < c.cfg.StabilizationWindow && c.now-first < 3*c.cfg.StabilizationWindow {
		return
	}
	c.self.admitted = true
	for _, p := range c.peers {
		p.admitted = p.admitted || p.live()
	}
}

// members lists who takes part in a group's plan: live, serving it, not leaving, and not a newcomer.
func (c *Core) members(group string) []plan.Member {
	var ms []plan.Member
	if !c.stopping && c.self.admitted {
		ms = append(ms, plan.Member{Name: c.cfg.Self.Node, Weight: c.cfg.Self.Weight})
	}
	for _, p := range c.peers {
		if p.live() && !p.rec.Leaving && p.rec.serves(group) && p.admitted {
			ms = append(ms, plan.Member{Name: p.name, Weight: p.rec.Weight})
		}
	}
	return ms
}

// acceptable reports whether a lease may be left to the node.
func (c *Core) acceptable(node, group string) bool {
	if node == "" || node == c.cfg.Self.Node {
		return false
	}
	p := c.peer(node)
	return p.live() && !p.rec.Leaving && p.rec.serves(group)
}

package lease

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Causes with which lanes are cancelled.
var (
	ErrFenced          = errors.New("the session could not be renewed in time")
	ErrLeaseLost       = errors.New("the lease belongs to another owner")
	ErrHandoverTimeout = errors.New("the call did not end within the hand-over timeout")
	ErrDeclaredDead    = errors.New("another node declared this node dead")
)

// Reasons to end the process.
var (
	// ErrNameTaken: another process holds a live session under this node's name.
	ErrNameTaken = errors.New("this node's name is taken")
)

// phase is the state of a node's session. Phases only advance, except that being declared dead leads back to saving.
type phase int

const (
	loading    phase = iota // waits until every record has been read once
	watching                // another process wrote a live session of our name: waits until it changes or falls silent
	saving                  // waits until the new boot number is on disk
	publishing              // writes the live record of the new boot
	running                 // live, or trying to renew
	rejoining               // was declared dead: waits until its lanes are joined, then takes a new boot
	ending                  // writes the ended record
	finished
)

// Core decides for one node. It is not safe for concurrent use.
type Core struct {
	cfg      Config
	now      Time
	out      []Action
	phase    phase
	stopping bool
	stopAt   Time

	self   selfState
	peers  []*peer  // Every other node that has a session or is named by a lease, by name.
	groups []*group // Groups that this node serves, by name.

	lastID uint64
	writes map[uint64]Key // Writes in flight whose outcome still matters.
	alarms map[Key]Alarm  // The latest of each record.
}

// group is one group's leases, as far as they are known, and the plan made from them.
type group struct {
	Group
	leases []*leaseState
	target []string // By partition: who should own it, "" if nobody can.

	commands    Commands
	commandsRev uint64 // Highest revision known of them; 0 if there is none.
}

// New returns the core of a node that has just started. Feed it Observed for every record, then Synced.
func New(cfg Config) *Core {
	c := &Core{cfg: cfg, writes: map[uint64]Key{}, alarms: map[Key]Alarm{}}
	c.self.boot = cfg.Boot
	for _, g := range cfg.Groups {
		gr := &group{Group: g, target: make([]string, g.Partitions)}
		for p := range g.Partitions {
			ls := &leaseState{key: Key{Group: g.Name, Partition: p}, group: gr}
			ls.rec.Checkpoint = g.Start
			gr.leases = append(gr.leases, ls)
		}
		c.groups = append(c.groups, gr)
		c.cfg.Self.Groups = append(c.cfg.Self.Groups, g.Name)
	}
	slices.SortFunc(c.groups, func(a, b *group) int { return cmp.Compare(a.Name, b.Name) })
	slices.Sort(c.cfg.Self.Groups)
	return c
}

// Step takes one input and returns the actions it calls for, in order. now never decreases.
func (c *Core) Step(now Time, in Input) []Action {
	c.now, c.out = now, nil
	if c.phase == finished {
		return nil
	}
	c.checkFence()
	switch in := in.(type) {
	case Tick:
		c.sweep()
	case Observed:
		c.observed(in)
	case Synced:
		c.begin()
	case WriteDone:
		c.writeDone(in)
	case SavedBoot:
		c.savedBoot(in.Boot)
	case Progressed:
		c.progressed(in.Key, in.Epoch, in.Progress)
	case Stopped:
		c.stopped(in.Key, in.Epoch, in.Progress)
	case Witnessed:
		c.witnessed(in)
	case Isolated:
		c.isolated(in)
	case Stop:
		c.stop()
	}
	return c.out
}

// sweep does everything that the time or another node's change may have made due.
func (c *Core) sweep() {
	c.advanceSelf()
	c.declareDead()
	if c.phase == running {
		c.admitNewcomers()
	}
	for _, g := range c.groups {
		c.plan(g)
		for _, ls := range g.leases {
			c.decide(ls)
		}
	}
	c.advanceStop()
}

func (c *Core) emit(a Action) { c.out = append(c.out, a) }

// write sends one compare-and-set and returns its ID.
func (c *Core) write(w Write) uint64 {
	c.lastID++
	w.ID = c.lastID
	c.writes[w.ID] = w.Key
	c.emit(w)
	return w.ID
}

func (c *Core) observed(in Observed) {
	switch {
	case in.Key.Node == c.cfg.Self.Node:
		c.observedSelf(in)
	case in.Key.Node != "":
		c.observedPeer(in)
	case in.Key.Partition == wholeGroup:
		c.observedCommands(in)
	default:
		c.observedLease(in)
	}
}

func (c *Core) writeDone(in WriteDone) {
	key, ok := c.writes[in.ID]
	if !ok {
		return // sent under an earlier boot
	}
	delete(c.writes, in.ID)
	switch {
	case key.Node == c.cfg.Self.Node:
		c.selfWriteDone(in)
	case key.Node != "":
		c.peerWriteDone(c.peer(key.Node), in)
	default:
		c.leaseWriteDone(c.leaseOf(key), in)
	}
}

// forgetWrites ignores the outcomes of all writes in flight. One that lands nevertheless is found by a read.
func (c *Core) forgetWrites() {
	clear(c.writes)
	c.self.pending = 0
	for _, p := range c.peers {
		p.pending = 0
	}
	c.eachLease(func(ls *leaseState) { ls.pending = nil })
}

// retryPause is the time between a write of unknown outcome and the next attempt: long enough not to spin on quick
// refusals, short enough that several attempts fit before the fence.
func (c *Core) retryPause() time.Duration { return c.cfg.Renew / 10 }

func (c *Core) leaseOf(k Key) *leaseState {
	for _, g := range c.groups {
		if g.Name == k.Group && k.Partition >= 0 && k.Partition < len(g.leases) {
			return g.leases[k.Partition]
		}
	}
	return nil
}

func (c *Core) eachLease(f func(*leaseState)) {
	for _, g := range c.groups {
		for _, ls := range g.leases {
			f(ls)
		}
	}
}

// Slack returns how long the broker may be without a leader before the node loses its session: see DESIGN.md, "The
// budget".
func (c Config) Slack() time.Duration { return c.TTL - c.Margin - c.Renew - c.WriteLimit }

// Check refuses a timing whose slack is not longer than an election.
func (c Config) Check(longestElection time.Duration) error {
	if spare := c.Slack(); spare <= longestElection {
		return fmt.Errorf("session_ttl %v less margin %v, renew %v and a write's limit %v leaves %v, "+
			"which must be more than the longest election, %v", c.TTL, c.Margin, c.Renew, c.WriteLimit, spare, longestElection)
	}
	return nil
}

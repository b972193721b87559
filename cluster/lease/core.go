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

// phase is where a node's session stands. It only goes forward, but for burial, which leads back to saving.
type phase int

const (
	loading    phase = iota // waits until every record was read once
	watching                // a live session of our name was written elsewhere: waits for it to move or to fall silent
	saving                  // waits until the new boot number is on disk
	publishing              // writes the live record of the new boot
	running                 // live, or trying to stay so
	rejoining               // found itself buried: waits for its lanes to be joined, then takes a new boot
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
	peers  []*peer  // Every other node whose session is known or missed, by name.
	groups []*group // Groups that this node serves, by name.

	lastID uint64
	writes map[uint64]Key // Writes under way that still matter.
	alarms map[Key]Alarm  // The latest of each record.
}

// group is one group's leases as far as they are known, and the plan made from them.
type group struct {
	Group
	leases []*leaseState
	target []string // By partition: who should own it, "" if nobody can.

	commands    Commands
	commandsRev uint64 // Highest revision known of them; 0 if nobody ever asked for anything.
}

// New returns the core of a node that has just started. Feed it Saw for every record there is, then Loaded.
func New(cfg Config) *Core {
	c := &Core{cfg: cfg, writes: map[uint64]Key{}, alarms: map[Key]Alarm{}}
	c.self.boot = cfg.Boot
	for _, g := range cfg.Groups {
		gr := &group{Group: g, target: make([]string, g.Partitions)}
		for p := range g.Partitions {
			h := &leaseState{key: Key{Group: g.Name, Partition: p}, group: gr}
			h.rec.Checkpoint = g.Start
			gr.leases = append(gr.leases, h)
		}
		c.groups = append(c.groups, gr)
		c.cfg.Self.Groups = append(c.cfg.Self.Groups, g.Name)
	}
	slices.SortFunc(c.groups, func(a, b *group) int { return cmp.Compare(a.Name, b.Name) })
	slices.Sort(c.cfg.Self.Groups)
	return c
}

// Step takes one input at a time that never goes back, and returns what to do about it.
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

// sweep looks at everything that time or another node's change may have made due.
func (c *Core) sweep() {
	c.advanceSelf()
	c.declareDead()
	if c.phase == running {
		c.admitNewcomers()
	}
	for _, g := range c.groups {
		c.plan(g)
		for _, h := range g.leases {
			c.decide(h)
		}
	}
	c.advanceStop()
}

func (c *Core) emit(a Action) { c.out = append(c.out, a) }

// write sends one compare-and-set and returns its id.
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

// forgetWrites makes the answers of everything under way meaningless. Whatever lands nevertheless will be read.
func (c *Core) forgetWrites() {
	clear(c.writes)
	c.self.pending = 0
	for _, p := range c.peers {
		p.pending = 0
	}
	c.eachLease(func(h *leaseState) { h.pending = nil })
}

// pause is how long an unknown write rests before it is tried again: long enough not to spin on quick refusals, short
// enough that several tries fit before the fence.
func (c *Core) pause() time.Duration { return c.cfg.Renew / 10 }

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
		for _, h := range g.leases {
			f(h)
		}
	}
}

// Slack returns how long the broker may be without a leader before the node loses its session: see DESIGN.md, "The budget".
func (c Config) Slack() time.Duration { return c.TTL - c.Margin - c.Renew - c.WriteLimit }

// Check refuses a timing whose slack is not longer than an election.
func (c Config) Check(longestElection time.Duration) error {
	if spare := c.Slack(); spare <= longestElection {
		return fmt.Errorf("session_ttl %v less margin %v, renew %v and a write's limit %v leaves %v, "+
			"which must be more than the longest election, %v", c.TTL, c.Margin, c.Renew, c.WriteLimit, spare, longestElection)
	}
	return nil
}

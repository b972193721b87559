package lease

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"leasehold/internal/ownership"
)

var update = flag.Bool("update", false, "rewrite testdata/table.golden")

// The table's node is n1, under boot 5. The table is about partition 1 of two; partition 0 only makes the plan name n1
// or n2 for it. n2 is live and takes part; n3 is any other owner of the lease.
const (
	testTTL    = 5 * time.Second
	testRenew  = time.Second
	testMargin = time.Second
	testNow    = time.Hour
	testBoot   = 5
	testEpoch  = 7
	testRev    = 100 // Of every record that is there.
)

// state is one row's left side: everything that the core's decision about one lease rests on.
type state struct {
	phase    phase
	expired  bool
	stopping bool
	lane     laneState
	revoked  bool
	rec      string // A key of records.
	old      bool   // The record and the claim are old, not fresh.
	planned  string // n1 or n2.
	write    string // "", "pending", "outrun" (pending, but a higher revision was seen since) or "resting"
}

func (s state) String() string { return s.session() + " " + s.variant() }

// variant is the part of a state that golden lines with one outcome are folded over.
func (s state) variant() string {
	v := s.rec + "/" + s.planned
	if s.old {
		v += "/old"
	}
	return v
}

func (s state) session() string {
	parts := []string{[]string{
		"loading", "watching", "saving", "publishing", "running", "rejoining", "ending", "finished",
	}[s.phase]}
	add := func(on bool, what string) {
		if on {
			parts = append(parts, what)
		}
	}
	add(s.expired, "expired")
	add(s.stopping, "stopping")
	parts = append(parts, laneNames[s.lane])
	add(s.revoked, "revoked")
	add(s.write != "", s.write)
	return strings.Join(parts, " ")
}

var laneNames = map[laneState]string{
	none: "none", active: "active", draining: "draining", cancelled: "cancelled", joined: "joined",
	handingOver: "handing-over",
}

// records are what the lease may say, and what the owner's session is known to say.
var records = []struct {
	name  string
	lease Lease
	n3    *Session // What is known of n3.
}{
	{"never-written", Lease{}, nil},
	{"free", Lease{Epoch: testEpoch}, nil},
	{"free-successor-me", Lease{Epoch: testEpoch, Successor: "n1"}, nil},
	{"free-successor-live", Lease{Epoch: testEpoch, Successor: "n2"}, nil},
	{"free-successor-dead", Lease{Epoch: testEpoch, Successor: "n3"}, peerSession("n3", 2, Dead)},
	{"mine", Lease{Owner: "n1", Boot: testBoot, Epoch: testEpoch}, nil},
	{"mine-other-epoch", Lease{Owner: "n1", Boot: testBoot, Epoch: testEpoch + 1}, nil},
	{"my-earlier-boot", Lease{Owner: "n1", Boot: testBoot - 1, Epoch: testEpoch + 1}, nil},
	{"owner-live", Lease{Owner: "n3", Boot: 2, Epoch: testEpoch + 1}, peerSession("n3", 2, Live)},
	{"owner-dead", Lease{Owner: "n3", Boot: 2, Epoch: testEpoch + 1}, peerSession("n3", 2, Dead)},
	{"owner-ended", Lease{Owner: "n3", Boot: 2, Epoch: testEpoch + 1}, peerSession("n3", 2, Ended)},
	{"owner-higher-boot-live", Lease{Owner: "n3", Boot: 2, Epoch: testEpoch + 1}, peerSession("n3", 3, Live)},
	{"owner-higher-boot-dead", Lease{Owner: "n3", Boot: 2, Epoch: testEpoch + 1}, peerSession("n3", 3, Dead)},
	{"owner-lower-boot-live", Lease{Owner: "n3", Boot: 2, Epoch: testEpoch + 1}, peerSession("n3", 1, Live)},
	{"owner-lower-boot-dead", Lease{Owner: "n3", Boot: 2, Epoch: testEpoch + 1}, peerSession("n3", 1, Dead)},
	{"owner-without-session", Lease{Owner: "n3", Boot: 2, Epoch: testEpoch + 1}, nil},
}

func peerSession(node string, boot uint64, s State) *Session {
	return &Session{Version: 1, Node: node, Boot: boot, State: s, Nonce: node + "-nonce", ServerID: serverOf(node, boot),
		Provable: true, TTL: testTTL, Groups: []string{"g"}, Weight: 1}
}

// serverOf is the broker's id of the process that lived under a boot.
func serverOf(node string, boot uint64) string { return fmt.Sprint(node, "-process-", boot) }

func testConfig() Config {
	return Config{
		Self: Session{Node: "n1", DirID: "dir", KernelBoot: "kernel", LockIno: 1, Weight: 1}, Secret: "s", Boot: testBoot - 1,
		Groups: []Group{{Name: "g", Partitions: 2, Start: 3, Handover: 2 * time.Second}},
		TTL:    testTTL, Renew: testRenew, Margin: testMargin, WriteLimit: testRenew / 2, StabilizationWindow: time.Second,
		MinHold: 10 * time.Second,
	}
}

// build makes the core of a state. Every call makes the same.
func (s state) build() (*Core, *leaseState) {
	c := New(testConfig())
	c.now, c.phase, c.stopping, c.lastID = testNow, s.phase, s.stopping, 50
	if s.stopping {
		c.stopAt = testNow - time.Second
	}
	s.buildSelf(c)
	c.addPeer("n2", peerSession("n2", 1, Live))
	ls, steer := c.groups[0].leases[1], c.groups[0].leases[0]
	steer.lastValid = &Lease{Version: 1, Epoch: 1}
	steer.rev, steer.rec, steer.retryAt = testRev, Lease{Version: 1, Owner: "n2", Boot: 1, Epoch: 1}, 1000*time.Hour
	if s.planned == "n2" {
		steer.rec.Owner, steer.rec.Boot = "n1", testBoot // takes n1's share
	}
	s.buildLease(c, ls)
	return c, ls
}

func (s state) buildSelf(c *Core) {
	o := &c.self
	if s.phase == loading {
		return
	}
	rec := c.cfg.Self
	rec.Version, rec.Boot, rec.State, rec.TTL, rec.Nonce, rec.Leaving = 1, testBoot, Live, testTTL, "s-9", s.stopping
	o.boot, o.rev, o.rec, o.nonces, o.admitted = testBoot, testRev, &rec, 9, true
	switch {
	case s.phase == watching:
		rec.DirID = "another"
		o.seenAt, o.boot = testNow-time.Second, testBoot-1
	case s.phase < running:
		rec.Boot = testBoot - 1
	case s.phase == rejoining:
		rec.State, rec.Nonce = Dead, ""
	}
	o.lastOK, o.nextAt, o.fence, o.joinedAt = testNow-500*time.Millisecond, testNow+500*time.Millisecond,
		testNow+3*time.Second, testNow-time.Hour/2
	if s.phase < running {
		o.fence, o.joinedAt, o.lastOK = 0, 0, 0
	}
	if s.expired {
		o.expired, o.lastOK, o.fence, o.nextAt = true, testNow-5*time.Second, testNow-time.Second,
			testNow+100*time.Millisecond
	}
	if s.phase == publishing || s.phase == running || s.phase == ending {
		sent := rec
		sent.Boot, sent.Nonce = testBoot, "s-10"
		if s.phase == ending {
			sent.State = Ended
		}
		o.nonces, o.pending, o.sent = 10, 40, []attempt{{id: 40, at: testNow - 100*time.Millisecond, rec: sent}}
		c.writes[40] = SessionKey("n1")
	}
}

func (c *Core) addPeer(name string, rec *Session) *peer {
	p := c.peer(name)
	p.rec, p.lastChangeAt, p.admitted = rec, testNow-time.Second, true
	if rec != nil {
		p.rev, p.boot = testRev, rec.Boot
	}
	return p
}

func (s state) buildLease(c *Core, ls *leaseState) {
	for _, r := range records {
		if r.name != s.rec {
			continue
		}
		ls.rec = r.lease
		ls.rec.Version, ls.rec.Checkpoint, ls.rec.Attempt, ls.rev = 1, 30, 1, testRev
		believed := ls.rec
		ls.lastValid = &believed
		if r.lease.Owner == "n3" || r.lease.Successor == "n3" {
			c.addPeer("n3", r.n3)
		}
	}
	if s.rec == "never-written" {
		ls.rec, ls.rev, ls.lastValid = Lease{Checkpoint: 3}, 0, nil
	}
	since := testNow - 100*time.Millisecond
	if s.old {
		since = testNow - 20*time.Second
	}
	ls.seenAt, ls.claimedAt, ls.drainAt = since, since, since
	if ls.rec.Owner != "" && s.phase >= running && c.dead(ls.rec.Owner, ls.rec.Boot) {
		ls.deadAt = since
	}
	ls.lane, ls.revoked = s.lane, s.revoked
	if s.lane != none {
		ls.epoch, ls.progress = testEpoch, ownership.Progress{Checkpoint: 30, Attempt: 1}
		if s.write != "" {
			ls.progress = ownership.Progress{Checkpoint: 31}
		}
	}
	s.buildWrite(c, ls)
}

// buildWrite puts a write under way that the core could have sent in this state, or in the one before it.
func (s state) buildWrite(c *Core, ls *leaseState) {
	if s.write == "resting" {
		ls.retryAt = testNow + 50*time.Millisecond
	}
	if s.write != "pending" && s.write != "outrun" {
		return
	}
	rec, rev := ls.rec, ls.rev
	switch {
	case s.write == "outrun" && s.lane == none && (s.rec == "mine-other-epoch" || s.rec == "free-successor-live"):
		rev-- // a claim or a hand-over that a read has shown before its reply
	case s.write == "outrun" && s.lane == none:
		rec, rev = Lease{Version: 1, Owner: "n1", Boot: testBoot, Epoch: testEpoch, Checkpoint: 29}, rev-2
	case s.revoked:
		rec, rev = Lease{Version: 1, Owner: "n1", Boot: testBoot, Epoch: testEpoch, Checkpoint: 31}, rev-2
	case s.lane == none && s.stopping:
		rec.Owner, rec.Boot = "", 0
	case s.lane == none:
		rec.Owner, rec.Boot, rec.Successor = "n1", testBoot, ""
		rec.Epoch++
	case s.lane == handingOver:
		rec.Owner, rec.Boot, rec.Successor, rec.Checkpoint, rec.Attempt = "", 0, "n2", 31, 0
	case s.write == "pending":
		rec.Checkpoint, rec.Attempt = 31, 0
	}
	if s.write == "outrun" && rev == ls.rev {
		rev--
	}
	ls.pending = &Write{ID: 41, Key: ls.key, Revision: rev, Lease: &rec, Announce: s.lane == none || s.lane == handingOver}
	c.writes[41] = ls.key
}

// writeOK is the OK of the write in flight, if it can have landed.
func writeOK(_ *Core, ls *leaseState) Input {
	p := ls.pending
	switch {
	case p == nil || p.Revision == ls.rev:
		return WriteDone{ID: 41, OK: true, Revision: ls.rev + 1}
	case *p.Lease == ls.rec:
		return WriteDone{ID: 41, OK: true, Revision: ls.rev}
	case p.Revision == ls.rev-1:
		return nil // what was seen since took its place
	}
	return WriteDone{ID: 41, OK: true, Revision: ls.rev - 1}
}

// sawCommit shows a commit of our lane that ended unknown.
func observeCommit(_ *Core, ls *leaseState) Input {
	if ls.lane == none || ls.revoked || ls.progress.Checkpoint != 31 {
		return nil
	}
	rec := ls.rec
	rec.Checkpoint, rec.Attempt = 31, 0
	return Observed{Key: ls.key, Revision: ls.rev + 1, Lease: &rec}
}

// states lists every combination, and which of them the core can be in: those for which wellFormed finds nothing.
func states() (possible []state, all int) {
	flags := []bool{false, true}
	for ph := loading; ph <= finished; ph++ {
		for _, expired := range flags {
			for _, stopping := range flags {
				for l := none; l <= handingOver; l++ {
					for _, lost := range flags {
						for _, r := range records {
							for _, old := range flags {
								for _, planned := range []string{"n1", "n2"} {
									for _, write := range []string{"", "pending", "outrun", "resting"} {
										s := state{ph, expired, stopping, l, lost, r.name, old, planned, write}
										all++
										if s.possible() {
											possible = append(possible, s)
										}
									}
								}
							}
						}
					}
				}
			}
		}
	}
	return possible, all
}

func (s state) possible() bool {
	named := strings.HasPrefix(s.rec, "mine")
	switch {
	case s.expired && s.phase != running && s.phase != rejoining && s.phase != ending, !s.expired && s.phase == rejoining:
		return false
	case s.revoked && s.lane != cancelled: // makes no difference any more
		return false
	case s.stopping && s.phase < publishing, !s.stopping && s.phase == ending:
		return false
	case s.phase < running && named: // no claim of this boot was sent yet
		return false
	case s.write != "" && s.phase != running, s.phase != running && (s.old || s.planned == "n2"): // makes no difference
		return false
	case s.stopping && s.planned == "n2": // a stopping node plans nothing onto itself anyhow
		return false
	case s.write == "pending" && s.lane == none && s.stopping && !named: // only our own is given back
		return false
	case s.write == "pending" && s.revoked, s.write == "outrun" && s.rec == "never-written":
		return false
	case s.write == "pending" && s.lane == none && (s.rec == "owner-live" || strings.Contains(s.rec, "lower") ||
		s.rec == "owner-without-session"):
		return false
	}
	c, ls := s.build()
	return wellFormed(c, ls) == nil
}

// wellFormed is what holds between two inputs. The table shows that every input preserves it.
func wellFormed(c *Core, ls *leaseState) error {
	owned := c.mine(ls) && ls.rec.Epoch == ls.epoch
	switch {
	case c.phase == finished:
		return nil
	case ls.revoked && ls.lane != cancelled && ls.lane != none:
		return errors.New("a revoked lane is not cancelled")
	case (ls.lane == active || ls.lane == draining) && (c.phase != running || c.self.expired || !owned):
		return errors.New("a lane runs without a live session or without its lease")
	case (ls.lane == joined || ls.lane == handingOver) && (c.phase != running || !owned):
		return errors.New("a joined lane is kept without its lease")
	case ls.lane == cancelled && c.phase != running && c.phase != rejoining:
		return errors.New("the session went on before a lane was joined")
	case ls.lane == cancelled && c.phase == running && ls.revoked == owned:
		return errors.New("a cancelled lane is neither revoked nor ours")
	case c.phase == running && c.self.rec != nil && (c.self.rec.Boot != c.self.boot || c.self.rec.State != Live):
		return errors.New("runs under a session that is not live")
	case ls.pending != nil && c.phase != running:
		return errors.New("a lease write is under way outside a live session")
	case ls.pending != nil && c.writes[ls.pending.ID] != ls.key:
		return errors.New("the outcome of the write in flight would be dropped")
	}
	return nil
}

// event is one column: an input, and when it comes.
type event struct {
	name  string
	after time.Duration
	in    func(c *Core, ls *leaseState) Input // nil if it cannot come in that state.
}

func plain(in Input) func(*Core, *leaseState) Input {
	return func(*Core, *leaseState) Input { return in }
}

func observeLease(rev uint64, rec *Lease) func(*Core, *leaseState) Input {
	return plain(Observed{Key: Key{Group: "g", Partition: 1}, Revision: rev, Lease: rec})
}

// sawOwn shows our own record, changed, at a revision.
func observeSelf(rev uint64, change func(*Session)) func(*Core, *leaseState) Input {
	return func(c *Core, _ *leaseState) Input {
		rec := c.cfg.Self
		rec.Version, rec.Boot, rec.State, rec.TTL, rec.Nonce = 1, testBoot, Live, testTTL, "other-1"
		change(&rec)
		return Observed{Key: SessionKey("n1"), Revision: rev, Session: &rec}
	}
}

func observePeer(rev uint64, rec *Session) func(*Core, *leaseState) Input {
	return plain(Observed{Key: SessionKey(rec.Node), Revision: rev, Session: rec})
}

// theirs is a record that names an owner under a new epoch.
func theirs(owner string, boot uint64) *Lease {
	return &Lease{Version: 1, Owner: owner, Boot: boot, Epoch: testEpoch + 2, Checkpoint: 35}
}

var leaseEvents = []event{
	{"tick", 0, plain(Tick{})},
	{"tick-rested", 100 * time.Millisecond, plain(Tick{})},
	{"tick-handover-timeout", 2500 * time.Millisecond, plain(Tick{})},
	{"tick-at-fence", 3 * time.Second, plain(Tick{})},
	{"tick-after-suspend", time.Hour, plain(Tick{})},

	{"observed-absent", 0, observeLease(0, nil)},
	{"observed-older", 0, observeLease(testRev-1, theirs("n2", 1))},
	{"observed-same", 0, func(_ *Core, ls *leaseState) Input {
		rec := ls.rec
		return Observed{Key: ls.key, Revision: ls.rev, Lease: &rec}
	}},
	{"observed-own-write-landed", 0, func(_ *Core, ls *leaseState) Input {
		if ls.pending == nil || ls.pending.Revision != ls.rev {
			return nil
		}
		return Observed{Key: ls.key, Revision: ls.rev + 1, Lease: ls.pending.Lease}
	}},
	{"observed-commit-landed", 0, observeCommit},
	{"observed-late-claim-landed", 0, observeLease(testRev+1, theirs("n1", testBoot))},
	{"observed-my-earlier-boot", 0, observeLease(testRev+1, theirs("n1", testBoot-1))},
	{"observed-free", 0, observeLease(testRev+1, &Lease{Version: 1, Epoch: testEpoch + 2, Checkpoint: 35})},
	{"observed-free-successor-me", 0, observeLease(testRev+1, &Lease{Version: 1, Epoch: testEpoch + 2, Checkpoint: 35,
		Successor: "n1"})},
	{"observed-free-successor-live", 0, observeLease(testRev+1, &Lease{Version: 1, Epoch: testEpoch + 2, Checkpoint: 35,
		Successor: "n2"})},
	{"observed-owner-live", 0, observeLease(testRev+1, theirs("n2", 1))},
	{"observed-owner-unknown", 0, observeLease(testRev+1, theirs("n4", 1))},
	{"observed-deleted", 0, observeLease(testRev+1, nil)},

	{"write-ok", 0, writeOK},
	{"write-ok-past-fence", 4 * time.Second, writeOK},
	{"write-unknown", 0, plain(WriteDone{ID: 41})},
	{"write-of-another-life", 0, plain(WriteDone{ID: 7, OK: true, Revision: testRev + 1})},

	{"progressed", 0, plain(Progressed{Key: Key{Group: "g", Partition: 1}, Epoch: testEpoch,
		Progress: ownership.Progress{Checkpoint: 32}})},
	{"progressed-attempt", 0, plain(Progressed{Key: Key{Group: "g", Partition: 1}, Epoch: testEpoch,
		Progress: ownership.Progress{Checkpoint: 31, Attempt: 2}})},
	{"progressed-other-epoch", 0, plain(Progressed{Key: Key{Group: "g", Partition: 1}, Epoch: testEpoch - 1,
		Progress: ownership.Progress{Checkpoint: 32}})},
	{"stopped", 0, plain(Stopped{Key: Key{Group: "g", Partition: 1}, Epoch: testEpoch,
		Progress: ownership.Progress{Checkpoint: 32}})},
	{"stopped-past-fence", 4 * time.Second, plain(Stopped{Key: Key{Group: "g", Partition: 1}, Epoch: testEpoch,
		Progress: ownership.Progress{Checkpoint: 32}})},
	{"stopped-other-epoch", 0, plain(Stopped{Key: Key{Group: "g", Partition: 1}, Epoch: testEpoch - 1,
		Progress: ownership.Progress{Checkpoint: 32}})},
	{"stop", 0, plain(Stop{})},
	{"saved-boot", 0, plain(SavedBoot{Boot: testBoot})},
	{"saved-other-boot", 0, plain(SavedBoot{Boot: testBoot + 1})},

	{"session-ok", 0, plain(WriteDone{ID: 40, OK: true, Revision: testRev + 1})},
	{"session-ok-late", 5 * time.Second, plain(WriteDone{ID: 40, OK: true, Revision: testRev + 1})},
	{"session-unknown", 0, plain(WriteDone{ID: 40})},
	{"observed-session-older", 0, observeSelf(testRev-1, func(s *Session) { s.Boot = testBoot + 4 })},
	{"observed-session-renewed", 0, observeSelf(testRev+1, func(s *Session) { s.Nonce = "s-10" })},
	{"observed-session-dead", 0, observeSelf(testRev+1, func(s *Session) { s.State, s.Nonce = Dead, "" })},
	{"observed-session-ended", 0, observeSelf(testRev+1, func(s *Session) { s.State, s.Nonce = Ended, "" })},
	{"observed-session-of-duplicate", 0, observeSelf(testRev+1, func(s *Session) {
		s.Boot, s.DirID = testBoot+1, "another"
	})},
	{"observed-session-lower-boot", 0, observeSelf(testRev+1, func(s *Session) { s.Boot = testBoot - 2 })},
	{"observed-session-deleted", 0, plain(Observed{Key: SessionKey("n1"), Revision: testRev + 1})},

	{"isolated", 0, plain(Isolated{N: 1, At: testNow})},
	{"isolated-past-fence", 4 * time.Second, plain(Isolated{N: 1, At: testNow})},
	{"we-are-witnessed", 0, plain(Witnessed{Node: "n1", Revision: testRev, By: []string{"n2"}})},

	{"observed-command", 0, plain(Observed{Key: CommandsKey("g"), Revision: testRev + 1, Commands: &testCommands})},
	{"observed-command-applied-before", 0, plain(Observed{Key: CommandsKey("g"), Revision: testRev + 1,
		Commands: &Commands{Open: []Command{{ID: 0, Kind: Seek}}}})},
	{"observed-command-of-other-partition", 0, plain(Observed{Key: CommandsKey("g"), Revision: testRev + 1,
		Commands: &Commands{Open: []Command{{ID: 9, Kind: Seek, Partitions: []int{0}}}}})},

	{"observed-n2-dead", 0, observePeer(testRev+1, peerSession("n2", 1, Dead))},
	{"observed-n3-renewed", 0, observePeer(testRev+1, peerSession("n3", 2, Live))},
	{"observed-n3-dead", 0, observePeer(testRev+1, peerSession("n3", 2, Dead))},
	{"observed-n3-higher-boot", 0, observePeer(testRev+1, peerSession("n3", 9, Live))},
	{"observed-n3-lower-boot-dead", 0, observePeer(testRev+1, peerSession("n3", 1, Dead))},
	{"observed-n3-older", 0, observePeer(testRev-1, peerSession("n3", 9, Dead))},
}

// testRequests are a seek back, and a pause after it.
var testCommands = Commands{Version: 1, LastID: 3, Open: []Command{
	{ID: 2, Kind: Seek, Seq: 10}, {ID: 3, Kind: Pause, Reason: "wait"},
}}

// row is a state to try events on.
type row struct {
	name    string // Rows of one name and different variants share golden lines.
	variant string
	build   func() (*Core, *leaseState)
	events  []event
}

// sessionRows are about our own record alone: the start, the wait for a duplicate, and attempts that accumulate.
func sessionRows() []row {
	var rows []row
	loaded := []event{{"synced", 0, plain(Synced{})}, {"tick", 0, plain(Tick{})}, {"stop", 0, plain(Stop{})}}
	for _, own := range []struct {
		name   string
		change func(*Session)
	}{
		{"absent", nil},
		{"live-same-home", func(*Session) {}},
		{"live-other-disk", func(s *Session) { s.DirID = "another" }},
		{"live-other-kernel-life", func(s *Session) { s.KernelBoot = "another" }},
		{"live-other-lock-file", func(s *Session) { s.LockIno = 2 }},
		{"live-unknown-kernel-life", func(s *Session) { s.KernelBoot = "" }},
		{"dead", func(s *Session) { s.State = Dead }},
		{"ended", func(s *Session) { s.State = Ended }},
	} {
		for _, boots := range []string{"disk", "session", "lease"} {
			rows = append(rows, row{"loading own-record-" + own.name + " highest-boot-in-" + boots, "",
				func() (*Core, *leaseState) {
					return buildLoading(own.change, boots)
				}, loaded})
		}
	}
	for _, w := range []struct {
		name            string
		quiet           time.Duration
		moves           int
		pending, rested bool
	}{
		{"watching", time.Second, 0, false, true},
		{"watching changed-once", time.Second, 1, false, true},
		{"watching silent", testTTL, 0, false, true},
		{"watching silent resting", testTTL, 0, false, false},
		{"watching silent marking-dead", testTTL, 0, true, true},
	} {
		rows = append(rows, row{w.name, "", func() (*Core, *leaseState) {
			c, ls := state{phase: watching, rec: "free", planned: "n1"}.build()
			c.self.seenAt, c.self.moves = testNow-w.quiet, w.moves
			if !w.rested {
				c.self.nextAt = testNow + 50*time.Millisecond
			} else {
				c.self.nextAt = 0
			}
			if w.pending {
				c.self.pending, c.writes[40] = 40, SessionKey("n1")
			}
			return c, ls
		}, leaseEvents})
	}
	return slices.Concat(rows, attemptRows(), cutRows(), overdueRows(), commandRows())
}

// commandRows: a command is due for the partition, in every state of a live session.
func commandRows() []row {
	var rows []row
	possible, _ := states()
	for _, s := range possible {
		if s.phase != running {
			continue
		}
		rows = append(rows, row{"command-due " + s.session(), s.variant(), func() (*Core, *leaseState) {
			c, ls := s.build()
			g := c.groups[0]
			g.commands, g.commandsRev = testCommands, testRev
			g.commands.Open = slices.Clone(g.commands.Open)
			for i := range g.commands.Open {
				g.commands.Open[i].Partitions = []int{1}
			}
			if ls.lane == handingOver && ls.pending != nil && !c.shouldRelease(ls) {
				rec := ls.underNextEpoch(ls.rec.with(ls.progress)) // else it would be handed over
				ls.pending.Lease = &rec
			}
			return c, ls
		}, commandEvents})
	}
	return rows
}

// observeCommandLanded shows that the write of a command's new epoch landed without a reply.
func observeCommandLanded(c *Core, ls *leaseState) Input {
	if ls.lane != handingOver {
		return nil
	}
	rec := ls.underNextEpoch(ls.rec.with(ls.progress))
	return Observed{Key: ls.key, Revision: ls.rev + 1, Lease: &rec}
}

var commandEvents = append(slices.Clone(leaseEvents[:5]),
	event{"observed-command-landed", 0, observeCommandLanded},
	event{"observed-same", 0, leaseEvents[7].in},
	event{"observed-commit-landed", 0, observeCommit},
	event{"observed-free", 0, observeLease(testRev+1, &Lease{Version: 1, Epoch: testEpoch + 2, Checkpoint: 35})},
	event{"observed-owner-live", 0, observeLease(testRev+1, theirs("n2", 1))},
	event{"write-ok", 0, writeOK},
	event{"write-command-ok", 0, writeCommandOK},
	event{"write-unknown", 0, plain(WriteDone{ID: 41})},
	event{"stopped", 0, plain(Stopped{Key: Key{Group: "g", Partition: 1}, Epoch: testEpoch,
		Progress: ownership.Progress{Checkpoint: 32}})},
	event{"stopped-past-fence", 4 * time.Second, plain(Stopped{Key: Key{Group: "g", Partition: 1}, Epoch: testEpoch,
		Progress: ownership.Progress{Checkpoint: 32}})},
	event{"session-ok", 0, plain(WriteDone{ID: 40, OK: true, Revision: testRev + 1})},
	event{"stop", 0, plain(Stop{})},
)

// writeCommandOK is the OK of the write of a command's new epoch.
func writeCommandOK(c *Core, ls *leaseState) Input {
	if ls.lane != handingOver || ls.pending == nil || ls.pending.Revision != ls.rev {
		return nil
	}
	return WriteDone{ID: 41, OK: true, Revision: ls.rev + 1}
}

// overdueRows: a stop that has waited long for its hand-overs, in every state of the lease.
func overdueRows() []row {
	var rows []row
	possible, _ := states()
	for _, s := range possible {
		if s.phase != running || !s.stopping || s.expired {
			continue
		}
		rows = append(rows, row{"overdue " + s.session(), s.variant(), func() (*Core, *leaseState) {
			c, ls := s.build()
			c.stopAt = testNow - c.stopLimit()
			c.self.pending = 0
			return c, ls
		}, leaseEvents[:5]})
	}
	return rows
}

func buildLoading(change func(*Session), boots string) (*Core, *leaseState) {
	c, ls := state{phase: loading, rec: "free", planned: "n1"}.build()
	if change != nil {
		rec := c.cfg.Self
		rec.Version, rec.Boot, rec.State, rec.TTL = 1, 2, Live, testTTL
		change(&rec)
		if boots == "session" {
			rec.Boot = 20
		}
		c.self.rev, c.self.rec = testRev, &rec
		if rec.KernelBoot == "" {
			c.cfg.Self.KernelBoot = ""
		}
	}
	if boots == "lease" {
		ls.rec.Owner, ls.rec.Boot = "n1", 30
	}
	return c, ls
}

// attemptRows: an earlier attempt than the one under way is still open, and is found to have landed.
func attemptRows() []row {
	var rows []row
	events := []event{
		{"observed-earlier-attempt", 0, observeSelf(testRev+1, func(s *Session) { s.Nonce = "s-9b" })},
		{"observed-earlier-attempt-late", 5 * time.Second, observeSelf(testRev+1, func(s *Session) { s.Nonce = "s-9b" })},
		{"session-ok", 0, plain(WriteDone{ID: 40, OK: true, Revision: testRev + 1})},
		{"session-unknown", 0, plain(WriteDone{ID: 40})},
		{"earlier-answer", 0, plain(WriteDone{ID: 39, OK: true, Revision: testRev + 1})},
	}
	for _, s := range []state{
		{phase: publishing}, {phase: running}, {phase: running, expired: true}, {phase: running, stopping: true},
		{phase: ending, stopping: true},
	} {
		s.rec, s.planned = "free-successor-live", "n1"
		rows = append(rows, row{"two-attempts " + s.session(), "", func() (*Core, *leaseState) {
			c, ls := s.build()
			early := attempt{id: 39, at: testNow - 700*time.Millisecond, rec: c.self.sent[0].rec}
			early.rec.Nonce, early.rec.State = "s-9b", Live
			c.self.sent = append([]attempt{early}, c.self.sent...)
			return c, ls
		}, events})
	}
	return rows
}

// witnessed is the proof that the process of n3 under a boot is gone.
func witnessed(boot, rev uint64) Witnessed {
	return Witnessed{Node: "n3", ServerID: serverOf("n3", boot), Revision: rev, By: []string{"n2"}}
}

// cutRows: we were cut off, before or after the renewal under way was sent.
func cutRows() []row {
	var rows []row
	events := []event{
		{"tick-rested", 100 * time.Millisecond, plain(Tick{})},
		{"session-ok", 0, plain(WriteDone{ID: 40, OK: true, Revision: testRev + 1})},
		{"session-ok-late", 5 * time.Second, plain(WriteDone{ID: 40, OK: true, Revision: testRev + 1})},
		{"session-unknown", 0, plain(WriteDone{ID: 40})},
		{"observed-session-renewed", 0, observeSelf(testRev+1, func(s *Session) { s.Nonce = "s-10" })},
		{"isolated-again", 0, plain(Isolated{N: 2, At: testNow})},
	}
	for _, s := range []state{
		{phase: publishing}, {phase: running, expired: true}, {phase: running, expired: true, lane: joined},
		{phase: running, expired: true, lane: cancelled}, {phase: ending, expired: true, stopping: true},
	} {
		s.rec, s.planned = "free-successor-me", "n1"
		if s.lane != none {
			s.rec = "mine"
		}
		for name, ago := range map[string]time.Duration{"cut-before-send": 200 * time.Millisecond,
			"cut-at-send": 100 * time.Millisecond, "cut-after-send": 50 * time.Millisecond} {
			rows = append(rows, row{name + " " + s.session(), "", func() (*Core, *leaseState) {
				c, ls := s.build()
				c.self.cuts, c.self.cutAt = 1, testNow-ago
				if s.phase >= running {
					c.self.fence, c.self.lastOK = testNow-ago, testNow-time.Second
				}
				return c, ls
			}, events})
		}
	}
	return rows
}

// peerRows are about when n3 is declared dead.
func peerRows() []row {
	var rows []row
	events := []event{
		{"tick", 0, plain(Tick{})},
		{"tick-rested", 100 * time.Millisecond, plain(Tick{})},
		{"tick-after-suspend", time.Hour, plain(Tick{})},
		{"observed-n3-older", 0, observePeer(testRev-1, peerSession("n3", 9, Dead))},
		{"observed-n3-same", 0, observePeer(testRev, peerSession("n3", 2, Live))},
		{"observed-n3-renewed", 0, observePeer(testRev+1, peerSession("n3", 2, Live))},
		{"observed-n3-dead", 0, observePeer(testRev+1, peerSession("n3", 2, Dead))},
		{"observed-n3-deleted", 0, plain(Observed{Key: SessionKey("n3"), Revision: testRev + 1})},
		{"observed-n3-later-boot", 0, observePeer(testRev+1, peerSession("n3", 3, Live))},
		{"witnessed", 0, plain(witnessed(2, testRev))},
		{"observed-n3-unprovable", 0, observePeer(testRev, &Session{Version: 1, Node: "n3", Boot: 2, State: Live,
			TTL: testTTL, ServerID: serverOf("n3", 2)})},
		{"witnessed-older-revision", 0, plain(witnessed(2, testRev-1))},
		{"witnessed-newer-revision", 0, plain(witnessed(2, testRev+1))},
		{"witnessed-earlier-boot", 0, plain(witnessed(1, testRev))},
		{"witnessed-without-server-id", 0, plain(Witnessed{Node: "n3", Revision: testRev})},
		{"isolated", 0, plain(Isolated{N: 1, At: testNow})},
		{"mark-dead-ok", 0, plain(WriteDone{ID: 42, OK: true, Revision: testRev + 1})},
		{"mark-dead-unknown", 0, plain(WriteDone{ID: 42})},
		{"session-ok", 0, plain(WriteDone{ID: 40, OK: true, Revision: testRev + 1})},
		{"stop", 0, plain(Stop{})},
	}
	owns := map[string]func(*Core){
		"healthy":        func(*Core) {},
		"renewals-stuck": func(c *Core) { c.self.lastOK = testNow - 2*testRenew - 1 },
		"expired":        func(c *Core) { c.self.expired, c.self.lastOK = true, testNow },
		"stopping":       func(c *Core) { c.stopping, c.stopAt = true, testNow },
		"publishing":     func(c *Core) { c.phase, c.self.lastOK = publishing, 0 },
	}
	for _, own := range []string{"healthy", "renewals-stuck", "expired", "stopping", "publishing"} {
		for _, rec := range []string{"owner-live", "owner-dead", "owner-without-session", "free-successor-live"} {
			for _, silent := range []time.Duration{testTTL - 1, testTTL} {
				for _, write := range []string{"", "pending", "resting", "witnessed", "witnessed resting"} {
					name := fmt.Sprintf("n3 %s %s silent-%v %s", own, rec,
						silent.Round(time.Second)-map[bool]time.Duration{true: 1}[silent < testTTL], write)
					rows = append(rows, row{strings.TrimSpace(name), "", func() (*Core, *leaseState) {
						c, ls := state{phase: running, rec: rec, planned: "n1", old: true}.build()
						p := c.peer("n3")
						p.lastChangeAt = testNow - silent
						switch {
						case strings.HasSuffix(write, "resting"):
							p.retryAt = testNow + 50*time.Millisecond
						case write == "pending":
							p.pending, c.writes[42] = 42, SessionKey("n3")
						}
						if strings.HasPrefix(write, "witnessed") {
							p.witness = witnessed(2, testRev)
						}
						owns[own](c)
						return c, ls
					}, events})
				}
			}
		}
	}
	return rows
}

// TestTable is the exhaustive table of the core: each state that one lease and the session above it can be in, against
// each kind of input. On every pair it checks the rules of cluster/DESIGN.md, and that the state after it is well
// formed again. What the core does is pinned in testdata/table.golden, where changes show up; -update writes it.
func TestTable(t *testing.T) {
	possible, all := states()
	var rows []row
	for _, s := range possible {
		rows = append(rows, row{s.session(), s.variant(), s.build, leaseEvents})
	}
	leaseStates := len(rows)
	rows = append(append(rows, sessionRows()...), peerRows()...)
	pairs, golden := 0, newFolded()
	for _, r := range rows {
		for _, e := range r.events {
			if line, ok := r.try(t, e); ok {
				pairs++
				golden.add(r, e, line)
			}
		}
	}
	t.Logf("%d pairs: %d of %d combinations of one lease's state can be, and %d further states of sessions",
		pairs, leaseStates, all, len(rows)-leaseStates)
	compareGolden(t, golden.String())
}

// folded gathers golden lines: one for each session state, event and outcome, with the leases that have it.
type folded struct {
	order []foldKey
	lines map[foldKey][]string
	total map[string]int // Variants of each row name and event.
}

type foldKey struct{ row, event, outcome string }

func newFolded() *folded { return &folded{lines: map[foldKey][]string{}, total: map[string]int{}} }

func (f *folded) add(r row, e event, outcome string) {
	f.total[r.name+"|"+e.name]++
	if outcome == "" {
		return
	}
	k := foldKey{r.name, e.name, outcome}
	if f.lines[k] == nil {
		f.order = append(f.order, k)
	}
	f.lines[k] = append(f.lines[k], r.variant)
}

func (f *folded) String() string {
	var b strings.Builder
	b.WriteString("# State | input → actions ⇒ state, where it changed [the leases for which it is so: what the record " +
		"and its\n" +
		"# owner's session say / whom the plan names / if the record is old]. What is not listed does nothing.\n")
	slices.SortStableFunc(f.order, func(a, b foldKey) int { return strings.Compare(a.row, b.row) })
	for _, k := range f.order {
		fmt.Fprintf(&b, "%s | %s → %s", k.row, k.event, k.outcome)
		if of := f.total[k.row+"|"+k.event]; len(f.lines[k]) < of {
			fmt.Fprintf(&b, " [%s]", strings.Join(foldVariants(f.lines[k]), " "))
		}
		b.WriteString("\n")
	}
	return b.String()
}

// foldVariants writes the four variants of a record as the record alone.
func foldVariants(vs []string) []string {
	var short []string
	for _, v := range vs {
		rec, _, _ := strings.Cut(v, "/")
		same := 0
		for _, o := range vs {
			if r, _, _ := strings.Cut(o, "/"); r == rec {
				same++
			}
		}
		if same == 4 {
			v = rec
		}
		if len(short) == 0 || short[len(short)-1] != v {
			short = append(short, v)
		}
	}
	return short
}

func compareGolden(t *testing.T, got string) {
	const file = "testdata/table.golden"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	g, w := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	shown := 0
	for i := range max(len(g), len(w)) {
		a, b := at(w, i), at(g, i)
		if a != b && shown < 10 {
			shown++
			t.Errorf("line %d:\n\tpinned: %s\n\tnow:    %s", i+1, a, b)
		}
	}
	if shown > 0 {
		t.Log("if the change is meant: go test ./cluster/lease -run Table -update, and read the difference")
	}
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return ""
}

// try feeds one event to one state, checks what comes of it and describes it; "" if nothing does. It is not ok if the
// event cannot come in that state.
func (r row) try(t *testing.T, e event) (line string, ok bool) {
	before, hb := r.build()
	c, ls := r.build()
	in := e.in(before, hb)
	if in == nil {
		return "", false
	}
	actions := c.Step(testNow+e.after, in)
	k := check{before: before, hb: hb, in: in, now: testNow + e.after, actions: actions, after: c, ha: ls}
	for _, err := range k.all() {
		t.Errorf("%s %s | %s: %v\n\tactions: %s", r.name, r.variant, e.name, err, describe(actions))
	}
	out := describe(actions)
	if b, a := shape(before, hb), shape(c, ls); a != b {
		out = strings.TrimSpace(out + " ⇒ " + a)
	}
	return out, true
}

// shape is the part of a state that golden lines show.
func shape(c *Core, ls *leaseState) string {
	s := []string{strings.Fields(state{phase: c.phase}.String())[0]}
	if c.self.expired {
		s = append(s, "expired")
	}
	s = append(s, laneNames[ls.lane])
	if ls.revoked && ls.lane == cancelled {
		s = append(s, "revoked")
	}
	return strings.Join(s, " ")
}

func describe(actions []Action) string {
	var parts []string
	for _, a := range actions {
		parts = append(parts, describeAction(a))
	}
	return strings.Join(parts, "; ")
}

func describeAction(a Action) string {
	switch a := a.(type) {
	case Write:
		return describeWrite(a)
	case Read:
		return "read " + a.Key.String()
	case SaveBoot:
		return fmt.Sprint("save boot ", a.Boot)
	case Fence:
		return fmt.Sprintf("fence %+v", a.At-testNow)
	case Start:
		return fmt.Sprintf("start boot %d epoch %d after %d.%d", a.Boot, a.Epoch, a.Progress.Checkpoint, a.Progress.Attempt)
	case Drain:
		return "drain"
	case Cancel:
		return "cancel: " + causeName(a.Cause)
	case Committed:
		return fmt.Sprintf("committed %d.%d", a.Progress.Checkpoint, a.Progress.Attempt)
	case Exit:
		return "exit: " + causeName(a.Err)
	case Alarm:
		return "alarm of " + a.Key.String()
	case Finished:
		return "finished"
	}
	return fmt.Sprintf("%T", a)
}

// causeName names an error without its wording.
func causeName(err error) string {
	for name, sentinel := range map[string]error{
		"fenced": ErrFenced, "lease lost": ErrLeaseLost, "hand-over timeout": ErrHandoverTimeout,
		"declared dead": ErrDeclaredDead, "name taken": ErrNameTaken,
	} {
		if errors.Is(err, sentinel) {
			return name
		}
	}
	return err.Error()
}

func describeWrite(w Write) string {
	s := fmt.Sprintf("write %v on %d: ", w.Key, w.Revision)
	switch l := w.Lease; {
	case l == nil:
		s += fmt.Sprintf("boot %d %s nonce %q", w.Session.Boot, w.Session.State, w.Session.Nonce)
		if w.Session.Leaving {
			s += " leaving"
		}
	case l.Owner == "":
		s += fmt.Sprintf("free epoch %d checkpoint %d.%d", l.Epoch, l.Checkpoint, l.Attempt)
	default:
		s += fmt.Sprintf("%s/%d epoch %d checkpoint %d.%d", l.Owner, l.Boot, l.Epoch, l.Checkpoint, l.Attempt)
	}
	if w.Lease != nil && w.Lease.Applied > 0 {
		s += fmt.Sprintf(" applied %d", w.Lease.Applied)
	}
	if w.Lease != nil && w.Lease.Successor != "" {
		s += " next " + w.Lease.Successor
	}
	if w.Announce {
		s += ", announced"
	}
	return s
}

// check holds one pair of the table against the rules.
type check struct {
	before, after *Core
	hb, ha        *leaseState
	in            Input
	now           Time
	actions       []Action
	errs          []error
}

func (k *check) fail(format string, args ...any) {
	k.errs = append(k.errs, fmt.Errorf(format, args...))
}

func (k *check) all() []error {
	if err := wellFormed(k.after, k.ha); err != nil {
		k.fail("leads to a state that must not be: %v", err)
	}
	k.nothingAfterTheEnd()
	k.nothingGoesBack()
	k.knowledge()
	k.lanes()
	k.cutOff()
	k.endsCalls()
	for _, a := range k.actions {
		switch a := a.(type) {
		case Write:
			k.oneAtATime(a)
			switch {
			case a.Lease != nil:
				k.leaseWrite(a)
			case a.Session.Node == "n1" && k.before.phase != watching:
				k.ownWrite(a)
			default:
				k.declaredDead(a)
			}
		case Start:
			k.start(a)
		case Fence:
			k.fence(a)
		case SaveBoot:
			k.boot(a)
		}
	}
	return k.errs
}

func (k *check) nothingAfterTheEnd() {
	if k.before.phase == finished && len(k.actions) > 0 {
		k.fail("acts after the end")
	}
	for i, a := range k.actions {
		switch a.(type) {
		case Exit, Finished:
			if i != len(k.actions)-1 || k.after.phase != finished {
				k.fail("continues after the end")
			}
			if _, clean := a.(Finished); clean && k.after.anyLane() {
				k.fail("finished with a lane that is not joined")
			}
		}
	}
}

// isolated: nothing resumes, and no call starts, before a renewal that is sent from now on is acknowledged.
func (k *check) cutOff() {
	cut, ok := k.in.(Isolated)
	if !ok || k.before.phase < running || k.after.phase == finished {
		return
	}
	if !k.after.self.expired || k.after.self.cutAt != cut.At || k.ha.lane == active || k.ha.lane == draining {
		k.fail("a lane runs after a cut")
	}
	for _, a := range k.actions {
		if f, ok := a.(Fence); ok && f.Cut == cut.N && f.At <= cut.At {
			return
		}
	}
	k.fail("a cut is not noticed")
}

func (k *check) nothingGoesBack() {
	if k.ha.rev < k.hb.rev || k.after.self.rev < k.before.self.rev {
		k.fail("a known revision falls")
	}
	if k.ha.epoch < k.hb.epoch || k.after.self.boot < k.before.self.boot {
		k.fail("an epoch or a boot falls")
	}
	for _, p := range k.before.peers {
		if k.after.peer(p.name).rev < p.rev {
			k.fail("a peer's known revision falls")
		}
	}
}

// gaveUp: a stop ran out of patience at the end of this very step.
func (k *check) gaveUp() bool {
	overdue := k.now-k.before.stopAt >= k.before.stopLimit()
	return k.after.stopping && (k.after.phase == finished || k.after.phase == ending && overdue)
}

// knowledge: the highest revision seen is what is known of a lease; nothing is mixed from two.
func (k *check) knowledge() {
	obs, ok := k.in.(Observed)
	if !ok || obs.Key != k.hb.key || obs.Lease == nil {
		return
	}
	want := k.hb.rec
	if obs.Revision > k.hb.rev {
		want = *obs.Lease
	}
	if k.before.phase != finished && (k.ha.rec != want || k.ha.rev != max(k.hb.rev, obs.Revision)) {
		k.fail("knows %+v at %d after reading %+v", k.ha.rec, k.ha.rev, *obs.Lease)
	}
}

// endsCalls: a node that may not go on moves its fence back before anything else.
func (k *check) endsCalls() {
	if k.before.phase != running || k.after.phase == running || k.after.phase == ending {
		return
	}
	for _, a := range k.actions {
		if f, ok := a.(Fence); ok && f.At <= k.now {
			return
		}
		if _, ok := a.(Finished); ok && !k.after.anyLane() {
			return
		}
	}
	k.fail("gives up its session with the fence ahead")
}

// lanes: a lane that may run is joined before anything else, and one that was handed over never comes back.
func (k *check) lanes() {
	_, nowJoined := k.in.(Stopped)
	ran := k.hb.lane == active || k.hb.lane == draining || k.hb.lane == cancelled
	runs := k.ha.lane == active || k.ha.lane == draining || k.ha.lane == cancelled
	if ran && !runs && !nowJoined {
		k.fail("a lane is given up before it is joined")
	}
	if k.hb.lane == cancelled && k.ha.lane != cancelled && !nowJoined {
		k.fail("a cancelled lane resumes before it is joined")
	}
	if k.hb.lane == handingOver && k.ha.lane != handingOver && k.ha.lane != none && k.after.phase != finished &&
		k.ha.epoch == k.hb.epoch {
		k.fail("a lane comes back after its hand-over was sent")
	}
	if k.hb.lane == handingOver && k.ha.lane == none && k.after.phase == running && k.after.mine(k.ha) &&
		k.ha.rec.Epoch == k.hb.epoch {
		k.fail("a hand-over is dropped before its outcome is known")
	}
	if k.hb.lane == none && runs && k.ha.lane != active {
		k.fail("a lane comes from nowhere")
	}
}

// oneAtATime: one write under way per key, on the very revision that the decision rests on.
func (k *check) oneAtATime(w Write) {
	for _, o := range k.actions {
		if o, ok := o.(Write); ok && o.Key == w.Key && o.ID != w.ID {
			k.fail("two writes of %v at once", w.Key)
		}
	}
	wrote, answered := k.in.(WriteDone)
	settled := func(id uint64) bool { return answered && wrote.ID == id }
	switch w.Key {
	case k.hb.key:
		if p := k.hb.pending; p != nil && !settled(p.ID) {
			k.fail("a second write while one is under way")
		}
		if k.now < k.hb.retryAt {
			k.fail("a write before the rest is over")
		}
		if w.Revision != k.ha.rev {
			k.fail("a write on revision %d, known is %d", w.Revision, k.ha.rev)
		}
	case SessionKey("n1"):
		// A read at a higher revision decides it as well as a reply.
		if p := k.before.self.pending; p != 0 && !settled(p) && k.after.self.rev == k.before.self.rev {
			k.fail("a second write of our session while one is under way")
		}
		if w.Revision != k.after.self.rev {
			k.fail("a session write on revision %d, known is %d", w.Revision, k.after.self.rev)
		}
	}
}

func (k *check) leaseWrite(w Write) {
	l, rec := w.Lease, k.ha.rec
	if k.before.phase != running && k.before.phase != publishing || k.after.phase != running && !k.gaveUp() {
		k.fail("a lease is written without a live session")
	}
	k.applied(l, rec)
	switch {
	case l.Owner == "n1" && (rec.Owner != "n1" || l.Epoch != rec.Epoch):
		k.claim(l, rec)
	case l.Owner == "n1":
		if !k.ownedByLane(rec) || l.Boot != testBoot || k.ha.lane == handingOver {
			k.fail("a commit of what is not ours")
		}
	case l.Owner == "":
		k.handOver(l, rec)
	default:
		k.fail("a lease is written in the name of %s", l.Owner)
	}
}

func (k *check) ownedByLane(rec Lease) bool {
	return k.ha.lane != none && rec.Owner == "n1" && rec.Boot == testBoot && rec.Epoch == k.ha.epoch
}

// applied: a command is applied once, with a new epoch, and in full; nothing else lowers the checkpoint.
func (k *check) applied(l *Lease, rec Lease) {
	switch {
	case l.Applied == rec.Applied:
		if l.Checkpoint < rec.Checkpoint {
			k.fail("the checkpoint falls from %d to %d", rec.Checkpoint, l.Checkpoint)
		}
	case l.Epoch != rec.Epoch+1 || l.Owner != "n1":
		k.fail("a command is applied without a new epoch")
	case l.Applied != testCommands.LastID || l.Checkpoint != 10 || l.Attempt != 0 || l.Paused != "wait":
		k.fail("commands are applied as %+v", *l)
	}
}

func (k *check) claim(l *Lease, rec Lease) {
	progress := rec.progress()
	if k.ha.lane == handingOver {
		progress = k.ha.progress
		if l.Applied == rec.Applied {
			k.fail("a new epoch for nothing")
		}
	}
	if l.Epoch != rec.Epoch+1 || l.Boot != k.after.self.boot || l.Successor != "" || l.Applied == rec.Applied &&
		l.progress() != progress {
		k.fail("a claim of %+v as %+v", rec, *l)
	}
	if k.ha.lane == handingOver && !k.ownedByLane(rec) {
		k.fail("a command is applied to a lease that is not ours")
	}
	if k.ha.lane != none && k.ha.lane != handingOver || k.after.self.expired || k.after.stopping ||
		k.now >= k.after.self.fence {
		k.fail("a claim by a node that may not claim")
	}
	if rec.Owner != "" && (rec.Owner != "n1" || rec.Boot != testBoot) && !k.provablyDead(rec.Owner, rec.Boot) {
		k.fail("a claim of a lease whose owner may be alive")
	}
}

// provablyDead is rule 5, spelled out a second time.
func (k *check) provablyDead(node string, boot uint64) bool {
	s := k.after.self.rec
	for _, p := range k.after.peers {
		if p.name == node {
			s = p.rec
		}
	}
	return s != nil && s.Node == node && (s.Boot > boot || s.Boot == boot && s.State != Live)
}

func (k *check) handOver(l *Lease, rec Lease) {
	lateClaim := k.ha.lane == none && k.after.stopping
	if k.ha.lane != handingOver && !lateClaim {
		k.fail("handed over while the lane is %s", laneNames[k.ha.lane])
	}
	if rec.Owner != "n1" || rec.Boot != testBoot || l.Epoch != rec.Epoch || l.Boot != 0 {
		k.fail("%+v handed over as %+v", rec, *l)
	}
	if k.ha.lane == handingOver && (l.Checkpoint != k.ha.progress.Checkpoint || l.Attempt != k.ha.progress.Attempt) {
		k.fail("handed over at %d, the lane came to %d", l.Checkpoint, k.ha.progress.Checkpoint)
	}
	if next := k.after.peer("n2"); l.Successor != "" && (l.Successor != "n2" || !next.live()) {
		k.fail("left to %q", l.Successor)
	}
}

// start: only by the OK of our own claim, or as a joined lane that resumes before the fence.
func (k *check) start(a Start) {
	wrote, answered := k.in.(WriteDone)
	_, nowJoined := k.in.(Stopped)
	p := k.hb.pending
	byClaim := answered && p != nil && wrote.ID == p.ID && wrote.OK && p.Lease.Owner == "n1" && p.Lease.Epoch == a.Epoch &&
		(k.hb.lane == none || k.hb.lane == handingOver && p.Lease.Epoch == k.hb.epoch+1) && wrote.Revision == k.ha.rev &&
		p.Lease.progress() == a.Progress
	resumed := a.Epoch == k.hb.epoch && (k.hb.lane == joined || nowJoined && !k.hb.revoked && k.hb.lane != none &&
		k.hb.lane != handingOver)
	if !byClaim && !resumed {
		k.fail("a lane starts on something other than the OK of a claim")
	}
	if k.after.phase != running || k.after.self.expired || k.now >= k.after.self.fence || a.Boot != k.after.self.boot {
		k.fail("a lane starts behind the fence")
	}
	if !k.ownedByLane(k.ha.rec) || a.Progress != k.ha.rec.progress() || k.ha.lane != active {
		k.fail("a lane starts after %+v, stored is %+v", a.Progress, k.ha.rec)
	}
}

// fence: dated from the send of an attempt that is now known to have landed, or moved back to now.
func (k *check) fence(a Fence) {
	if a.At <= k.now && a.At <= max(k.now, k.before.self.fence) {
		return
	}
	at := k.before.self.fence
	for _, s := range k.before.self.sent {
		wrote, ok := k.in.(WriteDone)
		obs, read := k.in.(Observed)
		if ok && wrote.OK && wrote.ID == s.id || read && obs.Session != nil && obs.Session.Nonce == s.rec.Nonce {
			at = max(at, s.at+testTTL-testMargin)
		}
	}
	if a.At > at {
		k.fail("fence at %+v, may be at %+v at most", a.At-testNow, at-testNow)
	}
	if wrote, ok := k.in.(WriteDone); k.before.self.expired && k.before.phase == running && !(ok && wrote.OK) {
		k.fail("a passed fence moves without a reply")
	}
	if cut := k.before.self.cutAt; cut > 0 && at <= cut+testTTL-testMargin {
		k.fail("a fence moves on by a renewal from before we were cut off")
	}
}

func (k *check) ownWrite(w Write) {
	s, rec := w.Session, k.after.self.rec
	if s.Boot != k.after.self.boot {
		k.fail("a session write under boot %d, ours is %d", s.Boot, k.after.self.boot)
	}
	if rec != nil && (s.Boot < rec.Boot || s.Boot == rec.Boot && rec.State != Live) {
		k.fail("boot %d written over %s boot %d", s.Boot, rec.State, rec.Boot)
	}
	for _, o := range k.before.self.sent {
		if o.rec.Nonce == s.Nonce {
			k.fail("the nonce %s is used twice", s.Nonce)
		}
	}
	switch {
	case s.State == Ended && (k.after.phase != ending || k.after.anyLane()):
		k.fail("the session ends with lanes left")
	case s.State == Ended && k.after.anyLeaseLeft() && k.now-k.before.stopAt < k.before.stopLimit():
		k.fail("the session ends with leases left")
	case s.State == Live && k.after.phase != publishing && k.after.phase != running && !k.gaveUp():
		k.fail("a live session is written")
	case s.State == Dead:
		k.fail("we declare our own session dead")
	}
}

// declared dead: a session unchanged for its ttl while our own renewals landed, or proven to be gone.
func (k *check) declaredDead(w Write) {
	if w.Session.Node == "n1" {
		if k.now-k.before.self.seenAt < testTTL || w.Session.State != Dead || w.Session.Nonce != "" {
			k.fail("our duplicate is declared dead too early")
		}
		return
	}
	p, before := k.after.peer(w.Session.Node), k.before.peer(w.Session.Node)
	healthy := (k.before.phase == running || k.after.phase == running) && !k.after.self.expired &&
		k.now-k.after.self.lastOK <= 2*testRenew
	if !healthy || k.now-p.lastChangeAt < testTTL && !k.provenGone(p) || w.Revision != p.rev || before.pending != 0 ||
		k.now < before.retryAt {
		k.fail("%s is declared dead too early", p.name)
	}
	if w.Session.State != Dead || w.Session.Nonce != "" || w.Session.Boot == 0 || p.rec != nil &&
		(p.rec.State != Live || w.Session.Boot != p.rec.Boot) {
		k.fail("%s is declared dead as %+v", p.name, *w.Session)
	}
}

// provenGone: the very revision that stands there, of the very process that wrote it, is what the proof is about.
func (k *check) provenGone(p *peer) bool {
	w, ok := k.in.(Witnessed)
	if !ok {
		w = p.witness
	}
	return p.rec != nil && p.rec.Provable && w.Node == p.name && w.ServerID == serverOf(p.name, p.rec.Boot) &&
		w.Revision == p.rev
}

// boot: a new life is above every earlier one, and begins with nothing of the last one left.
func (k *check) boot(a SaveBoot) {
	highest := k.before.self.boot
	if k.after.self.rec != nil {
		highest = max(highest, k.after.self.rec.Boot)
	}
	if k.ha.rec.Owner == "n1" {
		highest = max(highest, k.ha.rec.Boot)
	}
	if a.Boot <= highest || a.Boot != k.after.self.boot || k.after.anyLane() {
		k.fail("boot %d after %d", a.Boot, highest)
	}
	if rec := k.after.self.rec; rec != nil && rec.State == Live && !rec.sameDirectory(k.after.cfg.Self) {
		k.fail("a new life beside a live one from elsewhere")
	}
}

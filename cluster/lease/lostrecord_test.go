package lease

import (
	"strings"
	"testing"
	"time"

	"leasehold/internal/ownership"
)

// lostRev is far above the epochs of the table's leases.
const lostRev = testRev + 400

// stepped is what a core does about an input.
func stepped(c *Core, after time.Duration, in Input) (writes []Write, alarms []Alarm) {
	for _, a := range c.Step(testNow+after, in) {
		switch a := a.(type) {
		case Write:
			writes = append(writes, a)
		case Alarm:
			alarms = append(alarms, a)
		}
	}
	return writes, alarms
}

// claims are writes that claim the lease for n1.
func claims(writes []Write, k Key) (found []Lease) {
	for _, w := range writes {
		if w.Key == k && w.Lease.Owner == "n1" {
			found = append(found, *w.Lease)
		}
	}
	return found
}

// The lane of a lease whose record is lost is cancelled and joined. Then the lease is claimed again at once, from the
// lane's progress and under an epoch above all that were granted.
func TestLostLeaseOfALaneIsClaimedAgainAfterTheJoin(t *testing.T) {
	for name, in := range map[string]Observed{
		"invalid":        {Invalid: "key lease.g.00001 at revision 500: it is a trace event"},
		"deleted":        {},
		"lower epoch":    {Lease: &Lease{Version: 1, Owner: "n3", Boot: 2, Epoch: testEpoch - 1, Checkpoint: 30}},
		"lower done":     {Lease: &Lease{Version: 1, Owner: "n1", Boot: testBoot, Epoch: testEpoch, Checkpoint: 3}},
		"boot not ours":  {Lease: &Lease{Version: 1, Owner: "n1", Boot: testBoot + 9, Epoch: testEpoch + 1, Checkpoint: 30}},
		"nothing, twice": {},
	} {
		c, ls := state{phase: running, lane: active, rec: "mine", planned: "n1"}.build()
		in.Key, in.Revision = ls.key, lostRev
		writes, alarms := stepped(c, 0, in)
		if len(claims(writes, ls.key)) > 0 || ls.lane != cancelled || len(alarms) != 1 || alarms[0].Revision != lostRev {
			t.Errorf("%s: lane %d, alarms %+v, writes %+v", name, ls.lane, alarms, writes)
		}
		rev := uint64(lostRev)
		if name == "nothing, twice" {
			rev++
			stepped(c, 0, Observed{Key: ls.key, Revision: rev})
		}
		writes, _ = stepped(c, time.Millisecond, Stopped{Key: ls.key, Epoch: testEpoch,
			Progress: ownership.Progress{Checkpoint: 44}})
		found := claims(writes, ls.key)
		if len(found) != 1 || found[0].Epoch <= rev || found[0].Checkpoint != 44 || writes[0].Revision != rev {
			t.Errorf("%s: after the join %+v", name, writes)
		}
		if v := c.View(); len(v.Alarms) != 1 || !strings.Contains(v.Alarms[0].Text, ls.key.String()) {
			t.Errorf("%s: the alarms are %+v", name, v.Alarms)
		}
	}
}

// A node that has sent a hand-over may have lost the lease to a node whose claim it never saw. So may a node that
// remembers the lease as free, as a dead node's, or as its own without a lane. They wait.
func TestLostLeaseIsLeftToItsOwnerFirst(t *testing.T) {
	for name, s := range map[string]state{
		"handing over":  {phase: running, lane: handingOver, rec: "mine", planned: "n1", write: "resting"},
		"mine, no lane": {phase: running, rec: "mine", planned: "n1", write: "resting"},
		"free":          {phase: running, rec: "free", planned: "n1", write: "resting"},
		"dead owner":    {phase: running, rec: "owner-dead", planned: "n1", old: true, write: "resting"},
	} {
		c, ls := s.build()
		writes, _ := stepped(c, 0, Observed{Key: ls.key, Revision: lostRev, Invalid: "x"})
		c.self.fence = testNow + time.Hour
		wait := testTTL + 10*testRenew
		for _, at := range []time.Duration{testRenew, 6 * testRenew, wait - time.Millisecond} {
			more, _ := stepped(c, at, Tick{})
			writes = append(writes, more...)
		}
		if early := claims(writes, ls.key); len(early) > 0 {
			t.Errorf("%s: claimed at once: %+v", name, early)
		}
		writes, _ = stepped(c, wait+time.Second, Tick{})
		if found := claims(writes, ls.key); len(found) != 1 || found[0].Epoch <= lostRev || found[0].Checkpoint != 30 {
			t.Errorf("%s: after the wait %+v", name, writes)
		}
	}
}

// A node that never saw a valid record of a lease does not begin at zero: it needs a seek. Leases without progress may
// begin anywhere.
func TestLostLeaseThatNoNodeRemembersNeedsASeek(t *testing.T) {
	build := func() (*Core, *leaseState) {
		c, ls := state{phase: running, rec: "never-written", planned: "n1"}.build()
		stepped(c, 0, Observed{Key: ls.key, Revision: lostRev, Invalid: "x"})
		c.self.fence = testNow + time.Hour
		return c, ls
	}
	late := testTTL + 20*testRenew
	c, ls := build()
	if writes, _ := stepped(c, late, Tick{}); len(claims(writes, ls.key)) > 0 {
		t.Errorf("claimed at %+v", claims(writes, ls.key))
	}
	seek := Commands{Version: 1, LastID: 4, Open: []Command{{ID: 4, Kind: Seek, Seq: 77}}}
	writes, _ := stepped(c, late, Observed{Key: CommandsKey("g"), Revision: lostRev + 1, Commands: &seek})
	if found := claims(writes, ls.key); len(found) != 1 || found[0].Checkpoint != 77 || found[0].Applied != 4 ||
		found[0].Epoch <= lostRev {
		t.Errorf("after the seek: %+v", found)
	}
	c, ls = build()
	ls.group.Kind = ownership.Housekeeping
	if writes, _ := stepped(c, late, Tick{}); len(claims(writes, ls.key)) != 1 {
		t.Error("a lease without progress is not claimed")
	}
}

// A lost record may have named dead letters that memory does not. So the next lane checks for them, whichever node
// claims the lease and from whatever.
func TestLostLeaseHasTheNextLaneCheckForDeadLetters(t *testing.T) {
	seek := Commands{Version: 1, LastID: 4, Open: []Command{{ID: 4, Kind: Seek, Seq: 77}}}
	old := &Lease{Version: 1, Owner: "n3", Boot: 2, Epoch: testEpoch - 1, Checkpoint: 30}
	for name, c := range map[string]struct {
		before state
		in     Observed
		asked  *Commands
	}{
		"ours":                  {state{lane: active, rec: "mine"}, Observed{}, nil},
		"ours, with a seek":     {state{lane: active, rec: "mine"}, Observed{Invalid: "x"}, &seek},
		"ours, went back":       {state{lane: draining, rec: "mine"}, Observed{Lease: old}, nil},
		"handed over":           {state{lane: handingOver, rec: "mine", write: "resting"}, Observed{Invalid: "x"}, nil},
		"free":                  {state{rec: "free", write: "resting"}, Observed{}, nil},
		"dead owner":            {state{rec: "owner-dead", old: true, write: "resting"}, Observed{Invalid: "x"}, nil},
		"never seen, then seek": {state{rec: "never-written"}, Observed{Invalid: "x"}, &seek},
	} {
		c.before.phase, c.before.planned = running, "n1"
		core, ls := c.before.build()
		c.in.Key, c.in.Revision = ls.key, lostRev
		writes, _ := stepped(core, 0, c.in)
		core.self.fence = testNow + time.Hour
		inputs := []Input{Stopped{Key: ls.key, Epoch: testEpoch, Progress: ownership.Progress{Checkpoint: 44}}, Tick{}}
		if c.asked != nil {
			inputs = append([]Input{Observed{Key: CommandsKey("g"), Revision: lostRev + 1, Commands: c.asked}}, inputs...)
		}
		for _, in := range inputs {
			more, _ := stepped(core, testTTL+20*testRenew, in)
			writes = append(writes, more...)
		}
		if found := claims(writes, ls.key); len(found) != 1 || !found[0].CheckDeadLetters {
			t.Errorf("%s: claimed as %+v", name, found)
		}
	}
}

// A session whose record is lost or goes back ends its lanes. The next one has a higher boot and begins once the
// revision has stood for the ttl, so that no earlier one can start a call any more.
func TestLostSessionIsBegunAgainAfterTheTTL(t *testing.T) {
	for name, rec := range map[string]*Session{
		"invalid":    nil,
		"lower boot": {Version: 1, Node: "n1", Boot: 2, State: Live, Nonce: "forged", TTL: time.Millisecond},
	} {
		c, ls := state{phase: running, lane: active, rec: "mine", planned: "n1"}.build()
		writes, alarms := stepped(c, 0, Observed{Key: SessionKey("n1"), Revision: lostRev, Session: rec})
		if len(writes) > 0 || len(alarms) != 1 || c.phase != rejoining || ls.lane != cancelled {
			t.Errorf("%s: phase %d, lane %d, alarms %+v, writes %+v", name, c.phase, ls.lane, alarms, writes)
		}
		stepped(c, time.Second, Stopped{Key: ls.key, Epoch: testEpoch})
		if c.phase != watching {
			t.Errorf("%s: phase %d after the join", name, c.phase)
		}
		if writes, _ := stepped(c, time.Second+testTTL-time.Millisecond, Tick{}); len(writes) > 0 || c.phase != watching {
			t.Errorf("%s: before the ttl has passed: phase %d, %+v", name, c.phase, writes)
		}
		writes, _ = stepped(c, time.Second+testTTL, Tick{})
		if rec != nil { // it is declared dead first
			stepped(c, time.Second+testTTL, WriteDone{ID: writes[0].ID, OK: true, Revision: lostRev + 1})
		}
		if c.phase != saving || c.self.boot != testBoot+1 {
			t.Errorf("%s: after the ttl phase %d, boot %d", name, c.phase, c.self.boot)
		}
	}
}

// The partitions of a peer whose session record is lost or old are claimed after the cluster's ttl, under the boot that
// its leases name, whatever the record says.
func TestPartitionsOfALostSessionAreClaimed(t *testing.T) {
	for name, rec := range map[string]*Session{
		"invalid":       nil,
		"old and live":  {Version: 1, Node: "n3", Boot: 1, State: Live, Nonce: "forged", TTL: time.Millisecond},
		"old and ended": {Version: 1, Node: "n3", Boot: 1, State: Ended, TTL: time.Millisecond},
	} {
		c, ls := state{phase: running, rec: "owner-live", planned: "n1"}.build()
		_, alarms := stepped(c, 0, Observed{Key: SessionKey("n3"), Revision: lostRev, Session: rec})
		c.self.fence, c.self.lastOK = testNow+time.Hour, testNow+testTTL
		early, _ := stepped(c, testTTL-time.Millisecond, Tick{})
		late, _ := stepped(c, testTTL, Tick{})
		var dead *Session
		for i, w := range append(early, late...) {
			if w.Key == SessionKey("n3") {
				dead = w.Session
				if i < len(early) {
					t.Errorf("%s: declared dead before the ttl", name)
				}
			}
		}
		if len(alarms) != 1 || dead == nil || dead.Boot != ls.rec.Boot || dead.State != Dead {
			t.Errorf("%s: alarms %+v, declared dead as %+v", name, alarms, dead)
		}
	}
}

// Commands stay in force when their record is lost or goes back, and a later record counts again.
func TestLostCommandsStayInForce(t *testing.T) {
	c, _ := state{phase: running, rec: "mine", planned: "n1"}.build()
	asked := Commands{Version: 1, LastID: 4, Open: []Command{{ID: 4, Kind: Pause, Reason: "x"}}}
	k := CommandsKey("g")
	stepped(c, 0, Observed{Key: k, Revision: lostRev, Commands: &asked})
	for i, in := range []Observed{{Invalid: "x"}, {}, {Commands: &Commands{Version: 1, LastID: 3}}} {
		in.Key, in.Revision = k, lostRev+uint64(i)+1
		if _, alarms := stepped(c, 0, in); len(alarms) != 1 || len(c.groups[0].commands.Open) != 1 {
			t.Errorf("%+v: alarms %+v, commands %+v", in, alarms, c.groups[0].commands)
		}
	}
	next := Commands{Version: 1, LastID: 5}
	if _, alarms := stepped(c, 0, Observed{Key: k, Revision: lostRev + 9, Commands: &next}); len(alarms) > 0 ||
		c.groups[0].commands.LastID != 5 {
		t.Errorf("alarms %+v, commands %+v", alarms, c.groups[0].commands)
	}
}

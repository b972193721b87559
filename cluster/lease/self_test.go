package lease

import (
	"testing"
	"time"
)

// TestOutageOfHoursKeepsFewAttempts: days without a store must not fill the memory, and a renewal from their first hour
// that lands after all is still known as our own, though it moves no fence.
func TestOutageOfHoursKeepsFewAttempts(t *testing.T) {
	c, _ := state{phase: running, rec: "free", planned: "n1"}.build()
	now, first := testNow, ""
	c.Step(now, WriteDone{ID: 40})
	for now < testNow+time.Hour {
		now += 100 * time.Millisecond
		for _, a := range c.Step(now, Tick{}) {
			if w, ok := a.(Write); ok && w.Session != nil {
				if first == "" {
					first = w.Session.Nonce
				}
				c.Step(now, WriteDone{ID: w.ID})
			}
		}
	}
	if n := len(c.self.sent); n > keptAttempts {
		t.Errorf("%d attempts are kept", n)
	}
	landed := c.cfg.Self
	landed.Version, landed.Boot, landed.State, landed.TTL, landed.Nonce = 1, testBoot, Live, testTTL, first
	renewed := false
	for _, a := range c.Step(now, Observed{Key: SessionKey("n1"), Revision: testRev + 1, Session: &landed}) {
		switch a := a.(type) {
		case Exit:
			t.Errorf("an attempt of ours counts as another node's: %v", a.Err)
		case Fence, Start:
			t.Errorf("an attempt of an hour ago leads to %+v", a)
		case Write:
			renewed = renewed || a.Session != nil && a.Session.State == Live && a.Revision == testRev+1
		}
	}
	if c.phase != running || !c.self.expired || !renewed {
		t.Errorf("the session is in phase %d, expired %v, renewed on what was found: %v", c.phase, c.self.expired, renewed)
	}
}

// TestReplyAfterAReadOfTheSameRenewalCounts: a node polls its own record, so a read often shows a renewal before its
// reply arrives. The reply still ends a fence, unless something was written since.
func TestReplyAfterAReadOfTheSameRenewalCounts(t *testing.T) {
	for _, since := range []bool{false, true} {
		c, _ := state{phase: running, rec: "free", planned: "n1", expired: true}.build()
		var renewal Write
		c.Step(testNow, WriteDone{ID: c.self.pending})
		for _, a := range c.Step(testNow+c.retryPause(), Tick{}) {
			if w, ok := a.(Write); ok && w.Session != nil {
				renewal = w
			}
		}
		c.Step(testNow+c.retryPause()+time.Millisecond, Observed{Key: SessionKey("n1"), Revision: testRev + 1,
			Session: renewal.Session})
		if !c.self.expired {
			t.Fatal("a read ended the fence")
		}
		if since {
			c.Step(testNow+c.retryPause()+2*time.Millisecond, Observed{Key: SessionKey("n1"), Revision: testRev + 2,
				Session: markDead(*renewal.Session)})
		}
		c.Step(testNow+c.retryPause()+3*time.Millisecond, WriteDone{ID: renewal.ID, OK: true, Revision: testRev + 1})
		if c.self.expired != since {
			t.Errorf("declared dead since: %v, and fenced: %v", since, c.self.expired)
		}
	}
}

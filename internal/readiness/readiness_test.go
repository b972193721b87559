package readiness

import (
	"testing"
	"time"
)

func TestAReadyNodeMayBeBehindForAMoment(t *testing.T) {
	var c currency
	start, behind := time.Now(), []string{"stream orders: not current"}
	for _, look := range []struct {
		after  time.Duration
		behind []string
		ready  bool
		want   int
	}{
		{0, behind, false, 1}, // It has yet to catch up.
		{time.Second, nil, false, 0},
		{2 * time.Second, behind, true, 0},
		{3 * time.Second, nil, true, 0},
		{4 * time.Second, behind, true, 0},
		{3*time.Second + behindGrace, behind, true, 1},
		{4*time.Second + behindGrace, behind, false, 1},
		{4*time.Second + behindGrace + currentFor/2, nil, false, 1}, // Between two tries to catch up.
		{5*time.Second + behindGrace, behind, false, 1},
		{5*time.Second + behindGrace + currentFor, nil, false, 0},
	} {
		if got := c.reasons(look.behind, look.ready, start.Add(look.after)); len(got) != look.want {
			t.Errorf("after %v: %v", look.after, got)
		}
	}
}

func TestCopiesOfANodeThatCouldNotTellMustStayCurrent(t *testing.T) {
	var c currency
	lost := time.Now()
	c.unknown(lost)
	for after, want := range map[time.Duration]int{0: 1, currentFor / 2: 1, currentFor: 0} {
		if got := c.reasons(nil, false, lost.Add(after)); len(got) != want {
			t.Errorf("%v after it could not tell: %v", after, got)
		}
	}
}

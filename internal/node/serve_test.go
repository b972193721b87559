package node

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

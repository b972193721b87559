package worker

import (
	"testing"
	"time"

	"leasehold/internal/ownership"
)

// TestLaneThatHasHadNothingIsReadForFirst: the others have full queues.
func TestLaneThatHasHadNothingIsReadForFirst(t *testing.T) {
	for _, fed := range []bool{false, true} {
		r := NewReader(ReaderOptions{Topic: newTestTopic(t, nil, "orders", 2).topic})
		c := &catchUp{scan: &scan{r: r, pos: 900, session: &session{}}, since: time.Now()}
		for p, done := range []uint64{899, 99} {
			l := newLane(laneOptions{logger: r.Logger, maxEntries: 4, maxBytes: 1 << 10}, ownership.Grant{Partition: p, Progress: ownership.Progress{Checkpoint: done}})
			f := r.NewCursor(p, done)
			f.Start(l)
			f.fed = fed || p == 0
		}
		if got := c.plan(c.since.Add(turnFresh / 2)); got.kind != courseRead {
			t.Errorf("fed %v: at once it does %+v", fed, got)
		}
		want := course{kind: courseJump, to: 100}
		if fed {
			want = course{kind: courseRead}
		}
		if got := c.plan(c.since.Add(turn / 2)); got != want {
			t.Errorf("fed %v: then it does %+v, want %+v", fed, got, want)
		}
		if got := c.plan(c.since.Add(turn)); got.kind != courseJump {
			t.Errorf("fed %v: after its turn it does %+v", fed, got)
		}
	}
}

package reader

import (
	"testing"
	"time"

	"leasehold/internal/ownership"
	"leasehold/worker/lane"
	"leasehold/worker/stream"
	"leasehold/worker/workertest"
)

// TestLaneThatHasHadNothingIsReadForFirst: the others have full queues.
func TestLaneThatHasHadNothingIsReadForFirst(t *testing.T) {
	for _, fed := range []bool{false, true} {
		r := New(Options{Topic: workertest.NewTestTopic(t, nil, "orders", 2).Topic})
		c := &catchUp{scanner: &scanner{r: r, pos: 900, consumer: &stream.PullConsumer{}}, dwellingSince: time.Now()}
		for p, done := range []uint64{899, 99} {
			l := lane.New(lane.Options{Logger: r.Logger, MaxEntries: 4, MaxBytes: 1 << 10},
				ownership.Grant{Partition: p, Progress: ownership.Progress{Checkpoint: done}})
			f := r.NewCursor(p, done)
			f.Start(l)
			f.fed = fed || p == 0
		}
		if got := c.plan(c.dwellingSince.Add(maxDwellFresh / 2)); got.kind != actionRead {
			t.Errorf("fed %v: at once it does %+v", fed, got)
		}
		want := action{kind: actionJump, to: 100}
		if fed {
			want = action{kind: actionRead}
		}
		if got := c.plan(c.dwellingSince.Add(maxDwell / 2)); got != want {
			t.Errorf("fed %v: then it does %+v, want %+v", fed, got, want)
		}
		if got := c.plan(c.dwellingSince.Add(maxDwell)); got.kind != actionJump {
			t.Errorf("fed %v: after its turn it does %+v", fed, got)
		}
	}
}

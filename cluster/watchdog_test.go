package cluster

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestLanesThatStopAfterASuspendDoNotEndTheProcess: when the machine wakes up, the fence is long past, and the lanes
// need a moment to stop as always.
func TestLanesThatStopAfterASuspendDoNotEndTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, newMemory(), "n1", nil)
		time.Sleep(3 * time.Second)
		for range 2 {
			for _, l := range r.wantRunning(partitions) {
				l.behave(margin*4/10, false)
			}
			r.clock.offset.Add(int64(time.Hour))
			time.Sleep(3 * time.Second)
		}
		r.wantRunning(partitions)
		r.endWell()
		if n := len(r.terminations()); n > 0 {
			t.Errorf("the process was ended %d times", n)
		}
	})
}

// TestLaneThatDoesNotStopAfterASuspendEndsTheProcess: half a margin after it was cancelled.
func TestLaneThatDoesNotStopAfterASuspendEndsTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, lanes := startOwner(t, newMemory(), 3*time.Second, nil)
		stuck := lanes[1]
		stuck.behave(0, true)
		r.store.hang()
		r.clock.offset.Add(int64(time.Hour))
		woke := time.Now()
		time.Sleep(ttl)
		r.wantTermination(woke, "it woke up")
		stuck.end()
		r.store.heal()
		r.endWell()
	})
}

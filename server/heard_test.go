package server

import (
	"testing"
	"time"
)

// TestANodeIsSilentOnlyIfItUsedToSpeak: nodes of two versions run beside each other while a cluster is upgraded, and
// back.
func TestANodeIsSilentOnlyIfItUsedToSpeak(t *testing.T) {
	start := time.Now()
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	h := newLastHeard()
	wantSilent := func(what string, connected, now time.Time, want bool) {
		t.Helper()
		if got := h.silent("n2", connected, now); got != want {
			t.Errorf("%s: silent is %t", what, got)
		}
	}
	h.first("n2", at(0))
	wantSilent("connected, an earlier version", at(0), at(3600), false)
	h.note("n2", at(3700))
	wantSilent("upgraded", at(3699), at(3701), false)
	wantSilent("frozen", at(3699), at(3703), true)
	wantSilent("back at the earlier version", at(3704), at(7200), false)
	h.note("n2", at(7201))
	wantSilent("only some of its routes were made again", at(3704), at(7202), false)
}

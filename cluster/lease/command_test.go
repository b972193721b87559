package lease

import (
	"testing"

	"leasehold/internal/ownership"
)

// TestCommandThatResetsAttemptsHasDeadLettersChecked: otherwise the next lane misses a first parked message.
func TestCommandThatResetsAttemptsHasDeadLettersChecked(t *testing.T) {
	failed := Lease{Checkpoint: 64, Attempt: 3}
	for name, c := range map[string]struct {
		open   []Command
		before Lease
		want   bool
	}{
		"resume":               {[]Command{{ID: 1, Kind: Resume}}, failed, true},
		"seek":                 {[]Command{{ID: 1, Kind: Seek, Seq: 70}}, failed, true},
		"seek back and resume": {[]Command{{ID: 1, Kind: Seek, Seq: 1}, {ID: 2, Kind: Resume}}, failed, true},
		"pause, then resume":   {[]Command{{ID: 1, Kind: Pause, Reason: "x"}, {ID: 2, Kind: Resume}}, failed, true},
		"resume twice":         {[]Command{{ID: 1, Kind: Resume}}, Lease{Checkpoint: 64, CheckDeadLetters: true}, true},
		"pause alone":          {[]Command{{ID: 1, Kind: Pause, Reason: "x"}}, failed, false},
		"nothing had failed":   {[]Command{{ID: 1, Kind: Resume}}, Lease{Checkpoint: 64}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := (Commands{LastID: 2, Open: c.open}).apply(0, c.before); got.CheckDeadLetters != c.want {
				t.Errorf("%+v", got)
			}
		})
	}
}

// TestOnlyALaneThatHasCheckedClearsCheckDeadLetters: only a lane that has checked for dead letters clears
// CheckDeadLetters.
func TestOnlyALaneThatHasCheckedClearsCheckDeadLetters(t *testing.T) {
	marked, looked := ownership.Progress{Checkpoint: 5, CheckDeadLetters: true},
		ownership.Progress{Checkpoint: 5, DeadLetterSeq: 9}
	if got := later(marked, looked); got != looked {
		t.Errorf("%+v", got)
	}
	if got := later(looked, marked); got != looked {
		t.Errorf("%+v", got)
	}
}

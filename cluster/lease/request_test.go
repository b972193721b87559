package lease

import "testing"

// TestRequestThatTakesAttemptsBackLeavesAMark: without it the next lane takes a first parked message for none.
func TestRequestThatTakesAttemptsBackLeavesAMark(t *testing.T) {
	failed := Lease{Done: 64, Attempt: 3}
	for name, c := range map[string]struct {
		open   []Request
		before Lease
		want   bool
	}{
		"resume":               {[]Request{{ID: 1, Kind: Resume}}, failed, true},
		"seek":                 {[]Request{{ID: 1, Kind: Seek, Seq: 70}}, failed, true},
		"seek back and resume": {[]Request{{ID: 1, Kind: Seek, Seq: 1}, {ID: 2, Kind: Resume}}, failed, true},
		"pause, then resume":   {[]Request{{ID: 1, Kind: Pause, Reason: "x"}, {ID: 2, Kind: Resume}}, failed, true},
		"resume twice":         {[]Request{{ID: 1, Kind: Resume}}, Lease{Done: 64, Unsure: true}, true},
		"pause alone":          {[]Request{{ID: 1, Kind: Pause, Reason: "x"}}, failed, false},
		"nothing had failed":   {[]Request{{ID: 1, Kind: Resume}}, Lease{Done: 64}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := (Requests{LastID: 2, Open: c.open}).apply(0, c.before); got.Unsure != c.want {
				t.Errorf("%+v", got)
			}
		})
	}
}

// TestMarkFallsWithALaterProgressOnly: a lane that has looked takes it away, and nothing brings it back.
func TestMarkFallsWithALaterProgressOnly(t *testing.T) {
	marked, looked := Progress{Done: 5, Unsure: true}, Progress{Done: 5, Letters: 9}
	if got := marked.later(looked); got != looked {
		t.Errorf("%+v", got)
	}
	if got := looked.later(marked); got != looked {
		t.Errorf("%+v", got)
	}
}

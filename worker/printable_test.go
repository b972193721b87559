package worker

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestErrorsOfHandlersCannotSteerATerminal(t *testing.T) {
	for name, status := range map[string]Status{"retry": Retry, "reject": Reject, "unavailable": Unavailable, "pause": Pause} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &script{answers: map[uint64][]Result{1: {{Status: status, Reason: steering}}}}
				s := newStand(t, h, standOptions{policy: Policy{MaxAttempts: 2}})
				s.feed(1)
				time.Sleep(time.Millisecond)
				if st := s.status(); !strings.Contains(st.Error, steered) || strings.ContainsAny(st.Error, "\x1b\a\u009b\u202e\n") {
					t.Errorf("%s: %q", st.State, st.Error)
				}
			})
		})
	}
}

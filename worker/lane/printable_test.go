package lane

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"leasehold/worker/handler"
	"leasehold/worker/workertest"
)

func TestErrorsOfHandlersCannotSteerATerminal(t *testing.T) {
	for name, status := range map[string]handler.Status{"retry": handler.Retry, "reject": handler.Reject,
		"unavailable": handler.Unavailable, "pause": handler.Pause} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &script{answers: map[uint64][]handler.Result{1: {{Status: status, Reason: workertest.Steering}}}}
				s := newTestLane(t, h, testLaneOptions{policy: Policy{MaxAttempts: 2}})
				s.feed(1)
				time.Sleep(time.Millisecond)
				if st := s.Status(); !strings.Contains(st.Error, workertest.Steered) ||
					strings.ContainsAny(st.Error, "\x1b\a\u009b\u202e\n") {
					t.Errorf("%s: %q", st.State, st.Error)
				}
			})
		})
	}
}

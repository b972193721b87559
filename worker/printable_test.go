package worker

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
)

const steering = "boom \x1b]0;PWNED\a\u009b2J \u202etxt\nOK: all is fine"

// steered is what of it is shown.
const steered = `boom \u001b]0;PWNED\u0007\u009b2J \u202etxt OK: all is fine`

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

func TestStderrInAReasonCannotSteerATerminal(t *testing.T) {
	o := newOutput(hclog.NewNullLogger(), newOutputLimit())
	o.keep([]byte(strings.ReplaceAll(steering, "\n", " ") + " \x9b"))
	if got := o.explain("exit 1"); got != "exit 1: "+steered+` \x9b` {
		t.Errorf("%q", got)
	}
}

func TestDeadLettersErrorIsOneLineWithinItsBound(t *testing.T) {
	l := Letter{Error: steering, LeftOut: steering}
	h, _ := l.encode()
	if h[hdrError][0] != steered || h[hdrLeftOut][0] != steered {
		t.Errorf("%q", h)
	}
	l.Error = strings.Repeat("\x1b", maxReason)
	if h, _ = l.encode(); len(h[hdrError][0]) > maxReason {
		t.Errorf("%d bytes", len(h[hdrError][0]))
	}
}

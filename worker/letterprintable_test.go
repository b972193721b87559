package worker

import (
	"strings"
	"testing"
)

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

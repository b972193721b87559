package deadletter

import (
	"strings"
	"testing"

	"leasehold/worker/header"
	"leasehold/worker/workertest"
)

func TestDeadLettersErrorIsOneLineWithinItsBound(t *testing.T) {
	l := Record{Error: workertest.Steering, LeftOut: workertest.Steering}
	h, _ := l.encode()
	if h[hdrError][0] != workertest.Steered || h[hdrLeftOut][0] != workertest.Steered {
		t.Errorf("%q", h)
	}
	l.Error = strings.Repeat("\x1b", header.MaxReason)
	if h, _ = l.encode(); len(h[hdrError][0]) > header.MaxReason {
		t.Errorf("%d bytes", len(h[hdrError][0]))
	}
}

package process

import (
	"strings"
	"testing"

	"leasehold/worker/workertest"

	"github.com/hashicorp/go-hclog"
)

func TestStderrInAReasonCannotSteerATerminal(t *testing.T) {
	o := NewOutput(hclog.NewNullLogger(), NewOutputLimit())
	o.keep([]byte(strings.ReplaceAll(workertest.Steering, "\n", " ") + " \x9b"))
	if got := o.Explain("exit 1"); got != "exit 1: "+workertest.Steered+` \x9b` {
		t.Errorf("%q", got)
	}
}

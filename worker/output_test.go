package worker

import (
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
)

func TestStderrInAReasonCannotSteerATerminal(t *testing.T) {
	o := newOutput(hclog.NewNullLogger(), newOutputLimit())
	o.keep([]byte(strings.ReplaceAll(steering, "\n", " ") + " \x9b"))
	if got := o.explain("exit 1"); got != "exit 1: "+steered+` \x9b` {
		t.Errorf("%q", got)
	}
}

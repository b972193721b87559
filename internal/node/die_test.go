package node

import (
	"context"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"leasehold/internal/logsink"
)

// blocked is a log that nobody reads.
type blocked struct{}

func (blocked) Write([]byte) (int, error) { select {} }

func TestDieKillsBeforeTheLogIsWritten(t *testing.T) {
	const child = "LEASEHOLD_TEST_DIE"
	if os.Getenv(child) != "" {
		log := hclog.New(&hclog.LoggerOptions{Output: blocked{}})
		go log.Info("this line holds the lock of the log")
		(&Node{log: log, Options: Options{Log: logsink.Open(blocked{}, nil)}}).die("a lane did not stop")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), child+"=1")
	err := cmd.Run()
	state, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if ctx.Err() != nil || !ok || !state.Signaled() || state.Signal() != syscall.SIGKILL {
		t.Errorf("ended by %v (%v), want its own SIGKILL", err, ctx.Err())
	}
}

package memory

import (
	"bytes"
	"math"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
)

const mib = 1 << 20

// TestMain lets the test program stand in for a process that sets its limit: the environment counts at its start.
func TestMain(m *testing.M) {
	if os.Getenv("MEMORY_TEST_CHILD") == "" {
		os.Exit(m.Run())
	}
	var log bytes.Buffer
	SetLimit(hclog.New(&hclog.LoggerOptions{Output: &log}))
	hclog.New(&hclog.LoggerOptions{Output: os.Stdout}).Info("set", "limit", debug.SetMemoryLimit(-1))
	_, _ = os.Stdout.Write(log.Bytes())
}

func child(t *testing.T, environment ...string) string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), "MEMORY_TEST_CHILD=1"), environment...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

func TestAnExplicitLimitCounts(t *testing.T) {
	out := child(t, "GOMEMLIMIT=123MiB")
	if !strings.Contains(out, "limit=128974848") || !strings.Contains(out, "source=GOMEMLIMIT limit=123MiB") {
		t.Error(out)
	}
}

func TestWithoutOneThereIsOneFromTheGroupOrTheMachine(t *testing.T) {
	if err := os.Unsetenv("GOMEMLIMIT"); err != nil {
		t.Fatal(err)
	}
	out := child(t)
	if strings.Contains(out, "limit=9223372036854775807") || !strings.Contains(out, "of_mib=") ||
		!strings.Contains(out, "source=") {
		t.Error(out)
	}
}

func TestHandlersHaveTheirPartOfTheGroup(t *testing.T) {
	for have, want := range map[uint64]uint64{64 * mib: 32 * mib, 128 * mib: 64 * mib, 256 * mib: 192 * mib,
		320 * mib: 256 * mib, 1000 * mib: 800 * mib} {
		if got := ofGroup(have); got != want {
			t.Errorf("of %d MiB: %d MiB, want %d", have/mib, got/mib, want/mib)
		}
	}
}

func TestSharesFollowTheLimit(t *testing.T) {
	before := debug.SetMemoryLimit(160 * mib)
	defer debug.SetMemoryLimit(before)
	if got := Share(64*mib, 16); got != 10*mib {
		t.Errorf("of a small limit: %d", got)
	}
	if got := Share(4*mib, 16); got != 4*mib {
		t.Errorf("of a large limit: %d", got)
	}
	debug.SetMemoryLimit(math.MaxInt64)
	if got := Share(64*mib, 16); got != 64*mib {
		t.Errorf("without a limit: %d", got)
	}
}

package exec

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"leasehold/worker/handler"
	"leasehold/worker/workertest"

	"github.com/hashicorp/go-hclog"
)

// newScript builds a handler that runs a script of sh.
func newScript(t *testing.T, script string, change func(*Config, *handler.Env)) *Handler {
	t.Helper()
	cfg := Config{Command: []string{workertest.Need(t, "sh"), "-c", script}}
	env := handler.Env{Group: "billing", Logger: hclog.New(&hclog.LoggerOptions{Output: t.Output(), Level: hclog.Debug})}
	if change != nil {
		change(&cfg, &env)
	}
	h, err := New(cfg, env)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestExecExitCodesMapToResults(t *testing.T) {
	h := newScript(t, `echo out; echo because >&2; exit $(cat)`, nil)
	for code, want := range map[int]handler.Status{
		0: handler.OK, 65: handler.Reject, 75: handler.Retry, 69: handler.Unavailable, 126: handler.Unavailable,
		127: handler.Unavailable, 1: handler.Retry, 2: handler.Retry, 64: handler.Retry, 255: handler.Retry,
	} {
		got := workertest.Handle(t, h, workertest.Message(0, 1, fmt.Sprint(code)))
		if want == handler.OK {
			if got != (handler.Result{Status: handler.OK}) {
				t.Errorf("0: got %+v", got)
			}
			continue
		}
		workertest.WantStatus(t, got, want, fmt.Sprintf("exit status %d: ", code))
		workertest.WantStatus(t, got, want, "because")
		workertest.WantStatus(t, got, want, "out")
	}
	workertest.WantStatus(t, workertest.Handle(t, newScript(t, `kill -SEGV $$`, nil), workertest.Message(0, 1, "")),
		handler.Retry, "signal: segmentation fault")
}

func TestExecWithoutProgramIsUnavailable(t *testing.T) {
	text := workertest.WriteFile(t, "no program")
	for command, reason := range map[string]string{"no-such-program": "no-such-program", text: "permission denied",
		"/": "is a directory"} {
		h := newScript(t, "", func(c *Config, _ *handler.Env) { c.Command = []string{command} })
		workertest.WantStatus(t, workertest.Handle(t, h, workertest.Message(0, 1, "x")), handler.Unavailable, reason)
	}
	workertest.WantStatus(t, workertest.Handle(t, newScript(t, `no-such-program`, nil), workertest.Message(0, 1, "")),
		handler.Unavailable, "exit status 127")
}

func TestExecCarriesTheEnvelope(t *testing.T) {
	t.Setenv("SECRET_OF_THE_NODE", "x")
	out := filepath.Join(t.TempDir(), "out")
	h := newScript(t, `env > "$OUT"; cat >> "$OUT"`, func(c *Config, _ *handler.Env) {
		c.Env = map[string]string{"OUT": out}
	})
	m := workertest.Message(3, 1007, "raw\n\x00\xff")
	m.Traceparent, m.Headers, m.Key = "00-ab", map[string][]string{"A": {"1", "<2>"}}, "c\x00d"
	workertest.WantStatus(t, workertest.Handle(t, h, m), handler.OK, "")
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(string(text), "\n")
	for _, want := range []string{
		"LEASEHOLD_ID=orders/3/1007", "LEASEHOLD_IDEMPOTENCY_KEY=k", "LEASEHOLD_TOPIC=orders", "LEASEHOLD_GROUP=billing",
		"LEASEHOLD_NODE=n1", "LEASEHOLD_PARTITION=3", "LEASEHOLD_SEQ=1007", "LEASEHOLD_KEY=c%00d",
		"LEASEHOLD_SUBJECT=orders.c-17",
		"LEASEHOLD_EPOCH=5", "LEASEHOLD_ATTEMPT=1", "LEASEHOLD_MAX_ATTEMPTS=8", "LEASEHOLD_TIMEOUT_MS=20000",
		"LEASEHOLD_TIME=2023-11-14T22:13:20.000000005Z", `LEASEHOLD_HEADERS={"A":["1","<2>"]}`, "TRACEPARENT=00-ab", "raw",
		"\x00\xff",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
	if strings.Contains(string(text), "SECRET") {
		t.Errorf("environment is not clean:\n%s", text)
	}
}

func TestExecNeedNotReadItsInput(t *testing.T) {
	big := strings.Repeat("x", 8<<20)
	workertest.WantStatus(t, workertest.Handle(t, newScript(t, `exit 0`, nil), workertest.Message(0, 1, big)), handler.OK,
		"")
	workertest.WantStatus(t, workertest.Handle(t, newScript(t, `exec <&-; echo closed >&2; exit 65`, nil),
		workertest.Message(0, 1, big)), handler.Reject, "closed")
	workertest.WantStatus(t, workertest.Handle(t, newScript(t, `[ $(wc -c) = 8388608 ]`, nil),
		workertest.Message(0, 1, big)), handler.OK, "")
}

func TestExecHeadersThatNoProcessCanBeGivenAreRejected(t *testing.T) {
	m := workertest.Message(0, 1, "")
	m.Headers = map[string][]string{"A": {strings.Repeat("x", 256<<10)}}
	workertest.WantStatus(t, workertest.Handle(t, newScript(t, `exit 0`, nil), m), handler.Reject, "headers are more than")
}

func TestExecCallEndsWithItsTimeOrItsLease(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	h := newScript(t, `trap "" TERM; sleep 300 & echo "$$ $! end" >"$PIDS"; wait; wait`, func(c *Config, _ *handler.Env) {
		c.Env = map[string]string{"PIDS": pids}
	})
	started := func() (all []int) {
		workertest.Soon(t, func() error {
			text, err := os.ReadFile(pids)
			if err == nil && !strings.HasSuffix(string(text), "end\n") {
				err = errors.New("no pids yet")
			}
			if err != nil {
				return err
			}
			var program, helper int
			_, err = fmt.Sscan(string(text), &program, &helper)
			all = []int{program, helper}
			return err
		})
		return all
	}
	call := func(ctx context.Context, end func()) handler.Result {
		done := make(chan handler.Result, 1)
		go func() { done <- h.Handle(ctx, workertest.Message(0, 1, "")) }()
		running := started()
		end()
		r := <-done
		for _, pid := range running {
			if workertest.Alive(pid) {
				t.Errorf("process %d lives after Handle has returned", pid)
			}
		}
		if err := os.Remove(pids); err != nil {
			t.Fatal(err)
		}
		return r
	}
	timed := workertest.NewExpiring(context.Background())
	workertest.WantStatus(t, call(timed, func() { close(timed.Over) }), handler.Timeout, "no answer by the deadline")
	ctx, cancel := context.WithCancelCause(t.Context())
	workertest.WantStatus(t, call(ctx, func() { cancel(errors.New("lease lost")) }), handler.Unavailable, "lease lost")
}

func TestExecLeavesNothingOfItsGroupBehind(t *testing.T) {
	pid := filepath.Join(t.TempDir(), "pid")
	h := newScript(t, `sleep 300 & echo $! >"$PID"`, func(c *Config, _ *handler.Env) {
		c.Env = map[string]string{"PID": pid}
	})
	workertest.WantStatus(t, workertest.Handle(t, h, workertest.Message(0, 1, "")), handler.OK, "")
	if n := workertest.ReadPID(t, pid); workertest.Alive(n) {
		t.Errorf("helper %d lives on", n)
	}
}

func TestExecInheritsTheHandlerLock(t *testing.T) {
	lock, err := os.Create(filepath.Join(t.TempDir(), "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	h := newScript(t, `[ /proc/self/fd/3 -ef "$LOCK" ]`, func(c *Config, e *handler.Env) {
		c.Env, e.Lock = map[string]string{"LOCK": lock.Name()}, lock
	})
	workertest.WantStatus(t, workertest.Handle(t, h, workertest.Message(0, 1, "")), handler.OK, "")
}

func TestExecDiesWithTheNode(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	pidFile := filepath.Join(t.TempDir(), "pid")
	node := exec.Command(exe)
	node.Env = append(os.Environ(), testCall+`=echo $$ >'`+pidFile+`'; trap "" TERM; exec sleep 300`)
	node.Stderr = t.Output()
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	pid := workertest.ReadPID(t, pidFile)
	if !workertest.Alive(pid) {
		t.Fatal("no program")
	}
	workertest.Kill(t, node.Process.Pid)
	node.Wait() // Killed.
	workertest.Soon(t, func() error {
		if workertest.Alive(pid) {
			return errors.New("program outlives its node")
		}
		return nil
	})
}

func TestExecFloodIsDroppedFromTheLog(t *testing.T) {
	var log workertest.LockedBuffer
	h := newScript(t, `i=0; while [ $i -lt 300 ]; do echo spam; i=$((i+1)); done`, func(_ *Config, e *handler.Env) {
		e.Logger = hclog.New(&hclog.LoggerOptions{Output: &log})
	})
	for range 4 {
		workertest.WantStatus(t, workertest.Handle(t, h, workertest.Message(0, 1, "")), handler.OK, "")
	}
	if lines := strings.Count(log.String(), "handler output"); lines < 200 || lines > 1000 {
		t.Errorf("%d lines logged of 1,200", lines)
	}
}

// runTestCall is a node in a call of an exec handler. It waits to be killed.
func runTestCall(script string) int {
	h, err := New(Config{Command: []string{"sh", "-c", script}}, handler.Env{})
	if err != nil {
		panic(err)
	}
	h.Handle(context.Background(), workertest.Message(0, 1, "x"))
	return 1
}

// testCall has the test binary be a node that runs this script for a message.
const testCall = "LEASEHOLD_TEST_CALL"

func TestMain(m *testing.M) {
	if script := os.Getenv(testCall); script != "" {
		os.Exit(runTestCall(script))
	}
	os.Exit(m.Run())
}

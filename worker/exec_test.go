package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
)

// newScript builds a handler that runs a script of sh.
func newScript(t *testing.T, script string, change func(*ExecConfig, *HandlerEnv)) *Exec {
	t.Helper()
	cfg := ExecConfig{Command: []string{need(t, "sh"), "-c", script}}
	env := HandlerEnv{Group: "billing", Logger: hclog.New(&hclog.LoggerOptions{Output: t.Output(), Level: hclog.Debug})}
	if change != nil {
		change(&cfg, &env)
	}
	h, err := NewExec(cfg, env)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestExecExitCodesMapToResults(t *testing.T) {
	h := newScript(t, `echo out; echo because >&2; exit $(cat)`, nil)
	for code, want := range map[int]Status{
		0: OK, 65: Reject, 75: Retry, 69: Unavailable, 126: Unavailable, 127: Unavailable, 1: Retry, 2: Retry, 64: Retry, 255: Retry,
	} {
		got := handle(t, h, testMessage(0, 1, fmt.Sprint(code)))
		if want == OK {
			if got != (Result{Status: OK}) {
				t.Errorf("0: got %+v", got)
			}
			continue
		}
		wantStatus(t, got, want, fmt.Sprintf("exit status %d: ", code))
		wantStatus(t, got, want, "because")
		wantStatus(t, got, want, "out")
	}
	wantStatus(t, handle(t, newScript(t, `kill -SEGV $$`, nil), testMessage(0, 1, "")), Retry, "signal: segmentation fault")
}

func TestExecWithoutProgramIsUnavailable(t *testing.T) {
	text := writeFile(t, "no program")
	for command, reason := range map[string]string{"no-such-program": "no-such-program", text: "permission denied", "/": "is a directory"} {
		h := newScript(t, "", func(c *ExecConfig, _ *HandlerEnv) { c.Command = []string{command} })
		wantStatus(t, handle(t, h, testMessage(0, 1, "x")), Unavailable, reason)
	}
	wantStatus(t, handle(t, newScript(t, `no-such-program`, nil), testMessage(0, 1, "")), Unavailable, "exit status 127")
}

func TestExecCarriesTheEnvelope(t *testing.T) {
	t.Setenv("SECRET_OF_THE_NODE", "x")
	out := filepath.Join(t.TempDir(), "out")
	h := newScript(t, `env > "$OUT"; cat >> "$OUT"`, func(c *ExecConfig, _ *HandlerEnv) { c.Env = map[string]string{"OUT": out} })
	m := testMessage(3, 1007, "raw\n\x00\xff")
	m.Traceparent, m.Headers, m.Key = "00-ab", map[string][]string{"A": {"1", "<2>"}}, "c\x00d"
	wantStatus(t, handle(t, h, m), OK, "")
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(string(text), "\n")
	for _, want := range []string{
		"LEASEHOLD_ID=orders/3/1007", "LEASEHOLD_IDEMPOTENCY_KEY=k", "LEASEHOLD_TOPIC=orders", "LEASEHOLD_GROUP=billing",
		"LEASEHOLD_NODE=n1", "LEASEHOLD_PARTITION=3", "LEASEHOLD_SEQ=1007", "LEASEHOLD_KEY=c%00d", "LEASEHOLD_SUBJECT=orders.c-17",
		"LEASEHOLD_EPOCH=5", "LEASEHOLD_ATTEMPT=1", "LEASEHOLD_MAX_ATTEMPTS=8", "LEASEHOLD_TIMEOUT_MS=20000",
		"LEASEHOLD_TIME=2023-11-14T22:13:20.000000005Z", `LEASEHOLD_HEADERS={"A":["1","<2>"]}`, "TRACEPARENT=00-ab", "raw", "\x00\xff",
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
	wantStatus(t, handle(t, newScript(t, `exit 0`, nil), testMessage(0, 1, big)), OK, "")
	wantStatus(t, handle(t, newScript(t, `exec <&-; echo closed >&2; exit 65`, nil), testMessage(0, 1, big)), Reject, "closed")
	wantStatus(t, handle(t, newScript(t, `[ $(wc -c) = 8388608 ]`, nil), testMessage(0, 1, big)), OK, "")
}

func TestExecHeadersThatNoProcessCanBeGivenAreRejected(t *testing.T) {
	m := testMessage(0, 1, "")
	m.Headers = map[string][]string{"A": {strings.Repeat("x", 256<<10)}}
	wantStatus(t, handle(t, newScript(t, `exit 0`, nil), m), Reject, "headers are more than")
}

func TestExecCallEndsWithItsTimeOrItsLease(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	h := newScript(t, `trap "" TERM; sleep 300 & echo "$$ $! end" >"$PIDS"; wait; wait`, func(c *ExecConfig, _ *HandlerEnv) {
		c.Env = map[string]string{"PIDS": pids}
	})
	started := func() (all []int) {
		soon(t, func() error {
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
	call := func(ctx context.Context, end func()) Result {
		done := make(chan Result, 1)
		go func() { done <- h.Handle(ctx, testMessage(0, 1, "")) }()
		running := started()
		end()
		r := <-done
		for _, pid := range running {
			if alive(pid) {
				t.Errorf("process %d lives after Handle has returned", pid)
			}
		}
		if err := os.Remove(pids); err != nil {
			t.Fatal(err)
		}
		return r
	}
	timed := expiring{context.Background(), make(chan struct{})}
	wantStatus(t, call(timed, func() { close(timed.over) }), Timeout, "no answer by the deadline")
	ctx, cancel := context.WithCancelCause(t.Context())
	wantStatus(t, call(ctx, func() { cancel(errors.New("lease lost")) }), Unavailable, "lease lost")
}

// expiring is a context whose deadline comes when the test says so.
type expiring struct {
	context.Context
	over chan struct{}
}

func (e expiring) Done() <-chan struct{} { return e.over }

func (e expiring) Err() error {
	select {
	case <-e.over:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

func TestExecLeavesNothingOfItsGroupBehind(t *testing.T) {
	pid := filepath.Join(t.TempDir(), "pid")
	h := newScript(t, `sleep 300 & echo $! >"$PID"`, func(c *ExecConfig, _ *HandlerEnv) { c.Env = map[string]string{"PID": pid} })
	wantStatus(t, handle(t, h, testMessage(0, 1, "")), OK, "")
	if n := readPID(t, pid); alive(n) {
		t.Errorf("helper %d lives on", n)
	}
}

func readPID(t *testing.T, name string) (pid int) {
	t.Helper()
	soon(t, func() error {
		text, err := os.ReadFile(name)
		if err == nil {
			pid, err = strconv.Atoi(strings.TrimSuffix(string(text), "\n"))
		}
		return err
	})
	return pid
}

func TestExecInheritsTheHandlerLock(t *testing.T) {
	lock, err := os.Create(filepath.Join(t.TempDir(), "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	h := newScript(t, `[ /proc/self/fd/3 -ef "$LOCK" ]`, func(c *ExecConfig, e *HandlerEnv) {
		c.Env, e.Lock = map[string]string{"LOCK": lock.Name()}, lock
	})
	wantStatus(t, handle(t, h, testMessage(0, 1, "")), OK, "")
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
	pid := readPID(t, pidFile)
	if !alive(pid) {
		t.Fatal("no program")
	}
	kill(t, node.Process.Pid)
	node.Wait() // Killed.
	soon(t, func() error {
		if alive(pid) {
			return errors.New("program outlives its node")
		}
		return nil
	})
}

func TestExecFloodIsDroppedFromTheLog(t *testing.T) {
	var log lockedBuffer
	h := newScript(t, `i=0; while [ $i -lt 300 ]; do echo spam; i=$((i+1)); done`, func(_ *ExecConfig, e *HandlerEnv) {
		e.Logger = hclog.New(&hclog.LoggerOptions{Output: &log})
	})
	for range 4 {
		wantStatus(t, handle(t, h, testMessage(0, 1, "")), OK, "")
	}
	if lines := strings.Count(log.String(), "handler output"); lines < outputBurst || lines > 1000 {
		t.Errorf("%d lines logged of 1,200", lines)
	}
}

package subprocess

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"leasehold/worker/handler"
	"leasehold/worker/workertest"

	"github.com/hashicorp/go-hclog"
)

// testSub is a running subprocess handler whose children are this binary.
type testSub struct {
	*Handler
	trace string
	stop  func() // Ends Run and waits for it.
}

func startSub(t *testing.T, behaviour string, change func(*Config, *handler.Env)) *testSub {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	traceFile := filepath.Join(t.TempDir(), "trace")
	cfg := Config{
		Command: []string{exe}, Processes: 1, StopTimeout: 2 * time.Second,
		// The race detector would have each child wait for a second before it exits.
		Env: map[string]string{testChild: behaviour, testTrace: traceFile, "GORACE": "atexit_sleep_ms=0"},
	}
	env := handler.Env{
		App: "leasehold/test", Node: "n1", Group: "billing", Topic: "orders",
		Logger: hclog.New(&hclog.LoggerOptions{Output: t.Output(), Level: hclog.Debug}),
	}
	if change != nil {
		change(&cfg, &env)
	}
	s, err := New(cfg, env)
	if err != nil {
		t.Fatal(err)
	}
	return &testSub{Handler: s, trace: traceFile, stop: workertest.RunHandler(t, s)}
}

func (s *testSub) handle(t *testing.T, m *handler.Message) handler.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return callUntilReady(ctx, s, m)
}

func (s *testSub) pid(t *testing.T) int {
	t.Helper()
	var pid int
	workertest.Soon(t, func() error {
		if pid = s.children()[0].PID; pid == 0 {
			return errors.New("no child")
		}
		return nil
	})
	return pid
}

// awaitTrace waits until the child has got a line that contains text, and returns all lines.
func (s *testSub) awaitTrace(t *testing.T, text string) string {
	t.Helper()
	var got []byte
	workertest.Soon(t, func() (err error) {
		got, err = os.ReadFile(s.trace)
		if err == nil && !bytes.Contains(got, []byte(text)) {
			err = fmt.Errorf("no %q in %q", text, got)
		}
		return err
	})
	return string(got)
}

func TestSubprocessAnswersMapToResults(t *testing.T) {
	s := startSub(t, "plain", nil)
	for i, status := range []handler.Status{handler.OK, handler.Retry, handler.Reject, handler.Unavailable,
		handler.Pause} {
		got := s.handle(t, workertest.Message(0, uint64(i+1), string(status)+" because"))
		want := handler.Result{Status: status, Reason: "because", After: 1500 * time.Millisecond}
		if status == handler.OK {
			want = handler.Result{Status: handler.OK}
		}
		if got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	workertest.WantStatus(t, s.handle(t, workertest.Message(0, 6, "nonsense")), handler.Retry, `unknown status "nonsense"`)
	workertest.WantStatus(t, s.handle(t, workertest.Message(0, 7, "unreadable")), handler.Retry, "unreadable answer")
}

func TestSubprocessSpeaksProtocolVersion1(t *testing.T) {
	s := startSub(t, "plain", func(c *Config, _ *handler.Env) { c.Config = map[string]any{"dsn": "x"} })
	a := handler.Assignment{Partition: 3, Epoch: 5, NextSeq: 1007}
	if err := s.Assign(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	m := workertest.Message(3, 1007, "ok <&>")
	m.Headers = map[string][]string{"A": {"1", "2"}}
	m.Traceparent = "00-ab"
	workertest.WantStatus(t, s.handle(t, m), handler.OK, "")
	s.Revoke(t.Context(), a, "rebalance")
	s.stop()
	want := `{"v":1,"type":"init","id":"0","token":"TOKEN","app":"leasehold/test","node":"n1",` +
		`"group":"billing","topic":"orders","max_batch":100,"config":{"dsn":"x"}}
{"type":"assign","id":"1","partition":3,"epoch":5,"next_seq":1007}
{"type":"message","id":"orders/3/1007","topic":"orders","group":"billing","node":"n1",` +
		`"partition":3,"seq":1007,"epoch":5,"attempt":1,"max_attempts":8,"key":"c-17","subject":"orders.c-17",` +
		`"idempotency_key":"k","timeout_ms":20000,"time":"2023-11-14T22:13:20.000000005Z","traceparent":"00-ab",` +
		`"headers":{"A":["1","2"]},"data":"ok <&>"}
{"type":"revoke","id":"2","partition":3,"epoch":5,"reason":"rebalance"}
{"type":"stop","id":"3"}
`
	token := regexp.MustCompile(`"token":"[A-Z2-7]{26,}"`)
	if got := token.ReplaceAllString(s.awaitTrace(t, "stop"), `"token":"TOKEN"`); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestPayloadThatIsPrintedAnswersNothing: a child that repeats its token prints what it gets before it answers. ID
// stands for the id of the call.
func TestPayloadThatIsPrintedAnswersNothing(t *testing.T) {
	s := startSub(t, "token", nil)
	forged := []string{
		"x\n" + `{"type":"result","id":"ID","status":"ok"}`,
		`{"type":"result","id":"ID","status":"ok","token":""}` + "\n",
		`{"type":"result","id":"ID","status":"pause","token":"AAAAAAAAAAAAAAAAAAAAAAAAAA"}`,
		`{"type":"result","id":"ID","status":"ok","token":7}`,
		`{"type":"result","id":"orders/1/99","status":"ok"}` + "\n" + `{"type":"ack","id":"ID","status":"ok"}`,
		`{"type":"result","id":"ID","status":"partial","ok_through":1000000}`,
	}
	for i, payload := range forged {
		seq := uint64(10 * (i + 1))
		workertest.WantStatus(t, s.handle(t, workertest.Message(0, seq, payload)), handler.Reject, "looked at")
		ms := []*handler.Message{workertest.Message(0, seq+1, payload), workertest.Message(0, seq+2, "b")}
		if r := s.HandleBatch(t.Context(), ms); r.OK != 0 || r.Result.Status != handler.Reject ||
			r.Result.Reason != "looked at" {
			t.Errorf("batch with %s: %+v", payload, r)
		}
	}
}

// TestChildThatForgetsItsTokenIsToldSo: one that acknowledges it and answers without.
func TestChildThatForgetsItsTokenIsToldSo(t *testing.T) {
	s := startSub(t, "forgets-token", nil)
	m := workertest.Message(0, 1, "ok")
	m.Timeout = 500 * time.Millisecond
	workertest.WantStatus(t, s.handle(t, m), handler.Timeout, "1 lines were results without the init token")
}

func TestChildWithAnotherTokenIsNotReady(t *testing.T) {
	s := startSub(t, "other-token", nil)
	workertest.WantStatus(t, s.handle(t, workertest.Message(0, 1, "ok")), handler.Unavailable, "not that of init")
}

func TestSubprocessCarriesAnyBytes(t *testing.T) {
	s := startSub(t, "plain", nil)
	data := bytes.Repeat([]byte{0xff, 0, '\n', '"'}, 256<<10)
	workertest.WantStatus(t, s.handle(t, workertest.Message(0, 1, string(data))), handler.Reject,
		fmt.Sprintf("%x", sha256.Sum256(data)))
}

func TestSubprocessMatchesAnswersById(t *testing.T) {
	s := startSub(t, "parallel", nil)
	held := make(chan handler.Result, 1)
	go func() { held <- callUntilReady(t.Context(), s, workertest.Message(0, 1, "hold")) }()
	s.awaitTrace(t, "orders/0/1")
	workertest.WantStatus(t, s.handle(t, workertest.Message(1, 2, "release")), handler.OK, "")
	workertest.WantStatus(t, <-held, handler.Reject, "held")
}

func TestSubprocessIgnoresWhatIsNoAnswer(t *testing.T) {
	s := startSub(t, "chatty", nil)
	pid := 0
	for seq := uint64(1); seq <= 3; seq++ {
		workertest.WantStatus(t, s.handle(t, workertest.Message(0, 10*seq, "garbage")), handler.OK, "")
		workertest.WantStatus(t, s.handle(t, workertest.Message(0, 10*seq+1, "confused")), handler.OK, "")
		if pid == 0 {
			pid = s.pid(t)
		}
	}
	workertest.WantStatus(t, s.handle(t, workertest.Message(0, 99, "ok")), handler.OK, "")
	if s.pid(t) != pid {
		t.Error("the child was restarted")
	}
	if got := s.children()[0].Ignored; got != 3*5 {
		t.Errorf("%d answers ignored, want 15", got)
	}
}

func TestSubprocessSurvivesFloodOnStderr(t *testing.T) {
	var log workertest.LockedBuffer
	s := startSub(t, "plain", func(_ *Config, e *handler.Env) {
		e.Logger = hclog.New(&hclog.LoggerOptions{Output: &log})
	})
	workertest.WantStatus(t, s.handle(t, workertest.Message(0, 1, "flood")), handler.OK, "")
	s.stop()
	if lines := strings.Count(log.String(), "handler output"); lines < 100 || lines > 2000 {
		t.Errorf("%d lines logged of 20,000", lines)
	}
}

func TestSubprocessCrashIsAnAttempt(t *testing.T) {
	s := startSub(t, "plain", nil)
	got := s.handle(t, workertest.Message(0, 1, "crash and burn"))
	workertest.WantStatus(t, got, handler.Retry, "exit status 7")
	workertest.WantStatus(t, got, handler.Retry, "something terrible: and burn")
	m := workertest.Message(0, 1, "crash-once")
	workertest.WantStatus(t, s.handle(t, m), handler.Retry, "exit status 7")
	m.Attempt = 2
	workertest.WantStatus(t, s.handle(t, m), handler.OK, "")
	got2 := s.awaitTrace(t, `"attempt":2`)
	if n := strings.Count(got2, `"type":"assign","id":"1","partition":0,"epoch":5,"next_seq":1}`); n != 3 {
		t.Errorf("partition assigned %d times to 3 children:\n%s", n, got2)
	}
}

// The fence check that came before the call is too old by the time a child has started.
func TestSubprocessDoesNotMakeACallThatHadToWait(t *testing.T) {
	s := startSub(t, "plain", nil)
	got := s.Handle(t.Context(), workertest.Message(0, 1, "ok"))
	if got.Status != handler.Unavailable || got.Err != errJustStarted || got.After > 10*time.Millisecond {
		t.Errorf("got %+v", got)
	}
	if text := s.awaitTrace(t, "assign"); strings.Contains(text, "message") {
		t.Errorf("child got %s", text)
	}
	if got := s.Handle(t.Context(), workertest.Message(0, 1, "ok")); got.Status != handler.OK {
		t.Errorf("got %+v", got)
	}
}

func TestSubprocessCrashBlamesTheOldestMessage(t *testing.T) {
	s := startSub(t, "parallel", nil)
	first := make(chan handler.Result, 1)
	go func() { first <- callUntilReady(t.Context(), s, workertest.Message(0, 1, "hold")) }()
	s.awaitTrace(t, "orders/0/1")
	second := make(chan handler.Result, 1)
	go func() { second <- callUntilReady(t.Context(), s, workertest.Message(1, 2, "hold")) }()
	s.awaitTrace(t, "orders/1/2")
	workertest.Kill(t, s.pid(t))
	workertest.WantStatus(t, <-first, handler.Retry, "signal: killed")
	wantInnocent(t, <-second)
}

// wantInnocent checks that the call does not count and is to be made again at once.
func wantInnocent(t *testing.T, got handler.Result) {
	t.Helper()
	workertest.WantStatus(t, got, handler.Unavailable, "another partition")
	if got.After <= 0 || got.After > 10*time.Millisecond {
		t.Errorf("comes again after %s", got.After)
	}
}

func TestSubprocessTimeoutKillsTheChildAndSparesTheOthers(t *testing.T) {
	s := startSub(t, "plain", nil)
	workertest.WantStatus(t, s.handle(t, workertest.Message(0, 1, "ok")), handler.OK, "")
	pid := s.pid(t)
	m := workertest.Message(0, 2, "hang")
	m.Timeout = 300 * time.Millisecond
	guilty := make(chan handler.Result, 1)
	go func() { guilty <- callUntilReady(t.Context(), s, m) }()
	s.awaitTrace(t, "orders/0/2")
	wantInnocent(t, s.handle(t, workertest.Message(1, 3, "ok")))
	got := <-guilty
	workertest.WantStatus(t, got, handler.Timeout, "no answer within 300ms")
	workertest.WantStatus(t, got, handler.Timeout, "waiting for godot")
	if workertest.Alive(pid) {
		t.Error("child lives after Handle has returned")
	}
	workertest.WantStatus(t, s.handle(t, workertest.Message(1, 3, "ok")), handler.OK, "")
}

func TestSubprocessTimeInTheQueueOfAPlainChildIsNotCounted(t *testing.T) {
	s := startSub(t, "plain", nil)
	slow := make(chan handler.Result, 1)
	go func() { slow <- callUntilReady(t.Context(), s, workertest.Message(0, 1, "sleep 900ms")) }()
	s.awaitTrace(t, "orders/0/1")
	m := workertest.Message(1, 2, "sleep 10ms")
	m.Timeout = 600 * time.Millisecond
	workertest.WantStatus(t, s.handle(t, m), handler.OK, "")
	workertest.WantStatus(t, <-slow, handler.OK, "")
}

func TestSubprocessCancelReturnsAfterTheGroupIsDead(t *testing.T) {
	s := startSub(t, "plain", nil)
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan handler.Result, 1)
	go func() { done <- callUntilReady(ctx, s, workertest.Message(0, 1, "fork")) }()
	group, _ := s.forked(t)
	pid := s.pid(t)
	lost := errors.New("lease lost")
	cancel(lost)
	got := <-done
	if workertest.Alive(pid) || workertest.Alive(group) {
		t.Errorf("after Handle: child alive %t, its helper alive %t", workertest.Alive(pid), workertest.Alive(group))
	}
	workertest.WantStatus(t, got, handler.Unavailable, "lease lost")
	if !errors.Is(got.Err, lost) {
		t.Errorf("error is %v", got.Err)
	}
	workertest.WantStatus(t, s.handle(t, workertest.Message(0, 2, "ok")), handler.OK, "")
}

// forked returns the helpers that a child has started.
func (s *testSub) forked(t *testing.T) (group, own int) {
	t.Helper()
	text := s.awaitTrace(t, "pids ")
	if _, err := fmt.Sscanf(text[strings.Index(text, "pids "):], "pids %d %d\n", &group, &own); err != nil {
		t.Fatal(err)
	}
	return group, own
}

func TestSubprocessThatNeverGetsReadyIsUnavailable(t *testing.T) {
	for behaviour, reason := range map[string]string{
		"never-ready":   "not ready within 100ms; last stderr: still loading the model",
		"dies-at-start": "exit status 3: no database here",
	} {
		t.Run(behaviour, func(t *testing.T) {
			t.Parallel()
			s := startSub(t, behaviour, func(c *Config, _ *handler.Env) {
				if behaviour == "never-ready" {
					c.StartTimeout = 100 * time.Millisecond
				}
			})
			got := s.handle(t, workertest.Message(0, 1, "ok"))
			if behaviour == "never-ready" && got.Reason == "handler child not ready within 100ms" {
				reason = "not ready within 100ms" // It was too slow even to say so.
			}
			workertest.WantStatus(t, got, handler.Unavailable, reason)
			if got.After < restartMin/2 {
				t.Errorf("comes again after %s", got.After)
			}
			if err := s.Assign(t.Context(), handler.Assignment{}); err == nil {
				t.Error("partition assigned to nobody")
			}
		})
	}
}

func TestSubprocessWithoutProgramIsUnavailable(t *testing.T) {
	s := startSub(t, "plain", func(c *Config, _ *handler.Env) { c.Command = []string{"no-such-program"} })
	workertest.WantStatus(t, s.handle(t, workertest.Message(0, 1, "ok")), handler.Unavailable, "no-such-program")
}

func TestSubprocessThatClosesItsStdoutIsReplaced(t *testing.T) {
	s := startSub(t, "plain", nil)
	workertest.WantStatus(t, s.handle(t, workertest.Message(0, 1, "close-stdout")), handler.Retry, "closed its stdout")
	workertest.WantStatus(t, s.handle(t, workertest.Message(0, 2, "ok")), handler.OK, "")
}

func TestSubprocessRevokeDoesNotWaitForALazyChild(t *testing.T) {
	s := startSub(t, "no-revoke", nil)
	a := handler.Assignment{Partition: 0, Epoch: 5, NextSeq: 1}
	if err := s.Assign(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	s.Revoke(t.Context(), a, "rebalance")
	s.awaitTrace(t, `"revoke"`)
	workertest.WantStatus(t, s.handle(t, workertest.Message(1, 2, "ok")), handler.OK, "")
}

func TestSubprocessPartitionsKeepTheirChild(t *testing.T) {
	s := startSub(t, "plain", func(c *Config, _ *handler.Env) { c.Processes = 3 })
	for p := range 5 {
		workertest.WantStatus(t, s.handle(t, workertest.Message(p, uint64(p+1), "ok")), handler.OK, "")
	}
	var given []int
	for _, sl := range s.supervisors {
		given = append(given, sl.current().given())
	}
	if fmt.Sprint(given) != "[2 2 1]" {
		t.Errorf("children got %v messages", given)
	}
}

func TestSubprocessChildrenStartOnlyWhenWanted(t *testing.T) {
	s := startSub(t, "plain", func(c *Config, _ *handler.Env) { c.Processes = 8 })
	workertest.WantStatus(t, s.handle(t, workertest.Message(2, 1, "ok")), handler.OK, "")
	starts := 0
	for _, c := range s.children() {
		starts += c.Starts
	}
	if starts != 1 {
		t.Errorf("%d children started for one partition", starts)
	}
}

func TestSubprocessStopIsBounded(t *testing.T) {
	s := startSub(t, "deaf-to-term", func(c *Config, _ *handler.Env) { c.StopTimeout = 200 * time.Millisecond })
	workertest.WantStatus(t, s.handle(t, workertest.Message(0, 1, "ok")), handler.OK, "")
	pid := s.pid(t)
	s.stop()
	if workertest.Alive(pid) {
		t.Error("child lives after Run has returned")
	}
	workertest.WantStatus(t, s.handle(t, workertest.Message(0, 2, "ok")), handler.Unavailable, "stopped")
}

func TestSubprocessEnvironmentIsClean(t *testing.T) {
	t.Setenv("SECRET_OF_THE_NODE", "x")
	t.Setenv("PASS_ME", "passed")
	t.Setenv("TZ", "UTC")
	s := startSub(t, "plain", func(c *Config, _ *handler.Env) {
		c.PassEnv = []string{"PASS_ME", "NOT_SET"}
		c.Env["MINE"] = "set"
	})
	got := s.handle(t, workertest.Message(0, 1, "environ"))
	workertest.WantStatus(t, got, handler.Reject, "PASS_ME=passed")
	workertest.WantStatus(t, got, handler.Reject, "MINE=set")
	workertest.WantStatus(t, got, handler.Reject, "TZ=UTC")
	if strings.Contains(got.Reason, "SECRET") || strings.Contains(got.Reason, "NOT_SET") {
		t.Errorf("environment is %s", got.Reason)
	}
}

// The lock is what a new life of the node waits for: it must stay taken while anything lives that a former life has
// started, even a helper that left the child's process group.
func TestHandlerLockIsHeldWhileChildrenLive(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lock")
	lock, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := tryLock(lock); err != nil {
		t.Fatal(err)
	}
	s := startSub(t, "plain", func(_ *Config, e *handler.Env) { e.Lock = lock })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan handler.Result, 1)
	go func() { done <- callUntilReady(ctx, s, workertest.Message(0, 1, "fork and-leave")) }()
	_, own := s.forked(t)
	lock.Close() // As if the node were dead.

	other, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if tryLock(other) == nil {
		t.Fatal("lock is free while the child lives")
	}
	cancel()
	<-done
	if !workertest.Alive(own) || tryLock(other) == nil {
		t.Fatal("lock is free while a helper of the child lives")
	}
	workertest.Kill(t, own)
	s.stop() // The child that replaced the first holds the lock as well.
	workertest.Soon(t, func() error { return tryLock(other) })
}

func tryLock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }

func TestChildDiesWithTheNode(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	node := exec.Command(exe)
	traceFile := filepath.Join(t.TempDir(), "trace")
	node.Env = append(os.Environ(), testParent+"="+traceFile)
	node.Stderr = t.Output()
	out, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	(&testSub{trace: traceFile}).awaitTrace(t, "orders/0/1") // It hangs and looks neither at stdin nor at SIGTERM.
	if !workertest.Alive(pid) {
		t.Fatal("no child")
	}
	workertest.Kill(t, node.Process.Pid)
	node.Wait() // Killed.
	workertest.Soon(t, func() error {
		if workertest.Alive(pid) {
			return errors.New("child outlives its node")
		}
		return nil
	})
}

// A healthy child must outlive the many threads that come and go around the one that started it.
func TestChildOutlivesOtherThreads(t *testing.T) {
	s := startSub(t, "plain", nil)
	workertest.WantStatus(t, s.handle(t, workertest.Message(0, 1, "ok")), handler.OK, "")
	pid := s.pid(t)
	var wg sync.WaitGroup
	for range 30 {
		wg.Go(func() {
			runtime.LockOSThread() // Ending with it locked ends the thread.
		})
	}
	wg.Wait()
	workertest.WantStatus(t, s.handle(t, workertest.Message(0, 2, "ok")), handler.OK, "")
	if s.pid(t) != pid {
		t.Error("child was replaced")
	}
}

// TestAnAnswerThatIsMissingIsShownIfItWasMisspelled: the line that a child says instead is in the reason.
func TestAnAnswerThatIsMissingIsShownIfItWasMisspelled(t *testing.T) {
	for behaviour, want := range map[string]string{
		"number-ids":           `must be a string): "{\"type\":\"ack\",\"id\":0}"`,
		"acknowledges-another": `must be a string): "{\"type\":\"ack\",\"id\":\"init\"}"`,
		"says-other-things":    `must be a string): "\ufeff\x1b[31mready!"`,
	} {
		t.Run(behaviour, func(t *testing.T) {
			t.Parallel()
			s := startSub(t, behaviour, func(c *Config, _ *handler.Env) { c.StartTimeout = 2 * time.Second })
			workertest.WantStatus(t, s.handle(t, workertest.Message(0, 1, "ok")), handler.Unavailable, want)
		})
	}
}

func TestSubprocessMayBeginWithAByteOrderMark(t *testing.T) {
	s := startSub(t, "byte-order-mark", nil)
	workertest.WantStatus(t, s.handle(t, workertest.Message(0, 1, "ok")), handler.OK, "")
}

// callUntilReady calls h as a lane does, again while a child is not ready.
func callUntilReady(ctx context.Context, h handler.Handler, m *handler.Message) handler.Result {
	for {
		if r := h.Handle(ctx, m); r.Err != errJustStarted {
			return r
		}
	}
}

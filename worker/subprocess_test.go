package worker

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

	"github.com/hashicorp/go-hclog"
)

// testMessage is a message of partition p whose payload tells the test child what to do.
func testMessage(p int, seq uint64, data string) *Message {
	return &Message{
		ID: fmt.Sprintf("orders/%d/%d", p, seq), IdempotencyKey: "k", Topic: "orders", Group: "billing", Node: "n1",
		Partition: p, Seq: seq, Epoch: 5, Attempt: 1, MaxAttempts: 8, Key: "c-17", Subject: "orders.c-17",
		Timeout: 20 * time.Second, Published: time.Unix(1700000000, 5), Data: []byte(data),
	}
}

// testSub is a running subprocess handler whose children are this binary.
type testSub struct {
	*Subprocess
	trace string
	stop  func() // Ends Run and waits for it.
}

func startSub(t *testing.T, behaviour string, change func(*SubprocessConfig, *HandlerEnv)) *testSub {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	traceFile := filepath.Join(t.TempDir(), "trace")
	cfg := SubprocessConfig{
		Command: []string{exe}, Processes: 1, StopTimeout: 2 * time.Second,
		// The race detector would have each child wait for a second before it exits.
		Env: map[string]string{testChild: behaviour, testTrace: traceFile, "GORACE": "atexit_sleep_ms=0"},
	}
	env := HandlerEnv{
		App: "leasehold/test", Node: "n1", Group: "billing", Topic: "orders",
		Logger: hclog.New(&hclog.LoggerOptions{Output: t.Output(), Level: hclog.Debug}),
	}
	if change != nil {
		change(&cfg, &env)
	}
	s, err := NewSubprocess(cfg, env)
	if err != nil {
		t.Fatal(err)
	}
	return &testSub{Subprocess: s, trace: traceFile, stop: runHandler(t, s)}
}

// runHandler runs h until the test's end or until the function returned is called, which waits for its end.
func runHandler(t *testing.T, h Runner) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func (s *testSub) handle(t *testing.T, m *Message) Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return callUntilReady(ctx, s, m)
}

// callUntilReady calls h as a lane does, again while a child is not ready.
func callUntilReady(ctx context.Context, h Handler, m *Message) Result {
	for {
		if r := h.Handle(ctx, m); r.Err != errNotReady {
			return r
		}
	}
}

func (s *testSub) pid(t *testing.T) int {
	t.Helper()
	var pid int
	soon(t, func() error {
		if pid = s.Children()[0].PID; pid == 0 {
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
	soon(t, func() (err error) {
		got, err = os.ReadFile(s.trace)
		if err == nil && !bytes.Contains(got, []byte(text)) {
			err = fmt.Errorf("no %q in %q", text, got)
		}
		return err
	})
	return string(got)
}

// soon waits until check has nothing to complain about.
func soon(t *testing.T, check func() error) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// alive reports whether the process runs; a zombie does not.
func alive(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !bytes.Contains(text, []byte(") Z "))
}

func wantStatus(t *testing.T, got Result, want Status, reason string) {
	t.Helper()
	if got.Status != want || !strings.Contains(got.Reason, reason) {
		t.Fatalf("got %+v, want %s with %q in its reason", got, want, reason)
	}
}

func TestSubprocessAnswersMapToResults(t *testing.T) {
	s := startSub(t, "plain", nil)
	for i, status := range []Status{OK, Retry, Reject, Unavailable, Pause} {
		got := s.handle(t, testMessage(0, uint64(i+1), string(status)+" because"))
		want := Result{Status: status, Reason: "because", After: 1500 * time.Millisecond}
		if status == OK {
			want = Result{Status: OK}
		}
		if got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	wantStatus(t, s.handle(t, testMessage(0, 6, "nonsense")), Retry, `unknown status "nonsense"`)
	wantStatus(t, s.handle(t, testMessage(0, 7, "unreadable")), Retry, "unreadable answer")
}

func TestSubprocessSpeaksProtocolVersion1(t *testing.T) {
	s := startSub(t, "plain", func(c *SubprocessConfig, _ *HandlerEnv) { c.Config = map[string]any{"dsn": "x"} })
	a := Assignment{Partition: 3, Epoch: 5, NextSeq: 1007}
	if err := s.Assign(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	m := testMessage(3, 1007, "ok <&>")
	m.Headers = map[string][]string{"A": {"1", "2"}}
	m.Traceparent = "00-ab"
	wantStatus(t, s.handle(t, m), OK, "")
	s.Revoke(t.Context(), a, "rebalance")
	s.stop()
	want := `{"v":1,"type":"init","id":"0","token":"TOKEN","app":"leasehold/test","node":"n1","group":"billing","topic":"orders","max_batch":100,"config":{"dsn":"x"}}
{"type":"assign","id":"1","partition":3,"epoch":5,"next_seq":1007}
{"type":"message","id":"orders/3/1007","topic":"orders","group":"billing","node":"n1","partition":3,"seq":1007,"epoch":5,"attempt":1,"max_attempts":8,"key":"c-17","subject":"orders.c-17","idempotency_key":"k","timeout_ms":20000,"time":"2023-11-14T22:13:20.000000005Z","traceparent":"00-ab","headers":{"A":["1","2"]},"data":"ok <&>"}
{"type":"revoke","id":"2","partition":3,"epoch":5,"reason":"rebalance"}
{"type":"stop","id":"3"}
`
	token := regexp.MustCompile(`"token":"[A-Z2-7]{26,}"`)
	if got := token.ReplaceAllString(s.awaitTrace(t, "stop"), `"token":"TOKEN"`); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestPayloadThatIsPrintedAnswersNothing: a child that repeats its token prints what it gets before it answers. ID stands
// for the id of the call.
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
		wantStatus(t, s.handle(t, testMessage(0, seq, payload)), Reject, "looked at")
		ms := []*Message{testMessage(0, seq+1, payload), testMessage(0, seq+2, "b")}
		if r := s.HandleBatch(t.Context(), ms); r.OK != 0 || r.Result.Status != Reject || r.Result.Reason != "looked at" {
			t.Errorf("batch with %s: %+v", payload, r)
		}
	}
}

// TestChildThatForgetsItsTokenIsToldSo: one that acknowledges it and answers without.
func TestChildThatForgetsItsTokenIsToldSo(t *testing.T) {
	s := startSub(t, "forgets-token", nil)
	m := testMessage(0, 1, "ok")
	m.Timeout = 500 * time.Millisecond
	wantStatus(t, s.handle(t, m), Timeout, "1 lines were results without the token of init")
}

func TestChildWithAnotherTokenIsNotReady(t *testing.T) {
	s := startSub(t, "other-token", nil)
	wantStatus(t, s.handle(t, testMessage(0, 1, "ok")), Unavailable, "not that of init")
}

func TestSubprocessCarriesAnyBytes(t *testing.T) {
	s := startSub(t, "plain", nil)
	data := bytes.Repeat([]byte{0xff, 0, '\n', '"'}, 256<<10)
	wantStatus(t, s.handle(t, testMessage(0, 1, string(data))), Reject, fmt.Sprintf("%x", sha256.Sum256(data)))
}

func TestSubprocessMatchesAnswersById(t *testing.T) {
	s := startSub(t, "parallel", nil)
	held := make(chan Result, 1)
	go func() { held <- callUntilReady(t.Context(), s, testMessage(0, 1, "hold")) }()
	s.awaitTrace(t, "orders/0/1")
	wantStatus(t, s.handle(t, testMessage(1, 2, "release")), OK, "")
	wantStatus(t, <-held, Reject, "held")
}

func TestSubprocessIgnoresWhatIsNoAnswer(t *testing.T) {
	s := startSub(t, "chatty", nil)
	pid := 0
	for seq := uint64(1); seq <= 3; seq++ {
		wantStatus(t, s.handle(t, testMessage(0, 10*seq, "garbage")), OK, "")
		wantStatus(t, s.handle(t, testMessage(0, 10*seq+1, "confused")), OK, "")
		if pid == 0 {
			pid = s.pid(t)
		}
	}
	wantStatus(t, s.handle(t, testMessage(0, 99, "ok")), OK, "")
	if s.pid(t) != pid {
		t.Error("the child was restarted")
	}
	if got := s.Children()[0].Ignored; got != 3*5 {
		t.Errorf("%d answers ignored, want 15", got)
	}
}

func TestSubprocessSurvivesFloodOnStderr(t *testing.T) {
	var log lockedBuffer
	s := startSub(t, "plain", func(_ *SubprocessConfig, e *HandlerEnv) {
		e.Logger = hclog.New(&hclog.LoggerOptions{Output: &log})
	})
	wantStatus(t, s.handle(t, testMessage(0, 1, "flood")), OK, "")
	s.stop()
	if lines := strings.Count(log.String(), "handler output"); lines < 100 || lines > 2000 {
		t.Errorf("%d lines logged of 20,000", lines)
	}
}

func TestSubprocessCrashIsAnAttempt(t *testing.T) {
	s := startSub(t, "plain", nil)
	got := s.handle(t, testMessage(0, 1, "crash and burn"))
	wantStatus(t, got, Retry, "exit status 7")
	wantStatus(t, got, Retry, "something terrible: and burn")
	m := testMessage(0, 1, "crash-once")
	wantStatus(t, s.handle(t, m), Retry, "exit status 7")
	m.Attempt = 2
	wantStatus(t, s.handle(t, m), OK, "")
	got2 := s.awaitTrace(t, `"attempt":2`)
	if n := strings.Count(got2, `"type":"assign","id":"1","partition":0,"epoch":5,"next_seq":1}`); n != 3 {
		t.Errorf("partition assigned %d times to 3 children:\n%s", n, got2)
	}
}

// The look at the fence that came before the call is too old by the time a child has started.
func TestSubprocessDoesNotMakeACallThatHadToWait(t *testing.T) {
	s := startSub(t, "plain", nil)
	got := s.Handle(t.Context(), testMessage(0, 1, "ok"))
	if got.Status != Unavailable || got.Err != errNotReady || got.After > 10*time.Millisecond {
		t.Errorf("got %+v", got)
	}
	if text := s.awaitTrace(t, "assign"); strings.Contains(text, "message") {
		t.Errorf("child got %s", text)
	}
	if got := s.Handle(t.Context(), testMessage(0, 1, "ok")); got.Status != OK {
		t.Errorf("got %+v", got)
	}
}

func TestSubprocessCrashBlamesTheOldestMessage(t *testing.T) {
	s := startSub(t, "parallel", nil)
	first := make(chan Result, 1)
	go func() { first <- callUntilReady(t.Context(), s, testMessage(0, 1, "hold")) }()
	s.awaitTrace(t, "orders/0/1")
	second := make(chan Result, 1)
	go func() { second <- callUntilReady(t.Context(), s, testMessage(1, 2, "hold")) }()
	s.awaitTrace(t, "orders/1/2")
	kill(t, s.pid(t))
	wantStatus(t, <-first, Retry, "signal: killed")
	wantInnocent(t, <-second)
}

// wantInnocent checks that the call does not count and is to be made again at once.
func wantInnocent(t *testing.T, got Result) {
	t.Helper()
	wantStatus(t, got, Unavailable, "another partition")
	if got.After <= 0 || got.After > 10*time.Millisecond {
		t.Errorf("comes again after %s", got.After)
	}
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

func TestSubprocessTimeoutKillsTheChildAndSparesTheOthers(t *testing.T) {
	s := startSub(t, "plain", nil)
	wantStatus(t, s.handle(t, testMessage(0, 1, "ok")), OK, "")
	pid := s.pid(t)
	m := testMessage(0, 2, "hang")
	m.Timeout = 300 * time.Millisecond
	guilty := make(chan Result, 1)
	go func() { guilty <- callUntilReady(t.Context(), s, m) }()
	s.awaitTrace(t, "orders/0/2")
	wantInnocent(t, s.handle(t, testMessage(1, 3, "ok")))
	got := <-guilty
	wantStatus(t, got, Timeout, "no answer within 300ms")
	wantStatus(t, got, Timeout, "waiting for godot")
	if alive(pid) {
		t.Error("child lives after Handle has returned")
	}
	wantStatus(t, s.handle(t, testMessage(1, 3, "ok")), OK, "")
}

func TestSubprocessTimeInTheQueueOfAPlainChildIsNotCounted(t *testing.T) {
	s := startSub(t, "plain", nil)
	slow := make(chan Result, 1)
	go func() { slow <- callUntilReady(t.Context(), s, testMessage(0, 1, "sleep 900ms")) }()
	s.awaitTrace(t, "orders/0/1")
	m := testMessage(1, 2, "sleep 10ms")
	m.Timeout = 600 * time.Millisecond
	wantStatus(t, s.handle(t, m), OK, "")
	wantStatus(t, <-slow, OK, "")
}

func TestSubprocessCancelReturnsAfterTheGroupIsDead(t *testing.T) {
	s := startSub(t, "plain", nil)
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan Result, 1)
	go func() { done <- callUntilReady(ctx, s, testMessage(0, 1, "fork")) }()
	group, _ := s.forked(t)
	pid := s.pid(t)
	lost := errors.New("lease lost")
	cancel(lost)
	got := <-done
	if alive(pid) || alive(group) {
		t.Errorf("after Handle: child alive %t, its helper alive %t", alive(pid), alive(group))
	}
	wantStatus(t, got, Unavailable, "lease lost")
	if !errors.Is(got.Err, lost) {
		t.Errorf("error is %v", got.Err)
	}
	wantStatus(t, s.handle(t, testMessage(0, 2, "ok")), OK, "")
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
			s := startSub(t, behaviour, func(c *SubprocessConfig, _ *HandlerEnv) {
				if behaviour == "never-ready" {
					c.StartTimeout = 100 * time.Millisecond
				}
			})
			got := s.handle(t, testMessage(0, 1, "ok"))
			if behaviour == "never-ready" && got.Reason == "handler child not ready within 100ms" {
				reason = "not ready within 100ms" // It was too slow even to say so.
			}
			wantStatus(t, got, Unavailable, reason)
			if got.After < restartMin/2 {
				t.Errorf("comes again after %s", got.After)
			}
			if err := s.Assign(t.Context(), Assignment{}); err == nil {
				t.Error("partition assigned to nobody")
			}
		})
	}
}

func TestSubprocessWithoutProgramIsUnavailable(t *testing.T) {
	s := startSub(t, "plain", func(c *SubprocessConfig, _ *HandlerEnv) { c.Command = []string{"no-such-program"} })
	wantStatus(t, s.handle(t, testMessage(0, 1, "ok")), Unavailable, "no-such-program")
}

func TestSubprocessThatClosesItsStdoutIsReplaced(t *testing.T) {
	s := startSub(t, "plain", nil)
	wantStatus(t, s.handle(t, testMessage(0, 1, "close-stdout")), Retry, "closed its stdout")
	wantStatus(t, s.handle(t, testMessage(0, 2, "ok")), OK, "")
}

func TestSubprocessRevokeDoesNotWaitForALazyChild(t *testing.T) {
	s := startSub(t, "no-revoke", nil)
	a := Assignment{Partition: 0, Epoch: 5, NextSeq: 1}
	if err := s.Assign(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	s.Revoke(t.Context(), a, "rebalance")
	s.awaitTrace(t, `"revoke"`)
	wantStatus(t, s.handle(t, testMessage(1, 2, "ok")), OK, "")
}

func TestSubprocessPartitionsKeepTheirChild(t *testing.T) {
	s := startSub(t, "plain", func(c *SubprocessConfig, _ *HandlerEnv) { c.Processes = 3 })
	for p := range 5 {
		wantStatus(t, s.handle(t, testMessage(p, uint64(p+1), "ok")), OK, "")
	}
	var given []int
	for _, sl := range s.slots {
		given = append(given, sl.current().given())
	}
	if fmt.Sprint(given) != "[2 2 1]" {
		t.Errorf("children got %v messages", given)
	}
}

func TestSubprocessChildrenStartOnlyWhenWanted(t *testing.T) {
	s := startSub(t, "plain", func(c *SubprocessConfig, _ *HandlerEnv) { c.Processes = 8 })
	wantStatus(t, s.handle(t, testMessage(2, 1, "ok")), OK, "")
	starts := 0
	for _, c := range s.Children() {
		starts += c.Starts
	}
	if starts != 1 {
		t.Errorf("%d children started for one partition", starts)
	}
}

func TestSubprocessStopIsBounded(t *testing.T) {
	s := startSub(t, "deaf-to-term", func(c *SubprocessConfig, _ *HandlerEnv) { c.StopTimeout = 200 * time.Millisecond })
	wantStatus(t, s.handle(t, testMessage(0, 1, "ok")), OK, "")
	pid := s.pid(t)
	s.stop()
	if alive(pid) {
		t.Error("child lives after Run has returned")
	}
	wantStatus(t, s.handle(t, testMessage(0, 2, "ok")), Unavailable, "stopped")
}

func TestSubprocessEnvironmentIsClean(t *testing.T) {
	t.Setenv("SECRET_OF_THE_NODE", "x")
	t.Setenv("PASS_ME", "passed")
	t.Setenv("TZ", "UTC")
	s := startSub(t, "plain", func(c *SubprocessConfig, _ *HandlerEnv) {
		c.PassEnv = []string{"PASS_ME", "NOT_SET"}
		c.Env["MINE"] = "set"
	})
	got := s.handle(t, testMessage(0, 1, "environ"))
	wantStatus(t, got, Reject, "PASS_ME=passed")
	wantStatus(t, got, Reject, "MINE=set")
	wantStatus(t, got, Reject, "TZ=UTC")
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
	s := startSub(t, "plain", func(_ *SubprocessConfig, e *HandlerEnv) { e.Lock = lock })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan Result, 1)
	go func() { done <- callUntilReady(ctx, s, testMessage(0, 1, "fork and-leave")) }()
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
	if !alive(own) || tryLock(other) == nil {
		t.Fatal("lock is free while a helper of the child lives")
	}
	kill(t, own)
	s.stop() // The child that replaced the first holds the lock as well.
	soon(t, func() error { return tryLock(other) })
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
	if !alive(pid) {
		t.Fatal("no child")
	}
	kill(t, node.Process.Pid)
	node.Wait() // Killed.
	soon(t, func() error {
		if alive(pid) {
			return errors.New("child outlives its node")
		}
		return nil
	})
}

// A healthy child must outlive the many threads that come and go around the one that started it.
func TestChildOutlivesOtherThreads(t *testing.T) {
	s := startSub(t, "plain", nil)
	wantStatus(t, s.handle(t, testMessage(0, 1, "ok")), OK, "")
	pid := s.pid(t)
	var wg sync.WaitGroup
	for range 30 {
		wg.Go(func() {
			runtime.LockOSThread() // Ending with it locked ends the thread.
		})
	}
	wg.Wait()
	wantStatus(t, s.handle(t, testMessage(0, 2, "ok")), OK, "")
	if s.pid(t) != pid {
		t.Error("child was replaced")
	}
}

// lockedBuffer is a buffer for several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
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
			s := startSub(t, behaviour, func(c *SubprocessConfig, _ *HandlerEnv) { c.StartTimeout = 2 * time.Second })
			wantStatus(t, s.handle(t, testMessage(0, 1, "ok")), Unavailable, want)
		})
	}
}

func TestSubprocessMayBeginWithAByteOrderMark(t *testing.T) {
	s := startSub(t, "byte-order-mark", nil)
	wantStatus(t, s.handle(t, testMessage(0, 1, "ok")), OK, "")
}

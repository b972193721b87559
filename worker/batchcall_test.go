package worker

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestSubprocessGetsBatchesIfItWantsThem(t *testing.T) {
	s := startSub(t, "plain", func(c *SubprocessConfig, _ *HandlerEnv) { c.Batch = 7 })
	if got := s.BatchSize(3); got != 1 {
		t.Errorf("batches of %d before there is a child", got)
	}
	wantStatus(t, s.handle(t, testMessage(3, 1, "ok")), OK, "")
	if got := s.BatchSize(3); got != 7 {
		t.Errorf("batches of %d, want 7", got)
	}
	wantAll(t, handleBatch(t, s, testBatch("ok", "ok")), 2)
	wantBatch(t, handleBatch(t, s, testBatch("ok", "ok", "retry because", "ok")), 2, true, Retry, "because")
	wantBatch(t, handleBatch(t, s, testBatch("reject because", "ok")), 0, true, Reject, "because")
	wantBatch(t, handleBatch(t, s, testBatch("ok", `answer {"status":"unavailable","reason":"because"}`)), 0, false, Unavailable, "because")
	wantBatch(t, handleBatch(t, s, testBatch("ok", `answer {"status":"ok","ok_through":2000}`)), 0, false, Retry, "unbelievable")
	wantBatch(t, handleBatch(t, s, testBatch("ok", `answer {"status":["ok"]}`)), 0, false, Retry, "unreadable answer")
	wantAll(t, handleBatch(t, s, testBatch("ok", `answer {"status":"ok","attempt":4}`)), 2)

	trace := s.awaitTrace(t, `"batch"`)
	if !strings.Contains(trace, `"max_batch":7,`) {
		t.Errorf("no max_batch in %s", trace)
	}
	_, line, _ := strings.Cut(trace, `{"type":"batch",`)
	if !strings.HasPrefix(line, `"id":"b2","partition":3,"epoch":5,"messages":[{"type":"message","id":"orders/3/1001",`) {
		t.Errorf("batch is %s", cut(line, 200))
	}
}

func TestSubprocessGetsNoBatchesUnasked(t *testing.T) {
	s := startSub(t, "no-batches", nil)
	wantStatus(t, s.handle(t, testMessage(3, 1, "ok")), OK, "")
	if got := s.BatchSize(3); got != 1 {
		t.Errorf("batches of %d", got)
	}
	got := handleBatch(t, s, testBatch("ok", "ok"))
	if got.OK != 0 || got.Result.Err != errNotReady {
		t.Errorf("got %+v", got)
	}
	if strings.Contains(s.awaitTrace(t, "message"), `"batch"`) {
		t.Error("a batch was sent")
	}
}

func TestSubprocessDeathInABatchBlamesNobody(t *testing.T) {
	s := startSub(t, "plain", nil)
	s.handle(t, testMessage(3, 1, "ok"))
	wantBatch(t, handleBatch(t, s, testBatch("ok", "crash and burn")), 0, false, Retry, "exit status 7")
	s.handle(t, testMessage(3, 1, "ok"))
	ms := testBatch("ok", "hang")
	ms[0].Timeout = 200 * time.Millisecond
	wantBatch(t, handleBatch(t, s, ms), 0, false, Timeout, "no answer within 200ms")

	s.handle(t, testMessage(3, 1, "ok"))
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan BatchResult, 1)
	go func() { done <- s.HandleBatch(ctx, testBatch("ok", "hang", "ok")) }()
	s.awaitTrace(t, "orders/3/1005")
	pid := s.pid(t)
	cancel(errors.New("lease lost"))
	wantBatch(t, <-done, 0, false, Unavailable, "lease lost")
	if alive(pid) {
		t.Error("child lives after HandleBatch has returned")
	}
}

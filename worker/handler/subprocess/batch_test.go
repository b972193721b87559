package subprocess

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"leasehold/worker/handler"
	"leasehold/worker/header"
	"leasehold/worker/workertest"
)

func TestSubprocessGetsBatchesIfItWantsThem(t *testing.T) {
	s := startSub(t, "plain", func(c *Config, _ *handler.Env) { c.Batch = 7 })
	if got := s.BatchSize(3); got != 1 {
		t.Errorf("batches of %d before there is a child", got)
	}
	workertest.WantStatus(t, s.handle(t, workertest.Message(3, 1, "ok")), handler.OK, "")
	if got := s.BatchSize(3); got != 7 {
		t.Errorf("batches of %d, want 7", got)
	}
	workertest.WantAll(t, workertest.HandleBatch(t, s, workertest.Batch("ok", "ok")), 2)
	workertest.WantBatch(t, workertest.HandleBatch(t, s, workertest.Batch("ok", "ok", "retry because", "ok")), 2, true,
		handler.Retry, "because")
	workertest.WantBatch(t, workertest.HandleBatch(t, s, workertest.Batch("reject because", "ok")), 0, true,
		handler.Reject, "because")
	workertest.WantBatch(t, workertest.HandleBatch(t, s, workertest.Batch("ok",
		`answer {"status":"unavailable","reason":"because"}`)), 0, false, handler.Unavailable, "because")
	workertest.WantBatch(t, workertest.HandleBatch(t, s, workertest.Batch("ok",
		`answer {"status":"ok","ok_through":2000}`)), 0, false, handler.Retry, "unbelievable")
	workertest.WantBatch(t, workertest.HandleBatch(t, s, workertest.Batch("ok", `answer {"status":["ok"]}`)), 0, false,
		handler.Retry, "unreadable answer")
	workertest.WantAll(t, workertest.HandleBatch(t, s, workertest.Batch("ok", `answer {"status":"ok","attempt":4}`)), 2)

	trace := s.awaitTrace(t, `"batch"`)
	if !strings.Contains(trace, `"max_batch":7,`) {
		t.Errorf("no max_batch in %s", trace)
	}
	_, line, _ := strings.Cut(trace, `{"type":"batch",`)
	if !strings.HasPrefix(line, `"id":"b2","partition":3,"epoch":5,"messages":[{"type":"message","id":"orders/3/1001",`) {
		t.Errorf("batch is %s", header.Cut(line, 200))
	}
}

func TestSubprocessGetsNoBatchesUnasked(t *testing.T) {
	s := startSub(t, "no-batches", nil)
	workertest.WantStatus(t, s.handle(t, workertest.Message(3, 1, "ok")), handler.OK, "")
	if got := s.BatchSize(3); got != 1 {
		t.Errorf("batches of %d", got)
	}
	got := workertest.HandleBatch(t, s, workertest.Batch("ok", "ok"))
	if got.OK != 0 || got.Result.Err != errJustStarted {
		t.Errorf("got %+v", got)
	}
	if strings.Contains(s.awaitTrace(t, "message"), `"batch"`) {
		t.Error("a batch was sent")
	}
}

func TestSubprocessDeathInABatchBlamesNobody(t *testing.T) {
	s := startSub(t, "plain", nil)
	s.handle(t, workertest.Message(3, 1, "ok"))
	workertest.WantBatch(t, workertest.HandleBatch(t, s, workertest.Batch("ok", "crash and burn")), 0, false,
		handler.Retry, "exit status 7")
	s.handle(t, workertest.Message(3, 1, "ok"))
	ms := workertest.Batch("ok", "hang")
	ms[0].Timeout = 200 * time.Millisecond
	workertest.WantBatch(t, workertest.HandleBatch(t, s, ms), 0, false, handler.Timeout, "no answer within 200ms")

	s.handle(t, workertest.Message(3, 1, "ok"))
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan handler.BatchResult, 1)
	go func() { done <- s.HandleBatch(ctx, workertest.Batch("ok", "hang", "ok")) }()
	s.awaitTrace(t, "orders/3/1005")
	pid := s.pid(t)
	cancel(errors.New("lease lost"))
	workertest.WantBatch(t, <-done, 0, false, handler.Unavailable, "lease lost")
	if workertest.Alive(pid) {
		t.Error("child lives after HandleBatch has returned")
	}
}

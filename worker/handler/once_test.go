package handler

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func trialMessage() *Message {
	return &Message{ID: "orders/3/7", Topic: "orders", Group: "billing", Partition: 3, Seq: 7, Epoch: 1, Attempt: 1,
		MaxAttempts: 8, Key: "a", Timeout: 10 * time.Second, Data: []byte("hi")}
}

// lifeHandler notes what is asked of it, in order.
type lifeHandler struct {
	life   []string
	result Result
	refuse error
}

func (h *lifeHandler) Run(ctx context.Context) error {
	<-ctx.Done()
	h.life = append(h.life, "end")
	return nil
}

func (h *lifeHandler) Assign(_ context.Context, a Assignment) error {
	h.life = append(h.life, "assign")
	if a != (Assignment{Partition: 3, Epoch: 1, NextSeq: 7}) {
		return errors.New("another partition")
	}
	return h.refuse
}

func (h *lifeHandler) Handle(context.Context, *Message) Result {
	h.life = append(h.life, "handle")
	return h.result
}

func (h *lifeHandler) Revoke(ctx context.Context, _ Assignment, reason string) {
	h.life = append(h.life, "revoke "+reason)
	if ctx.Err() != nil {
		h.life = append(h.life, "too late")
	}
}

func TestTryLeadsAHandlerThroughAWholeLife(t *testing.T) {
	h := &lifeHandler{result: Result{Status: Retry, Reason: "later"}}
	got := CallOnce(t.Context(), h, trialMessage())
	if got.Result.Status != Retry || got.Result.Reason != "later" ||
		strings.Join(h.life, ", ") != "assign, handle, revoke shutdown, end" {
		t.Errorf("got %+v after %v", got, h.life)
	}
	h = &lifeHandler{refuse: errors.New("no room")}
	if got := CallOnce(t.Context(), h, trialMessage()); got.Result.Status != Unavailable ||
		got.Result.Reason != "no room" || strings.Join(h.life, ", ") != "assign, end" {
		t.Errorf("a partition that is not taken: %+v after %v", got, h.life)
	}
}

func TestTryEndsWhateverAHandlerDoes(t *testing.T) {
	m := trialMessage()
	panics := Func(func(context.Context, *Message) Result { panic("oh") })
	if got := CallOnce(t.Context(), panics, m); got.Result.Status != Retry || !strings.Contains(got.Result.Reason, "oh") {
		t.Errorf("panic: %+v", got)
	}
	m.Timeout = time.Millisecond
	hangs := Func(func(ctx context.Context, _ *Message) Result {
		<-ctx.Done()
		return ContextEnded(ctx)
	})
	if got := CallOnce(t.Context(), hangs, m); got.Result.Status != Timeout {
		t.Errorf("hanging: %+v", got)
	}
	m.Timeout = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := CallOnce(ctx, hangs, m); got.Result.Status == OK {
		t.Errorf("interrupted: %+v", got)
	}
}

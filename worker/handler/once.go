package handler

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Trial is the outcome of one call outside any lane.
type Trial struct {
	Result Result
	Ready  time.Duration // Until the handler could be called.
	Took   time.Duration // Of the call itself.
}

// trialCalls is how often a trial calls again when the handler's child turned out not to be ready.
const trialCalls = 3

// CallOnce runs a handler for one call, and stops it again before it returns. Nothing is stored here, but the call is
// real: what the handler does elsewhere is done.
func CallOnce(ctx context.Context, h Handler, m *Message) Trial {
	calls, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	running, end := context.WithCancel(context.WithoutCancel(ctx))
	var ran sync.WaitGroup
	defer ran.Wait()
	defer end() // After the call and the revoke, which need what runs.
	if r, ok := h.(Runner); ok {
		ran.Go(func() {
			err := Guard(func() error { return r.Run(running) })
			// Nobody waits for a call any more, unless it is too early.
			fail(errors.Join(errors.New("the handler has ended"), err))
		})
	}
	t := Trial{}
	began := time.Now()
	if a, ok := h.(Assigner); ok {
		assignment := Assignment{Partition: m.Partition, Epoch: m.Epoch, NextSeq: m.Seq}
		if err := Guard(func() error { return a.Assign(calls, assignment) }); err != nil {
			t.Result = NewUnavailable("%w", err)
			return t
		}
		defer func() {
			ctx, cancel := context.WithTimeout(running, RevokeTimeout)
			defer cancel()
			_ = Guard(func() error { a.Revoke(ctx, assignment, ReasonShutdown); return nil }) // It is stopped next.
		}()
	}
	t.Ready = time.Since(began)
	for range trialCalls {
		began = time.Now()
		t.Result = callOnce(calls, h, m)
		t.Took = time.Since(began)
		if !t.Result.NotCalled() {
			break
		}
	}
	return t
}

// callOnce calls the handler as a lane does.
func callOnce(ctx context.Context, h Handler, m *Message) (r Result) {
	defer func() {
		if p := recover(); p != nil {
			r = Result{Status: Retry, Reason: fmt.Sprintf("handler panicked: %v", p)}
		}
	}()
	if k, ok := h.(DeadlineOwner); !ok || !k.OwnsDeadline() {
		limited, cancel := context.WithTimeoutCause(ctx, m.Timeout, ErrTimeout)
		defer cancel()
		ctx = limited
	}
	return h.Handle(ctx, m)
}

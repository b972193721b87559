package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Trial is what came of one call outside any lane.
type Trial struct {
	Result Result
	Ready  time.Duration // Until the handler could be called.
	Took   time.Duration // Of the call itself.
}

// trialCalls is how often a trial calls again when the handler's child turned out not to be ready.
const trialCalls = 3

// Try runs a handler for one call, and stops it again before it returns. Nothing is stored of it, here: the call is a real
// one, and what the handler does elsewhere is done.
func Try(ctx context.Context, h Handler, m *Message) Trial {
	calls, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	running, end := context.WithCancel(context.WithoutCancel(ctx))
	var ran sync.WaitGroup
	defer ran.Wait()
	defer end() // After the call and the revoke, which need what runs.
	if r, ok := h.(Runner); ok {
		ran.Go(func() {
			err := guard(func() error { return r.Run(running) })
			fail(errors.Join(errors.New("the handler has ended"), err)) // Nobody waits for a call any more, unless it is too early.
		})
	}
	t := Trial{}
	began := time.Now()
	if a, ok := h.(Assigner); ok {
		assignment := Assignment{Partition: m.Partition, Epoch: m.Epoch, NextSeq: m.Seq}
		if err := guard(func() error { return a.Assign(calls, assignment) }); err != nil {
			t.Result = unavailable("%w", err)
			return t
		}
		defer func() {
			ctx, cancel := context.WithTimeout(running, revokeDrained)
			defer cancel()
			_ = guard(func() error { a.Revoke(ctx, assignment, reasonShutdown); return nil }) // It is stopped next.
		}()
	}
	t.Ready = time.Since(began)
	for range trialCalls {
		began = time.Now()
		t.Result = tryOnce(calls, h, m)
		t.Took = time.Since(began)
		if !t.Result.notCalled() {
			break
		}
	}
	return t
}

// tryOnce is Lane.call for a call without a lane.
func tryOnce(ctx context.Context, h Handler, m *Message) (r Result) {
	defer func() {
		if p := recover(); p != nil {
			r = Result{Status: Retry, Reason: fmt.Sprintf("handler panicked: %v", p)}
		}
	}()
	if k, ok := h.(Timekeeper); !ok || !k.KeepsTime() {
		limited, cancel := context.WithTimeoutCause(ctx, m.Timeout, ErrTimeout)
		defer cancel()
		ctx = limited
	}
	return h.Handle(ctx, m)
}

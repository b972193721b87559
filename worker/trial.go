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
		if !notCalled(t.Result) {
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

// Follows says what a lane of the group does after such an answer to a call with this attempt.
func (c Config) Follows(r Result, attempt int) string {
	skipsNothing := c.OnExhausted == ExhaustedBlock
	switch {
	case r.Status == OK:
		return "the message is done, the next one follows"
	case r.Status == Unavailable:
		return fmt.Sprintf("the partition waits, then the same message again %s; no attempt is counted", c.after(r, 1))
	case r.Status == Pause:
		return "the partition is paused until a person resumes it"
	case r.Status == Reject && skipsNothing:
		return "the partition stops at the message, loudly (on_exhausted = \"block\")"
	case r.Status == Reject:
		return "the message becomes a dead letter, the next one follows"
	case attempt < c.MaxAttempts:
		return fmt.Sprintf("the same message again %s, as attempt %d of %d; later ones of its partition wait", c.after(r, attempt), attempt+1, c.MaxAttempts)
	case skipsNothing:
		return "no attempts are left: the partition stops at the message, loudly (on_exhausted = \"block\")"
	case c.OnExhausted == ExhaustedPark:
		return "no attempts are left: the message is parked, and every later one of its key behind it; other keys go on"
	}
	return "no attempts are left: the message becomes a dead letter, the next one follows"
}

// after says how long a lane waits after the n-th failure.
func (c Config) after(r Result, n int) string {
	if r.After > 0 {
		return fmt.Sprintf("after %v", r.After)
	}
	plain := c.Backoff
	plain.Jitter = 0
	return fmt.Sprintf("after about %v", plain.wait(n))
}

package handler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"leasehold/internal/brokererr"
	"leasehold/internal/printable"
)

// NotCalled reports whether the call was not made although nothing is wrong with the handler.
func (r Result) NotCalled() bool {
	return errors.Is(r.Err, ErrNotCalled) || errors.Is(r.Err, ErrDraining)
}

// Guard turns a panic of a handler into an error.
func Guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("handler panicked: %v", p)
		}
	}()
	return f()
}

// Text describes a result to operators, in one line that a terminal can show.
func (r Result) Text() string {
	switch {
	case r.Reason != "":
		return printable.Line(r.Reason)
	case r.Err != nil:
		return printable.Line(r.Err.Error())
	}
	return "no reason given (" + string(r.Status) + ")"
}

// ContextEnded is the result of a call whose context ended before there was a reply.
func ContextEnded(ctx context.Context) Result {
	cause := context.Cause(ctx)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return Result{Status: Timeout, Reason: "no answer by the deadline", Err: cause}
	}
	return Result{Status: Unavailable, Reason: "call ended: " + cause.Error(), Err: cause}
}

// NewRetryNow is the result of a call that was not made, or was lost because of another partition: it does not count,
// and is repeated at once.
func NewRetryNow(why error) Result {
	return Result{Status: Unavailable, Reason: why.Error(), After: time.Millisecond, Err: why}
}

// NewUnavailable is the result of a call whose handler is down: it does not count.
func NewUnavailable(format string, args ...any) Result {
	err := fmt.Errorf(format, args...)
	return Result{Status: Unavailable, Reason: brokererr.Text(err), Err: err}
}

// NewFailure is the result of a call that failed in this process, perhaps because of the message.
func NewFailure(err error) Result { return Result{Status: Retry, Reason: err.Error(), Err: err} }

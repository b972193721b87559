package worker

import (
	"context"
	"errors"
	"fmt"
	"leasehold/internal/brokererr"
	"leasehold/internal/printable"
	"time"
)

// notCalled reports whether the call was not made although nothing is wrong with the handler.
func (r Result) notCalled() bool {
	return errors.Is(r.Err, ErrNotCalled) || errors.Is(r.Err, ErrDraining)
}

// guard turns a panic of a handler into an error.
func guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("handler panicked: %v", p)
		}
	}()
	return f()
}

// text is what a result says to operators, in one line that a terminal can show.
func (r Result) text() string {
	switch {
	case r.Reason != "":
		return printable.Line(r.Reason)
	case r.Err != nil:
		return printable.Line(r.Err.Error())
	}
	return "no reason given (" + string(r.Status) + ")"
}

// ended is the result of a call whose context has ended before the answer.
func ended(ctx context.Context) Result {
	cause := context.Cause(ctx)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return Result{Status: Timeout, Reason: "no answer by the deadline", Err: cause}
	}
	return Result{Status: Unavailable, Reason: "call ended: " + cause.Error(), Err: cause}
}

// again is the result of a call that was not made, or was lost for a reason of another partition: it does not count and
// is to be made again at once.
func again(why error) Result {
	return Result{Status: Unavailable, Reason: why.Error(), After: time.Millisecond, Err: why}
}

// unavailable is an answer that does not count.
func unavailable(format string, args ...any) Result {
	err := fmt.Errorf(format, args...)
	return Result{Status: Unavailable, Reason: brokererr.Text(err), Err: err}
}

// failure is the answer to a call that went wrong here, perhaps because of the message.
func failure(err error) Result { return Result{Status: Retry, Reason: err.Error(), Err: err} }

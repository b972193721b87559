package sdk

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Status is what became of a message, as the node is told.
type Status string

// Statuses of an Error. A nil error stands for "ok".
const (
	StatusRetry       Status = "retry"       // It failed and may work later. Counts as an attempt.
	StatusReject      Status = "reject"      // It will never work. It becomes a dead letter.
	StatusUnavailable Status = "unavailable" // The handler, or what it needs, is down. Does not count as an attempt.
	StatusPause       Status = "pause"       // An operator must look. The partition is paused.
)

// Error is an error of a Handler that says what the node should do.
type Error struct {
	Status Status
	After  time.Duration // Wait before the next attempt, for Retry and Unavailable. 0: the group's backoff decides.
	Err    error         // Its text is the reason that operators see. May be nil.
}

// Error returns the status and the reason.
func (e *Error) Error() string {
	if e.Err == nil {
		return string(e.Status)
	}
	return string(e.Status) + ": " + e.Err.Error()
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// Retry has the message handled again after a wait of its own, up to a day.
func Retry(after time.Duration, err error) error { return &Error{StatusRetry, after, err} }

// Reject makes the message a dead letter: it will never work.
func Reject(err error) error { return &Error{Status: StatusReject, Err: err} }

// Unavailable has the message handled again later, without counting an attempt: it is not to blame. after may be 0.
func Unavailable(after time.Duration, err error) error { return &Error{StatusUnavailable, after, err} }

// Pause pauses the partition until an operator resumes it.
func Pause(err error) error { return &Error{Status: StatusPause, Err: err} }

// PartialError is the result of a batch of which only a beginning is done.
type PartialError struct {
	Done int   // So many messages, from the first on, are done.
	Err  error // Why the next one failed, by the rules of Handle; nil if nothing is known of it.
}

// Partial says that the first done messages of a batch are done, and that the next one failed with err. A nil err says
// that it was not handled, or that it is not known which one failed.
func Partial(done int, err error) error { return &PartialError{done, err} }

// Error returns how far the batch is done, and why the next message failed.
func (e *PartialError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("%d messages are done", e.Done)
	}
	return fmt.Sprintf("%d messages are done, the next one failed: %s", e.Done, e.Err)
}

// Unwrap returns Err.
func (e *PartialError) Unwrap() error { return e.Err }

// maxReason bounds a reason, in bytes: the node keeps no more, and cuts lines of more than 1 MiB.
const maxReason = 2 << 10

// outcome is the part of an answer that says what became of a message.
type outcome struct {
	Status  Status `json:"status,omitempty"` // Of a message or a batch; not of an acknowledgement.
	Reason  string `json:"reason,omitempty"`
	AfterMS int64  `json:"after_ms,omitempty"`
}

const (
	statusOK      Status = "ok"
	statusPartial Status = "partial"
)

func outcomeOf(err error) outcome {
	if err == nil {
		return outcome{Status: statusOK}
	}
	var e *Error
	if !errors.As(err, &e) || !e.Status.known() {
		return outcome{Status: StatusRetry, Reason: reason(err)}
	}
	o := outcome{Status: e.Status, AfterMS: max(e.After, 0).Milliseconds()}
	if e.After > 0 && o.AfterMS == 0 {
		o.AfterMS = 1
	}
	switch {
	case err != error(e): //nolint:errorlint // Wrapped: what stands around it is part of the reason.
		o.Reason = reason(err)
	case e.Err != nil:
		o.Reason = reason(e.Err)
	}
	return o
}

func (s Status) known() bool {
	return s == StatusRetry || s == StatusReject || s == StatusUnavailable || s == StatusPause
}

func reason(err error) string {
	text := strings.ToValidUTF8(err.Error(), "\uFFFD")
	if len(text) > maxReason {
		text = strings.ToValidUTF8(text[:maxReason], "")
	}
	return text
}

// batchReply is the answer to a batch.
func batchReply(ms []*Message, err error) reply {
	var p *PartialError
	switch {
	case !errors.As(err, &p):
		return reply{outcome: outcomeOf(err)}
	case p.Done < 0 || p.Done > len(ms), p.Done == len(ms) && p.Err != nil:
		err := fmt.Errorf("handler says that %d of %d messages are done: %w", p.Done, len(ms), err)
		return reply{outcome: outcome{Status: StatusRetry, Reason: reason(err)}}
	case p.Done == len(ms):
		return reply{outcome: outcome{Status: statusOK}}
	case p.Err == nil && p.Done == 0:
		return reply{outcome: outcome{Status: StatusRetry, Reason: reason(err)}}
	}
	r := reply{outcome: outcome{Status: statusPartial}}
	if p.Done > 0 {
		r.OKThrough = ms[p.Done-1].Seq
	}
	if p.Err != nil {
		r.Failed = &failed{Seq: ms[p.Done].Seq, outcome: outcomeOf(p.Err)}
	} else {
		r.Reason = reason(err)
	}
	return r
}

// Package conformance plays Leasehold's part to a user's handler and says what the handler does right, what it does wrong
// and what it could do better.
//
// A handler is free to answer a test message as it likes: what is checked is that it answers the right one, once, in a
// known way and in time, and that it lives through what a node and its own death may bring.
package conformance

import (
	"context"
	"fmt"
	"time"

	"leasehold/worker"
)

// Verdict is what a check came to.
type Verdict string

// Verdicts.
const (
	Right  Verdict = "right"
	Wrong  Verdict = "wrong"  // It breaks the contract: messages stall, or are charged for it.
	Better Verdict = "better" // It works, and could do better.
)

// Check is one question put to a handler, and its answer.
type Check struct {
	Name    string  `json:"name"`
	Verdict Verdict `json:"verdict"`
	Detail  string  `json:"detail"`           // What it did.
	Advice  string  `json:"advice,omitempty"` // What to do; empty if all is right.
}

// Report is all checks of a handler, in the order they were made.
type Report struct {
	V      int     `json:"v"` // 1.
	OK     bool    `json:"ok"`
	Right  int     `json:"right"`
	Wrong  int     `json:"wrong"`
	Better int     `json:"better"`
	Checks []Check `json:"checks"`
}

func (r *Report) add(c Check) {
	r.Checks = append(r.Checks, c)
	switch c.Verdict {
	case Right:
		r.Right++
	case Wrong:
		r.Wrong++
	case Better:
		r.Better++
	}
	r.OK = r.Wrong == 0
}

// Options say what to check and how.
type Options struct {
	// Handler is a subprocess handler. Its processes key has no meaning here: every child is started when a check wants it.
	Handler worker.HandlerConfig
	Env     worker.HandlerEnv

	Timeout    time.Duration // How long a call may take, > 0.
	MaxPayload int           // Size of the huge message, in bytes, > 0.
	Key        string        // Of all messages.
	Payloads   [][]byte      // Of the messages, in turn; at least one.

	// Found is told of each check as soon as it is made; may be nil.
	Found func(Check)
}

// finding is a check's outcome without its name.
type finding struct {
	verdict        Verdict
	detail, advice string
}

func right(format string, args ...any) finding {
	return finding{verdict: Right, detail: fmt.Sprintf(format, args...)}
}

func wrong(advice, format string, args ...any) finding {
	return finding{verdict: Wrong, advice: advice, detail: fmt.Sprintf(format, args...)}
}

func better(advice, format string, args ...any) finding {
	return finding{verdict: Better, advice: advice, detail: fmt.Sprintf(format, args...)}
}

// Subprocess checks a subprocess handler. An error is never about the handler: the context has ended.
func Subprocess(ctx context.Context, o Options) (*Report, error) {
	o.Handler = o.Handler.WithDefaults()
	b := newBench(ctx, o)
	defer b.close()
	report := &Report{V: 1, OK: true, Checks: []Check{}}
	for _, q := range questions {
		f := b.ask(q)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if f.verdict == "" {
			continue // It does not concern this handler.
		}
		c := Check{Name: q.name, Verdict: f.verdict, Detail: f.detail, Advice: f.advice}
		report.add(c)
		if o.Found != nil {
			o.Found(c)
		}
		if q.essential && f.verdict == Wrong {
			break // Nothing that follows could be asked.
		}
	}
	return report, nil
}

// Package conformance plays Leasehold's part to a user's handler and says what the handler does right, what it does
// wrong and what it could do better.
//
// A handler is free to answer a test message as it likes: what is checked is that it answers the right one, once, in a
// known way and in time, and that it lives through what a node and its own death may bring.
package conformance

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"leasehold/worker"
	"leasehold/worker/handler"
	"leasehold/worker/handler/subprocess"
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
	// Handler is what Subprocess checks; Calls does not use it. Its processes key is not used: a child is started when a
	// check wants it.
	Handler subprocess.Config
	Env     handler.Env

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

// question is one check of a subject.
type question[T any] struct {
	name string
	// Nothing that follows can be asked if an essential one goes wrong.
	essential bool
	ask       func(T) finding
}

// survey asks all questions and reports. An error is never about the handler: the context has ended.
func survey[T any](ctx context.Context, found func(Check), questions []question[T],
	ask func(question[T]) finding) (*Report, error) {
	report := &Report{V: 1, OK: true, Checks: []Check{}}
	for _, q := range questions {
		f := ask(q)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if f.verdict == "" {
			continue // It does not concern this handler.
		}
		c := Check{Name: q.name, Verdict: f.verdict, Detail: f.detail, Advice: f.advice}
		report.add(c)
		if found != nil {
			found(c)
		}
		if q.essential && f.verdict == Wrong {
			break
		}
	}
	return report, nil
}

// source makes the messages of a run.
type source struct {
	o          Options
	seq, epoch uint64
	made       int
}

// newSource begins at sequences and epochs above those of any run before it: a handler that keeps them in a store, as
// it should, would else turn the second run away. Both stay below 2^53 for two centuries.
func newSource(o Options) source {
	now := time.Now()
	return source{o: o, seq: uint64(now.UnixMicro()), epoch: uint64(now.UnixMilli())}
}

// message makes the next message of a partition.
func (s *source) message(partition int) *handler.Message {
	s.seq++
	data := s.o.Payloads[s.made%len(s.o.Payloads)]
	s.made++
	env := s.o.Env
	return &handler.Message{
		ID: fmt.Sprintf("%s/%d/%d", env.Topic, partition, s.seq), IdempotencyKey: fmt.Sprintf("conformance-%d", s.seq),
		Topic: env.Topic, Group: env.Group, Node: env.Node, Partition: partition, Seq: s.seq, Epoch: s.epoch,
		Attempt: 1, MaxAttempts: worker.DefaultConfig().MaxAttempts, Key: s.o.Key, Subject: env.Topic + "." + s.o.Key,
		Timeout: s.o.Timeout, Published: time.Now(), Data: data,
	}
}

// The payloads that are not the user's.
func (s *source) huge() *handler.Message {
	m := s.message(0)
	// Control characters make the longest line: each takes six bytes in JSON.
	m.Data = bytes.Repeat([]byte{1}, s.o.MaxPayload)
	return m
}

func (s *source) binary() *handler.Message {
	m := s.message(0)
	m.Data = []byte("\xff\x00\xfe not UTF-8")
	return m
}

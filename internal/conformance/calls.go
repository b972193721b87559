package conformance

import (
	"context"
	"fmt"
	"sync"
	"time"

	"leasehold/worker/handler"
)

// caller holds a handler of another kind than subprocess. What it is made of is not ours to start, stop or kill: it is
// called, and that is all.
type caller struct {
	source
	ctx      context.Context
	handler  handler.Handler
	baseline handler.Result // Of a plain message.

	mu      sync.Mutex
	slowest time.Duration // Of all calls, guarded by mu.
}

// Calls checks a handler by calls alone: a webhook, for example. An error is never about the handler: the context has
// ended.
func Calls(ctx context.Context, h handler.Handler, o Options) (*Report, error) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	if r, ok := h.(handler.Runner); ok {
		running.Go(func() { _ = r.Run(ctx) }) // What it says in the end is of no interest any more.
	}
	c := &caller{source: newSource(o), ctx: ctx, handler: h}
	return survey(ctx, o.Found, callQuestions, func(q question[*caller]) finding { return q.ask(c) })
}

// callQuestions are the checks of Calls, in the order in which they are made.
var callQuestions = []question[*caller]{
	{name: "message", essential: true, ask: (*caller).askMessage},
	{name: "duplicate", ask: (*caller).askDuplicate},
	{name: "two partitions", ask: (*caller).askInterleaved},
	{name: "retry", ask: (*caller).askRetry},
	{name: "huge payload", ask: (*caller).askHuge},
	{name: "binary payload", ask: (*caller).askBinary},
	{name: "stale epoch", ask: (*caller).askStaleEpoch},
	{name: "time", ask: func(c *caller) finding { return judgeTime(c.slowest, c.o.Timeout) }},
}

// call makes one call, as a lane does.
func (c *caller) call(m *handler.Message) handler.Result {
	ctx, cancel := context.WithTimeout(c.ctx, c.o.Timeout)
	defer cancel()
	began := time.Now()
	r := c.handler.Handle(ctx, m)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.slowest = max(c.slowest, time.Since(began))
	return r
}

func (c *caller) askMessage() finding {
	r := c.call(c.message(0))
	c.baseline = r
	switch r.Status {
	case handler.OK:
		return right("answered ok in %s", round(c.slowest))
	case handler.Unavailable, handler.Timeout:
		return wrong("see that it runs, lets this caller in and has what it needs: the message is not to blame", "%s",
			said(r))
	}
	return better("give a message that it accepts with --data or --message: only then do the checks reach what it does "+
		"with one", "%s", said(r))
}

func said(r handler.Result) string {
	if r.Reason == "" {
		return fmt.Sprintf("came to %s", r.Status)
	}
	return fmt.Sprintf("came to %s: %s", r.Status, r.Reason)
}

// lives makes sure that a call did no lasting harm: a plain one works afterwards, if one did before.
func (c *caller) lives(r handler.Result, advice string) finding {
	if r.Status == handler.Timeout {
		return wrong(advice, "%s", said(r))
	}
	after := c.call(c.message(0))
	if c.baseline.Status == handler.OK && after.Status != handler.OK {
		return wrong(advice, "%s; and the plain message after it %s", said(r), said(after))
	}
	return right("%s", said(r))
}

func (c *caller) askDuplicate() finding {
	m := c.message(0)
	first, again := c.call(m), c.call(m)
	if again.Status == handler.Timeout {
		return c.lives(again, "calls repeat after a crash: answer a message that was seen before, too")
	}
	return judgeRepeat(first.Status, again.Status)
}

// askInterleaved makes two calls at once.
func (c *caller) askInterleaved() finding {
	var results [2]handler.Result
	var calls sync.WaitGroup
	for p := range results {
		m := c.message(p)
		calls.Go(func() { results[p] = c.call(m) })
	}
	calls.Wait()
	for _, r := range results {
		if r.Status == handler.Timeout || r.Status != c.baseline.Status {
			return wrong("partitions are handled side by side: take calls of several at once", "of two calls at once one %s",
				said(r))
		}
	}
	return right("both of two calls at once came to %s", results[0].Status)
}

func (c *caller) askRetry() finding {
	m := c.message(0)
	m.Attempt = 2
	return c.lives(c.call(m), "a message comes again, with a higher attempt, after a retry: handle it like the first time")
}

func (c *caller) askHuge() finding {
	r := c.call(c.huge())
	f := c.lives(r, "take payloads up to max_payload, or refuse longer ones without falling over")
	if f.verdict == Right && r.Status != handler.OK && r.Status != handler.Reject {
		return better("reject messages that will always be too large: "+
			"otherwise they are retried and block all messages behind them",
			"%s", said(r))
	}
	return f
}

func (c *caller) askBinary() finding {
	return c.lives(c.call(c.binary()),
		"payloads need not be text: refuse those that you cannot read, without falling over")
}

// askStaleEpoch has a call of a new owner followed by a late one of the former.
func (c *caller) askStaleEpoch() finding {
	if c.baseline.Status != handler.OK {
		return notSeen(c.baseline.Status)
	}
	former := c.epoch
	c.epoch++
	if r := c.call(c.message(0)); r.Status != handler.OK {
		return wrong("a partition can get a new owner, with a higher epoch: go on with it",
			"the first call under a higher epoch %s", said(r))
	}
	late := c.message(0) // Nobody has handled it yet: seq does not give it away.
	late.Epoch = former
	return judgeStale(c.call(late).Status)
}

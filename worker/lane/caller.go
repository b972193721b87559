package lane

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/hashicorp/go-hclog"

	"leasehold/internal/brokererr"
	"leasehold/internal/ownership"
	"leasehold/worker/handler"
)

// caller makes the calls of the handler: one at a time, none once the lane ends or its fence has passed. Only the
// lane's goroutine uses it; what others may see of a call is in the ledger.
type caller struct {
	o      *Options
	grant  *ownership.Grant
	ledger *ledger
	life   *lifetime
	log    hclog.Logger
}

// one makes one call, and fills in the message's attempt. It returns false, without a call, if the lane ends or the
// fence has passed. The fence check is the start of the call: nothing that can take time comes between the two.
func (c *caller) one(m *handler.Message) (handler.Result, bool) {
	now := time.Now()
	if !c.begin(m, now) || !c.life.passFence() {
		return handler.Result{}, false
	}
	return c.handle(now, m), true
}

// batch is one with several messages, whose first is the head message.
func (c *caller) batch(ms []*handler.Message) (handler.BatchResult, bool) {
	now := time.Now()
	if !c.begin(ms[0], now) || !c.life.passFence() {
		return handler.BatchResult{}, false
	}
	return c.handleBatch(now, ms), true
}

// released is one with a released message, whose attempt is its caller's business.
func (c *caller) released(m *handler.Message) (handler.Result, bool) {
	c.ledger.setState(StateReleasing, "")
	now, ok := c.ledger.beginReleased()
	if !ok || !c.life.passFence() {
		return handler.Result{}, false
	}
	return c.handle(now, m), true
}

// begin notes that a call begins, and fills in its attempt. It returns false if the lane ends.
func (c *caller) begin(m *handler.Message, now time.Time) bool {
	failed, ok := c.ledger.begin(now)
	if ok {
		// A call beyond the limit is a probe, or an operator's wish: it counts no more than the last.
		m.Attempt = min(failed, m.MaxAttempts-1) + 1
	}
	return ok
}

// handle calls the handler. The call is joined however late it returns: a second one beside it would break the order.
func (c *caller) handle(now time.Time, m *handler.Message) (r handler.Result) {
	defer c.recoverPanic(m.Seq, func(reason string) { r = handler.Result{Status: handler.Retry, Reason: reason} })
	ctx, end := c.context(now, m.Timeout)
	defer end()
	return c.o.Handler.Handle(ctx, m)
}

func (c *caller) handleBatch(now time.Time, ms []*handler.Message) (r handler.BatchResult) {
	defer c.recoverPanic(ms[0].Seq, func(reason string) {
		r = handler.BatchResult{Result: handler.Result{Status: handler.Retry, Reason: reason}}
	})
	ctx, end := c.context(now, ms[0].Timeout)
	defer end()
	return c.o.Handler.(handler.Batcher).HandleBatch(ctx, ms)
}

// recoverPanic turns a panic of the handler into a result, which fail makes of the reason.
func (c *caller) recoverPanic(seq uint64, fail func(reason string)) {
	if p := recover(); p != nil {
		c.log.Error("handler panicked", "seq", seq, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		fail(fmt.Sprintf("handler panicked: %v", p))
	}
}

// context returns the context of a call that begins now, and what ends it.
func (c *caller) context(now time.Time, timeout time.Duration) (context.Context, func()) {
	if k, ok := c.o.Handler.(handler.DeadlineOwner); ok && k.OwnsDeadline() {
		return c.life.calls, func() {}
	}
	ctx := handler.NewCallContext(c.life.calls, now.Add(timeout))
	return ctx, ctx.End
}

// assign assigns the partition to the handler, and repeats that until the handler accepts it. It returns false if the
// lane ends first.
func (c *caller) assign() bool {
	a, ok := c.o.Handler.(handler.Assigner)
	if !ok {
		return true
	}
	for n := 1; ; n++ {
		if !c.life.passFence() {
			return false
		}
		err := handler.Guard(func() error { return a.Assign(c.life.live, c.assignment()) })
		if err == nil || c.life.ended() {
			return err == nil && !c.life.ended()
		}
		c.ledger.setState(StateUnavailable, brokererr.Text(err))
		if n == 1 {
			c.log.Warn("handler rejected the assignment", "error", err)
		}
		if !c.life.sleep(c.o.Policy.Backoff.wait(n)) {
			return false
		}
	}
}

// revoke tells the handler that it no longer has the partition.
func (c *caller) revoke() {
	a, ok := c.o.Handler.(handler.Assigner)
	if !ok {
		return
	}
	reason := handler.ReasonRebalance
	if c.o.Reason != nil {
		reason = c.o.Reason()
	}
	// Not below life.calls: a partition that is lost is revoked too. But a cancel cuts a slow revoke short.
	ctx, cancel := context.WithTimeout(context.Background(), handler.RevokeTimeout)
	defer cancel()
	release := context.AfterFunc(c.life.calls, func() { time.AfterFunc(handler.CancelledRevokeTimeout, cancel) })
	defer release()
	if c.ledger.cancelled() && reason != handler.ReasonShutdown {
		reason = handler.ReasonLost
	}
	if err := handler.Guard(func() error { a.Revoke(ctx, c.assignment(), reason); return nil }); err != nil {
		c.log.Error("revoke", "error", err)
	}
}

func (c *caller) assignment() handler.Assignment {
	return handler.Assignment{Partition: c.grant.Partition, Epoch: c.grant.Epoch, NextSeq: c.ledger.checkpoint() + 1}
}

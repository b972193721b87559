package worker

import (
	"context"
	"sync"
	"time"
)

// callTurn is what a handler that lets calls wait needs to know about the lane of a call.
type callTurn struct {
	live     context.Context   // Ends as soon as the lane starts no more calls; the call's own context ends later.
	mayStart func() bool       // The look at the fence.
	queued   func(queued bool) // The call waits in the handler's queue, or does so no longer. It must not block.
}

type callTurnKey struct{}

// withTurn returns a context for calls of a lane.
func withTurn(ctx context.Context, t *callTurn) context.Context {
	return context.WithValue(ctx, callTurnKey{}, t)
}

// turnOf returns the turn of the lane that calls; for any other caller, one that lasts as long as ctx.
func turnOf(ctx context.Context) *callTurn {
	if t, ok := ctx.Value(callTurnKey{}).(*callTurn); ok {
		return t
	}
	return &callTurn{live: ctx, mayStart: func() bool { return true }, queued: func(bool) {}}
}

// callContext is the context of one call. It makes its timer and channel only when the handler asks for them: a real
// context with a deadline costs more than all the rest of a short call.
type callContext struct {
	parent   context.Context
	deadline time.Time

	mu     sync.Mutex
	real   context.Context // nil until someone asks.
	cancel context.CancelFunc
	over   bool // The call has returned.
}

// newCallContext returns the context of a call that must end at the deadline.
func newCallContext(parent context.Context, deadline time.Time) *callContext {
	return &callContext{parent: parent, deadline: deadline}
}

// ask returns the real context.
func (c *callContext) ask() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.real == nil {
		c.real, c.cancel = context.WithDeadlineCause(c.parent, c.deadline, ErrTimeout)
		if c.over {
			c.cancel()
		}
	}
	return c.real
}

// end releases the timer, and tells whatever the handler left behind that the call is over.
func (c *callContext) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	if c.cancel != nil {
		c.cancel()
	}
}

func (c *callContext) Deadline() (time.Time, bool) { return c.deadline, true }
func (c *callContext) Done() <-chan struct{}       { return c.ask().Done() }
func (c *callContext) Err() error                  { return c.ask().Err() }

// Value passes on, which is also how the context package finds the real one, so that derived contexts need no goroutine.
func (c *callContext) Value(key any) any { return c.ask().Value(key) }

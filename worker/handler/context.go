package handler

import (
	"context"
	"sync"
	"time"
)

// Turn is what a handler that lets calls wait needs to know about the lane of a call.
type Turn struct {
	Live     context.Context   // Ends as soon as the lane starts no more calls; the call's own context ends later.
	MayStart func() bool       // The fence check.
	Queued   func(Queued bool) // Says whether the call waits in the handler's queue. It must not block.
}

type turnKey struct{}

// WithTurn returns a context for calls of a lane.
func WithTurn(ctx context.Context, t *Turn) context.Context {
	return context.WithValue(ctx, turnKey{}, t)
}

// TurnOf returns the turn of the lane that calls; for any other caller, one that lasts as long as ctx.
func TurnOf(ctx context.Context) *Turn {
	if t, ok := ctx.Value(turnKey{}).(*Turn); ok {
		return t
	}
	return &Turn{Live: ctx, MayStart: func() bool { return true }, Queued: func(bool) {}}
}

// CallContext is the context of one call. It makes its timer and channel only when the handler asks for them: a real
// context with a deadline for each call adds a fifth to the CPU that BenchmarkDrain takes per message.
type CallContext struct {
	parent   context.Context
	deadline time.Time

	mu     sync.Mutex
	real   context.Context // nil until someone asks.
	cancel context.CancelFunc
	over   bool // The call has returned.
}

// NewCallContext returns the context of a call that must end at the deadline.
func NewCallContext(parent context.Context, deadline time.Time) *CallContext {
	return &CallContext{parent: parent, deadline: deadline}
}

// ask returns the real context, and makes it if need be.
func (c *CallContext) ask() context.Context {
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

// End releases the timer, and tells whatever the handler left behind that the call is over.
func (c *CallContext) End() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	if c.cancel != nil {
		c.cancel()
	}
}

// Deadline returns when the call must end.
func (c *CallContext) Deadline() (time.Time, bool) { return c.deadline, true }

// Done is closed when the call must end.
func (c *CallContext) Done() <-chan struct{} { return c.ask().Done() }

// Err returns why the call must end; nil if it need not yet.
func (c *CallContext) Err() error { return c.ask().Err() }

// Value asks the real context. That is also how the context package finds it, so that derived contexts need no
// goroutine.
func (c *CallContext) Value(key any) any { return c.ask().Value(key) }

package worker

import "context"

// Discard does nothing with messages, as fast as it can: what remains is the cost of everything else.
type Discard struct{}

// NewDiscard builds the handler.
func NewDiscard(HandlerConfig, HandlerEnv) (*Discard, error) { return &Discard{}, nil }

// Handle returns OK.
func (*Discard) Handle(context.Context, *Message) Result { return Result{Status: OK} }

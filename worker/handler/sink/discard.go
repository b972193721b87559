package sink

import (
	"context"

	"leasehold/worker/handler"
)

// DiscardConfig is the config of the kind "discard", which has no keys.
type DiscardConfig struct{}

// DiscardKind does nothing with messages.
var DiscardKind = handler.NewKind("discard", NewDiscard, handler.ConformanceNone)

// Defaulted returns c, which has no defaults.
func (c DiscardConfig) Defaulted() handler.Config { return c }

// Validate finds no fault: there is nothing to set.
func (c DiscardConfig) Validate(handler.FaultFunc) {}

// Discard does nothing with messages, as fast as it can: what remains is the cost of everything else.
type Discard struct{}

// NewDiscard builds the handler.
func NewDiscard(DiscardConfig, handler.Env) (*Discard, error) { return &Discard{}, nil }

// Handle returns OK.
func (*Discard) Handle(context.Context, *handler.Message) handler.Result {
	return handler.Result{Status: handler.OK}
}

package worker

import "context"

// DiscardConfig is the config of the kind "discard", which has no keys.
type DiscardConfig struct{}

// DiscardKind does nothing with messages.
var DiscardKind = NewKind("discard", NewDiscard, ConformanceNone)

// Defaulted returns c, which has no defaults.
func (c DiscardConfig) Defaulted() KindConfig { return c }

// Validate finds no fault: there is nothing to set.
func (c DiscardConfig) Validate(faultFunc) {}

// Discard does nothing with messages, as fast as it can: what remains is the cost of everything else.
type Discard struct{}

// NewDiscard builds the handler.
func NewDiscard(DiscardConfig, HandlerEnv) (*Discard, error) { return &Discard{}, nil }

// Handle returns OK.
func (*Discard) Handle(context.Context, *Message) Result { return Result{Status: OK} }

package sink

import (
	"context"

	"leasehold/worker/handler"
	"leasehold/worker/header"

	"github.com/hashicorp/go-hclog"
)

// LogConfig is the config of the kind "log".
type LogConfig struct {
	Payload bool `toml:"payload"` // Log payloads too.
}

// LogKind logs messages.
var LogKind = handler.NewKind(logKindName, NewLog, handler.ConformanceNone)

const logKindName = "log"

// maxPayload bounds how much of a payload is logged, in bytes.
const maxPayload = 2 << 10

// Defaulted returns c, which has no defaults.
func (c LogConfig) Defaulted() handler.Config { return c }

// Validate finds no fault: every value is valid.
func (c LogConfig) Validate(handler.FaultFunc) {}

// Log writes a line to the node's log for every message: something to see before there is a handler.
type Log struct {
	log     hclog.Logger
	payload bool
}

// NewLog builds the handler.
func NewLog(cfg LogConfig, env handler.Env) (*Log, error) {
	return &Log{log: env.LoggerFor(logKindName), payload: cfg.Payload}, nil
}

// Handle logs the message, its payload only if the user asked for that.
func (h *Log) Handle(_ context.Context, m *handler.Message) handler.Result {
	args := []any{
		"partition", m.Partition, "seq", m.Seq, "epoch", m.Epoch, "attempt", m.Attempt,
		"key", m.Key, "subject", m.Subject, "bytes", len(m.Data),
	}
	if h.payload {
		args = append(args, "data", header.Cut(string(m.Data[:min(len(m.Data), maxPayload)]), maxPayload))
	}
	h.log.Info("message", args...)
	return handler.Result{Status: handler.OK}
}

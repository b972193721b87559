package worker

import (
	"context"

	"github.com/hashicorp/go-hclog"
)

// LogConfig is the config of the kind "log".
type LogConfig struct {
	Payload bool `toml:"payload"` // Log payloads too.
}

// LogKind logs messages.
var LogKind = NewKind(kindLog, NewLog, ConformanceNone)

const kindLog = "log"

// Defaulted returns c, which has no defaults.
func (c LogConfig) Defaulted() KindConfig { return c }

// Validate finds no fault: every value is valid.
func (c LogConfig) Validate(faultFunc) {}

// Log writes a line to the node's log for every message: something to see before there is a handler.
type Log struct {
	log     hclog.Logger
	payload bool
}

// NewLog builds the handler.
func NewLog(cfg LogConfig, env HandlerEnv) (*Log, error) {
	return &Log{log: env.logger(kindLog), payload: cfg.Payload}, nil
}

// Handle logs the message, its payload only if the user asked for that.
func (h *Log) Handle(_ context.Context, m *Message) Result {
	args := []any{
		"partition", m.Partition, "seq", m.Seq, "epoch", m.Epoch, "attempt", m.Attempt,
		"key", m.Key, "subject", m.Subject, "bytes", len(m.Data),
	}
	if h.payload {
		args = append(args, "data", cut(string(m.Data[:min(len(m.Data), maxLogged)]), maxLogged))
	}
	h.log.Info("message", args...)
	return Result{Status: OK}
}

package worker

import (
	"context"

	"github.com/hashicorp/go-hclog"
)

// Log writes a line to the node's log for every message: something to see before there is a handler.
type Log struct {
	log     hclog.Logger
	payload bool
}

// NewLog builds the handler.
func NewLog(cfg HandlerConfig, env HandlerEnv) (*Log, error) {
	return &Log{log: env.logger(KindLog), payload: cfg.Payload}, nil
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

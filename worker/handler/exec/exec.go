// Package exec is the handler kind "exec": a program that is started for each message.
package exec

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"leasehold/worker/handler"
	"leasehold/worker/handler/process"
	"leasehold/worker/handler/wire"
	"leasehold/worker/header"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
)

// Handler starts a program for each message: the payload on its stdin, the envelope in its environment, its exit code
// the answer. docs/handlers.md holds names and codes.
type Handler struct {
	cfg   Config
	env   handler.Env
	log   hclog.Logger
	limit *process.OutputLimit // Of all programs together: each lives for one message only.
}

// New builds the handler.
func New(cfg Config, env handler.Env) (*Handler, error) {
	cfg, err := handler.Complete(cfg)
	if err != nil {
		return nil, err
	}
	return &Handler{cfg: cfg, env: env, log: env.LoggerFor(kindName), limit: process.NewOutputLimit()}, nil
}

// Handle runs the program and returns when nothing of it is left. At the end of ctx it is killed.
func (h *Handler) Handle(ctx context.Context, m *handler.Message) handler.Result {
	cmd := h.cfg.program().Cmd(h.env.Lock)
	vars, err := envelopeVars(m)
	if err != nil {
		return handler.NewFailure(err)
	}
	cmd.Env = append(cmd.Env, vars...)
	p, err := process.Start(cmd, func() {})
	switch {
	case errors.Is(err, syscall.E2BIG):
		return handler.Result{Status: handler.Reject,
			Reason: "the message's headers are more than a process can be started with", Err: err}
	case err != nil:
		return handler.NewUnavailable("start handler program: %w", err)
	}
	out := process.NewOutput(h.log.With("pid", p.Pid, "partition", m.Partition, "seq", m.Seq), h.limit)
	release := context.AfterFunc(ctx, func() { p.Signal(unix.SIGKILL) })
	defer release()
	p.Communicate(func() { p.WriteInput(m.Data) }, func() {
		process.ReadLines(p.Pipes.Stdout, process.MaxOutputLine, out.StdoutKept)
	}, func() {
		process.ReadLines(p.Pipes.Stderr, process.MaxOutputLine, out.Stderr)
	})
	return h.result(ctx, p, out)
}

// result converts how the program ended.
func (h *Handler) result(ctx context.Context, p *process.Process, out *process.Output) handler.Result {
	state := p.Cmd.ProcessState
	if ctx.Err() != nil && !state.Exited() {
		r := handler.ContextEnded(ctx)
		r.Reason = out.Explain(r.Reason)
		return r
	}
	return exitResult(state, out)
}

// exitCodes are the codes of sysexits.h, and of shells for programs that cannot be run, that do not mean Retry.
var exitCodes = map[int]handler.Status{
	0:   handler.OK,
	65:  handler.Reject,      // EX_DATAERR
	69:  handler.Unavailable, // EX_UNAVAILABLE
	126: handler.Unavailable, // Found by a shell, and not runnable.
	127: handler.Unavailable, // Not found by a shell.
}

func exitResult(state *os.ProcessState, out *process.Output) handler.Result {
	status, known := exitCodes[state.ExitCode()]
	switch {
	case !known:
		status = handler.Retry // Also 75, EX_TEMPFAIL, and death by a signal.
	case status == handler.OK:
		return handler.Result{Status: handler.OK}
	}
	return handler.Result{Status: status, Reason: out.Explain(state.String())}
}

// varPrefix begins the names of all our variables.
const varPrefix = "LEASEHOLD_"

// envelopeVars are the variables that carry the envelope.
func envelopeVars(m *handler.Message) ([]string, error) {
	headers, err := wire.EncodeLine(wire.HeadersOrEmpty(m))
	if err != nil {
		return nil, fmt.Errorf("encode headers: %w", err)
	}
	var vars []string
	add := func(name, value string) {
		vars = append(vars, name+"="+header.Escape(value, func(c byte) bool { return c == 0 }))
	}
	for _, f := range m.Envelope() {
		add(varName(f.Name), f.Value)
	}
	add(varPrefix+"HEADERS", strings.TrimSuffix(string(headers), "\n"))
	if m.Traceparent != "" {
		add("TRACEPARENT", m.Traceparent)
	}
	return vars, nil
}

// varName is the environment variable of a field: LEASEHOLD_MAX_ATTEMPTS for Leasehold-Max-Attempts.
func varName(header string) string { return strings.ToUpper(strings.ReplaceAll(header, "-", "_")) }

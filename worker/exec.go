package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
)

// Exec starts a program for each message: the payload on its stdin, the envelope in its environment, its exit code the
// answer. docs/handlers.md holds names and codes.
type Exec struct {
	cfg   ExecConfig
	env   HandlerEnv
	log   hclog.Logger
	limit *outputLimit // Of all programs together: each lives for one message only.
}

// NewExec builds the handler.
func NewExec(cfg ExecConfig, env HandlerEnv) (*Exec, error) {
	cfg, err := completed(cfg)
	if err != nil {
		return nil, err
	}
	return &Exec{cfg: cfg, env: env, log: env.logger(kindExec), limit: newOutputLimit()}, nil
}

// Handle runs the program and returns when nothing of it is left. At the end of ctx it is killed.
func (h *Exec) Handle(ctx context.Context, m *Message) Result {
	cmd := h.cfg.program().command(h.env.Lock)
	vars, err := envelopeVars(m)
	if err != nil {
		return failure(err)
	}
	cmd.Env = append(cmd.Env, vars...)
	p, err := startProcess(cmd, func() {})
	switch {
	case errors.Is(err, syscall.E2BIG):
		return Result{Status: Reject, Reason: "the message's headers are more than a process can be started with", Err: err}
	case err != nil:
		return unavailable("start handler program: %w", err)
	}
	out := newOutput(h.log.With("pid", p.pid, "partition", m.Partition, "seq", m.Seq), h.limit)
	release := context.AfterFunc(ctx, func() { p.signal(unix.SIGKILL) })
	defer release()
	p.talk(func() { p.feed(m.Data) }, func() {
		readLines(p.pipes.stdout, maxOutputLine, out.stdoutKept)
	}, func() {
		readLines(p.pipes.stderr, maxOutputLine, out.stderr)
	})
	return h.result(ctx, p, out)
}

// result is what the program's end means.
func (h *Exec) result(ctx context.Context, p *process, out *output) Result {
	state := p.cmd.ProcessState
	if ctx.Err() != nil && !state.Exited() {
		r := ended(ctx)
		r.Reason = out.explain(r.Reason)
		return r
	}
	return exitResult(state, out)
}

// exitCodes are those of sysexits.h, and of shells for what cannot be run, that mean something else than Retry.
var exitCodes = map[int]Status{
	0:   OK,
	65:  Reject,      // EX_DATAERR
	69:  Unavailable, // EX_UNAVAILABLE
	126: Unavailable, // Found by a shell, and not runnable.
	127: Unavailable, // Not found by a shell.
}

func exitResult(state *os.ProcessState, out *output) Result {
	status, known := exitCodes[state.ExitCode()]
	switch {
	case !known:
		status = Retry // Also 75, EX_TEMPFAIL, and death by a signal.
	case status == OK:
		return Result{Status: OK}
	}
	return Result{Status: status, Reason: out.explain(state.String())}
}

// varPrefix begins the names of all variables that are ours.
const varPrefix = "LEASEHOLD_"

// envelopeVars are the variables that carry the envelope.
func envelopeVars(m *Message) ([]string, error) {
	headers, err := encodeLine(headersOrNone(m))
	if err != nil {
		return nil, fmt.Errorf("encode headers: %w", err)
	}
	var vars []string
	add := func(name, value string) {
		vars = append(vars, name+"="+escape(value, func(c byte) bool { return c == 0 }))
	}
	for _, f := range m.fields() {
		add(varName(f.name), f.value)
	}
	add(varPrefix+"HEADERS", strings.TrimSuffix(string(headers), "\n"))
	if m.Traceparent != "" {
		add("TRACEPARENT", m.Traceparent)
	}
	return vars, nil
}

// varName is the environment variable of a field: LEASEHOLD_MAX_ATTEMPTS for Leasehold-Max-Attempts.
func varName(header string) string { return strings.ToUpper(strings.ReplaceAll(header, "-", "_")) }

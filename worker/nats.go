package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
)

// Headers with which a NATS service says that a request has failed, as its micro framework does.
const (
	serviceError     = "Nats-Service-Error"
	serviceErrorCode = "Nats-Service-Error-Code"
)

// NATS sends each message as a request to a NATS service: any client that may serve the group. docs/handlers.md holds
// headers and outcomes.
type NATS struct {
	cfg     HandlerConfig
	conn    *nats.Conn
	subject string
}

// NewNATS builds the handler.
func NewNATS(cfg HandlerConfig, env HandlerEnv) (*NATS, error) {
	cfg, err := cfg.of(KindNATS)
	if err != nil {
		return nil, err
	}
	if env.Conn == nil || env.Subject == "" {
		return nil, errors.New("no connection to the broker, or no subject")
	}
	return &NATS{cfg: cfg, conn: env.Conn, subject: env.Subject}, nil
}

// Handle makes the request. An answer without an error is OK; its content is the service's own affair.
func (h *NATS) Handle(ctx context.Context, m *Message) Result {
	answer, r := h.request(ctx, &nats.Msg{Subject: h.subject, Header: natsHeader(m), Data: m.Data})
	if answer == nil {
		return r
	}
	return h.answerResult(answer)
}

// request returns the answer, or what it means that there is none.
func (h *NATS) request(ctx context.Context, req *nats.Msg) (*nats.Msg, Result) {
	answer, err := h.conn.RequestMsgWithContext(ctx, req)
	switch {
	case err == nil:
		return answer, Result{}
	case ctx.Err() != nil:
		return nil, ended(ctx)
	case errors.Is(err, nats.ErrNoResponders):
		return nil, unavailable("no service answers on %s: %w", h.subject, err)
	case errors.Is(err, nats.ErrMaxPayload):
		return nil, Result{Status: Reject, Reason: "the message is too large for a request, with the envelope in its headers", Err: err}
	}
	return nil, unavailable("request to %s: %w", h.subject, err)
}

// answerResult is what the headers of an answer mean. Error codes are those of HTTP.
func (h *NATS) answerResult(answer *nats.Msg) Result {
	text, code := answer.Header.Get(serviceError), strings.TrimSpace(answer.Header.Get(serviceErrorCode))
	if text == "" && code == "" {
		return Result{Status: OK}
	}
	n, err := strconv.Atoi(code)
	switch {
	case err != nil:
		return Result{Status: Retry, Reason: cut(fmt.Sprintf("service answered with error code %q: %s", cut(code, 64), text), maxReason)}
	case slices.Contains(h.cfg.OKStatus, n):
		return Result{Status: OK}
	}
	return statusResult(n, oneLine(text), answer.Header)
}

// natsHeader is the envelope of a message, and the publisher's headers as they are, but for those of the broker and
// those that look like ours.
func natsHeader(m *Message) nats.Header {
	header := nats.Header{}
	for name, values := range m.Headers {
		if !reservedHeader(name) {
			header[name] = values
		}
	}
	for _, f := range m.fields() {
		header[headerName(f.name)] = []string{f.value}
	}
	return header
}

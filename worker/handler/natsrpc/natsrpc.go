// Package natsrpc is the handler kind "nats": it sends messages as requests to a NATS service.
package natsrpc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"leasehold/worker/handler"
	"leasehold/worker/handler/wire"
	"leasehold/worker/header"

	"github.com/nats-io/nats.go"
)

// Headers with which a NATS service says that a request has failed, as its micro framework does.
const (
	serviceError     = "Nats-Service-Error"
	serviceErrorCode = "Nats-Service-Error-Code"
)

// Handler sends each message as a request to a NATS service: any client that may serve the group. docs/handlers.md
// holds headers and outcomes.
type Handler struct {
	cfg     Config
	conn    *nats.Conn
	subject string
}

// New builds the handler.
func New(cfg Config, env handler.Env) (*Handler, error) {
	cfg, err := handler.Complete(cfg)
	if err != nil {
		return nil, err
	}
	if env.Conn == nil || env.Subject == "" {
		return nil, errors.New("no connection to the broker, or no subject")
	}
	return &Handler{cfg: cfg, conn: env.Conn, subject: env.Subject}, nil
}

// Handle makes the request. A reply without an error is OK, whatever its content.
func (h *Handler) Handle(ctx context.Context, m *handler.Message) handler.Result {
	answer, r := h.request(ctx, &nats.Msg{Subject: h.subject, Header: messageHeader(m), Data: m.Data})
	if answer == nil {
		return r
	}
	code, fault := serviceFault(answer)
	if slices.Contains(h.cfg.OKStatus, code) {
		return handler.Result{Status: handler.OK}
	}
	return fault
}

// BatchSize is the configured batch size.
func (h *Handler) BatchSize(int) int { return h.cfg.Batch }

// batchHeaderRoom is how much of the broker's maximum payload the headers of a batch take at most, in bytes.
const batchHeaderRoom = 4 << 10

// HandleBatch sends as many of the messages as fit into the broker's maximum payload, as lines of JSON.
func (h *Handler) HandleBatch(ctx context.Context, ms []*handler.Message) handler.BatchResult {
	body, n, err := wire.EncodeBatch(ms, int(h.conn.MaxPayload())-batchHeaderRoom)
	if err != nil {
		return handler.BatchResult{Result: handler.NewFailure(err)}
	}
	var r handler.BatchResult
	if n > 1 {
		r = h.requestBatch(ctx, ms[:n], body)
	} else if r.Result = h.Handle(ctx, ms[0]); r.Result.Status == handler.OK {
		r.OK = 1
	} else {
		r.Named = true
	}
	r.Rest = r.OK == n && n < len(ms)
	return r
}

func (h *Handler) requestBatch(ctx context.Context, ms []*handler.Message, body []byte) handler.BatchResult {
	answer, r := h.request(ctx, &nats.Msg{Subject: h.subject, Header: nats.Header(wire.BatchHeader(ms)), Data: body})
	if answer == nil {
		return handler.BatchResult{Result: r}
	}
	// ok_status is about one message, not about all of them.
	if _, fault := serviceFault(answer); fault.Status != handler.OK {
		return handler.BatchResult{Result: fault}
	}
	return wire.ParseBatchReply(answer.Data, ms)
}

// request returns the reply, or nil and the result of a call without one.
func (h *Handler) request(ctx context.Context, req *nats.Msg) (*nats.Msg, handler.Result) {
	answer, err := h.conn.RequestMsgWithContext(ctx, req)
	switch {
	case err == nil:
		return answer, handler.Result{}
	case ctx.Err() != nil:
		return nil, handler.ContextEnded(ctx)
	case errors.Is(err, nats.ErrNoResponders):
		return nil, handler.Result{Status: handler.Unavailable, Reason: "no service answers on " + h.subject, Err: err}
	case errors.Is(err, nats.ErrMaxPayload):
		return nil, handler.Result{Status: handler.Reject,
			Reason: "the message is too large for a request, with the envelope in its headers", Err: err}
	case errors.Is(err, nats.ErrBadHeaderMsg):
		return nil, handler.Result{Status: handler.Reject,
			Reason: "the message has a header whose name a request cannot carry", Err: err}
	}
	return nil, handler.NewUnavailable("request to %s: %w", h.subject, err)
}

// serviceFault converts the error of a reply; the result is OK if the reply has none. Codes are those of HTTP.
func serviceFault(answer *nats.Msg) (code int, r handler.Result) {
	text, coded := answer.Header.Get(serviceError), strings.TrimSpace(answer.Header.Get(serviceErrorCode))
	if text == "" && coded == "" {
		return 0, handler.Result{Status: handler.OK}
	}
	code, err := strconv.Atoi(coded)
	if err != nil {
		reason := fmt.Sprintf("service answered with error code %q: %s", header.Cut(coded, 64), text)
		return 0, handler.Result{Status: handler.Retry, Reason: header.Cut(reason, header.MaxReason)}
	}
	return code, wire.StatusResult(code, header.OneLine(text), answer.Header)
}

// messageHeader returns the envelope of a message, and the publisher's headers except those of the broker and those
// that look like ours.
func messageHeader(m *handler.Message) nats.Header {
	h := nats.Header{}
	for name, values := range m.Headers {
		if !header.Reserved(name) {
			h[name] = values
		}
	}
	for _, f := range m.Envelope() {
		h[f.Name] = []string{f.Value}
	}
	return h
}

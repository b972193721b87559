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
	cfg     NATSConfig
	conn    *nats.Conn
	subject string
}

// NewNATS builds the handler.
func NewNATS(cfg NATSConfig, env HandlerEnv) (*NATS, error) {
	cfg, err := completed(cfg)
	if err != nil {
		return nil, err
	}
	if env.Conn == nil || env.Subject == "" {
		return nil, errors.New("no connection to the broker, or no subject")
	}
	return &NATS{cfg: cfg, conn: env.Conn, subject: env.Subject}, nil
}

// Handle makes the request. An answer without an error is OK, whatever it says.
func (h *NATS) Handle(ctx context.Context, m *Message) Result {
	answer, r := h.request(ctx, &nats.Msg{Subject: h.subject, Header: natsHeader(m), Data: m.Data})
	if answer == nil {
		return r
	}
	code, fault := serviceFault(answer)
	if slices.Contains(h.cfg.OKStatus, code) {
		return Result{Status: OK}
	}
	return fault
}

// BatchSize is what the config says.
func (h *NATS) BatchSize(int) int { return h.cfg.Batch }

// batchHeaderRoom is what the headers of a batch take at most, of what the broker lets through.
const batchHeaderRoom = 4 << 10

// HandleBatch requests as many of the messages, as lines of JSON, as the broker lets through at once.
func (h *NATS) HandleBatch(ctx context.Context, ms []*Message) BatchResult {
	body, n, err := encodeBatch(ms, int(h.conn.MaxPayload())-batchHeaderRoom)
	if err != nil {
		return BatchResult{Result: failure(err)}
	}
	var r BatchResult
	if n > 1 {
		r = h.requestBatch(ctx, ms[:n], body)
	} else if r.Result = h.Handle(ctx, ms[0]); r.Result.Status == OK {
		r.OK = 1
	} else {
		r.Named = true
	}
	r.Rest = r.OK == n && n < len(ms)
	return r
}

func (h *NATS) requestBatch(ctx context.Context, ms []*Message, body []byte) BatchResult {
	answer, r := h.request(ctx, &nats.Msg{Subject: h.subject, Header: nats.Header(batchHeader(ms)), Data: body})
	if answer == nil {
		return BatchResult{Result: r}
	}
	if _, fault := serviceFault(answer); fault.Status != OK { // ok_status is about one message, not about all of them.
		return BatchResult{Result: fault}
	}
	return parseBatchReply(answer.Data, ms)
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
		return nil, Result{Status: Unavailable, Reason: "no service answers on " + h.subject, Err: err}
	case errors.Is(err, nats.ErrMaxPayload):
		return nil, Result{Status: Reject, Reason: "the message is too large for a request, with the envelope in its headers", Err: err}
	case errors.Is(err, nats.ErrBadHeaderMsg):
		return nil, Result{Status: Reject, Reason: "the message has a header whose name a request cannot carry", Err: err}
	}
	return nil, unavailable("request to %s: %w", h.subject, err)
}

// serviceFault is what the error means that an answer carries, and its code; OK if it carries none. Codes are those of
// HTTP.
func serviceFault(answer *nats.Msg) (code int, r Result) {
	text, coded := answer.Header.Get(serviceError), strings.TrimSpace(answer.Header.Get(serviceErrorCode))
	if text == "" && coded == "" {
		return 0, Result{Status: OK}
	}
	code, err := strconv.Atoi(coded)
	if err != nil {
		return 0, Result{Status: Retry, Reason: cut(fmt.Sprintf("service answered with error code %q: %s", cut(coded, 64), text), maxReason)}
	}
	return code, statusResult(code, oneLine(text), answer.Header)
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
		header[f.name] = []string{f.value}
	}
	return header
}

// Package webhook is the handler kind "http": it posts messages to a URL.
package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"leasehold/worker/handler"
	"leasehold/worker/handler/wire"
	"leasehold/worker/header"
)

const (
	// connectTime is how long a connection may take. It is shorter than most timeouts, so that a host that is gone soon
	// shows as unavailable.
	connectTime = 10 * time.Second
	// keptConnections is how many idle connections are kept: one for every partition that a node can hold.
	keptConnections = 1024
	// usualHeaders is room for the headers of a request with an envelope and some of the publisher's.
	usualHeaders = 32
)

// Handler posts each message to a URL, and reads the answer's status: a webhook. docs/handlers.md holds headers and
// outcomes.
type Handler struct {
	cfg       Config
	app       string
	files     files
	transport *http.Transport
}

// New builds the handler and reads the files that it needs.
func New(cfg Config, env handler.Env) (*Handler, error) {
	cfg, err := handler.Complete(cfg)
	if err != nil {
		return nil, err
	}
	files, err := readFiles(cfg)
	if err != nil {
		return nil, err
	}
	return &Handler{cfg: cfg, app: env.App, files: files, transport: &http.Transport{
		DialContext:         dialAnswer,
		TLSClientConfig:     files.tls,
		TLSHandshakeTimeout: connectTime,
		MaxIdleConnsPerHost: keptConnections,
		IdleConnTimeout:     90 * time.Second,
		// With HTTP/2 the calls of all partitions would share a connection, and the transport repeats some by itself.
		Protocols: http1(),
	}}, nil
}

func http1() *http.Protocols {
	p := &http.Protocols{}
	p.SetHTTP1(true)
	return p
}

// Run closes the connections at the end of ctx.
func (h *Handler) Run(ctx context.Context) error {
	<-ctx.Done()
	h.transport.CloseIdleConnections()
	return nil
}

// Handle posts the message. The status alone decides; the body only says why.
func (h *Handler) Handle(ctx context.Context, m *handler.Message) handler.Result {
	headers := h.messageHeader(m)
	h.files.signer.sign(headers, m.ID, time.Now(), m.Data)
	answer, none := h.post(ctx, headers, m.Data)
	switch {
	case answer == nil:
		return none
	case slices.Contains(h.cfg.OKStatus, answer.code):
		return handler.Result{Status: handler.OK}
	}
	return answer.result()
}

// BatchSize is the configured batch size.
func (h *Handler) BatchSize(int) int { return h.cfg.Batch }

// HandleBatch posts the messages as lines of JSON.
func (h *Handler) HandleBatch(ctx context.Context, ms []*handler.Message) handler.BatchResult {
	body, _, err := wire.EncodeBatch(ms, math.MaxInt)
	if err != nil {
		return handler.BatchResult{Result: handler.NewFailure(err)}
	}
	headers := h.commonHeaders()
	maps.Copy(headers, wire.BatchHeader(ms))
	setIdempotencyKey(headers, wire.BatchID(ms))
	h.files.signer.sign(headers, wire.BatchID(ms), time.Now(), body)
	answer, none := h.post(ctx, headers, body)
	switch {
	case answer == nil:
		return handler.BatchResult{Result: none}
	// ok_status, too, is about a message, and says nothing about all of them.
	case wire.StatusOf(answer.code) != handler.OK:
		return handler.BatchResult{Result: answer.result()}
	case answer.err != nil: // Nothing would mean that all is done.
		return handler.BatchResult{Result: noResponse(ctx, answer.err, true)}
	}
	return wire.ParseBatchReply(answer.body, ms)
}

// response is a response, with as much of its body as is of use.
type response struct {
	code   int
	header http.Header
	body   []byte // At most wire.MaxReply bytes, and one more if there were more.
	err    error  // Why that is not all of it.
}

// result converts the response to one message.
func (a *response) result() handler.Result {
	text := header.OneLine(string(a.body))
	if to := a.header.Get("Location"); a.code/100 == 3 && to != "" {
		text = "redirects are not followed, set handler.url to where it leads: " + header.Cut(to, header.MaxReason/2)
	}
	if a.code == http.StatusBadRequest && wantsTLS(text) {
		return handler.NewUnavailable("handler.url begins with http://, and what listens there wants https://: %s", text)
	}
	return wire.StatusResult(a.code, text, a.header)
}

// wantsTLS recognises the response of a TLS listener to plain HTTP, as Go's server, nginx and Apache give it. Its 400
// is about the address, not the message.
func wantsTLS(text string) bool {
	for _, said := range []string{"HTTP request to an HTTPS server", "plain HTTP request was sent to HTTPS port",
		"speaking plain HTTP to an SSL-enabled server port"} {
		if strings.Contains(text, said) {
			return true
		}
	}
	return false
}

// post makes a request and returns the response, or nil and the result of a call without one. It uses the transport
// itself, which follows no redirects.
func (h *Handler) post(ctx context.Context, headers http.Header, body []byte) (*response, handler.Result) {
	var connected atomic.Bool
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) {
		connected.Store(true)
		beginRequest(got.Conn)
	}})
	req, err := http.NewRequestWithContext(traced, http.MethodPost, h.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return nil, handler.NewUnavailable("handler.url: %w", err)
	}
	req.Header = headers
	resp, err := h.transport.RoundTrip(req)
	if err != nil {
		return nil, noResponse(ctx, err, connected.Load())
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, wire.MaxReply+1)) // To the end, which keeps the connection.
	return &response{code: resp.StatusCode, header: resp.Header, body: text, err: err}, handler.Result{}
}

// noResponse is the result of a request without a response. Before there is a connection, the message cannot be the
// cause; once there is one, it may be, and the service may be working on it.
func noResponse(ctx context.Context, err error, connected bool) handler.Result {
	switch {
	case ctx.Err() != nil && connected:
		return handler.ContextEnded(ctx)
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return handler.NewUnavailable("no connection within the call's time")
	case ctx.Err() != nil:
		return handler.ContextEnded(ctx)
	case !connected:
		return handler.NewUnavailable("no connection: %w", err)
	case brokeOff(err):
		return handler.NewFailure(fmt.Errorf("connection broke off before the end of the answer: %w", err))
	}
	return handler.NewUnavailable("%w", err)
}

// brokeOff reports whether an error is that of a connection which the other side closed. Other errors after the
// connection was made come from something that does not speak HTTP: the address is wrong.
func brokeOff(err error) bool {
	for _, e := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// commonHeaders returns the headers that all requests have in common.
func (h *Handler) commonHeaders() http.Header {
	headers := make(http.Header, usualHeaders)
	headers.Set("User-Agent", h.app)
	for name, value := range h.cfg.Headers {
		headers.Set(name, value)
	}
	if h.files.bearer != "" {
		headers.Set("Authorization", "Bearer "+h.files.bearer)
	}
	return headers
}

// setIdempotencyKey spells the header in lower case, which means the same to the receiver. In its usual spelling it
// would allow the transport to repeat the request by itself when the connection breaks: a call without a fence check.
func setIdempotencyKey(headers http.Header, key string) {
	headers["idempotency-key"] = []string{header.Escape(key, header.IsControl)}
}

// messageHeader returns the envelope of a message: as a CloudEvent in binary mode, once more under our own names, and
// the publisher's headers.
func (h *Handler) messageHeader(m *handler.Message) http.Header {
	headers := h.commonHeaders()
	for _, f := range m.Envelope() {
		headers[f.Name] = []string{header.Escape(f.Value, header.IsControl)}
	}
	setIdempotencyKey(headers, m.IdempotencyKey)
	if headers.Get("Content-Type") == "" {
		headers.Set("Content-Type", "application/octet-stream")
	}
	passed := passedHeaders(m.Headers)
	if !isStructured(passed) { // Else the payload is a whole CloudEvent with attributes of its own.
		setEventHeader(headers, m)
	}
	maps.Copy(headers, passed)
	return headers
}

// passedHeaders returns the publisher's headers as they are passed on: under their own names if they mean the same to a
// receiver as to us, the others with otherHeader before their names. Of a header that a request may have only once, the
// first value keeps the name: receivers would disagree on which of two counts. Attributes of a CloudEvent keep their
// names only if the event is complete: otherwise they would change ours.
func passedHeaders(headers map[string][]string) http.Header {
	passed, event := make(http.Header, len(headers)), isBinaryEvent(headers)
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		for _, value := range headers[name] {
			to := http.CanonicalHeaderKey(header.Escape(name, header.IsNotToken))
			lower := strings.ToLower(name)
			switch isAttribute := strings.HasPrefix(lower, "ce-"); {
			case lower == "tracestate":
			case (lower == "content-type" || lower == "traceparent" || isAttribute && event) && len(passed[to]) == 0:
			default:
				to = http.CanonicalHeaderKey(otherHeader + header.Escape(name, header.IsNotToken))
			}
			passed[to] = append(passed[to], header.Escape(value, header.IsControl))
		}
	}
	return passed
}

// otherHeader begins the names of the publisher's headers that are not passed on under their own.
const otherHeader = header.Prefix + "Header-"

// isBinaryEvent reports whether headers are those of a CloudEvent in binary mode: all attributes that it must have
// are there.
func isBinaryEvent(headers map[string][]string) bool {
	found := 0
	for _, attribute := range []string{"ce-specversion", "ce-id", "ce-source", "ce-type"} {
		for name, values := range headers {
			if strings.EqualFold(name, attribute) && len(values) > 0 && values[0] != "" {
				found++
				break
			}
		}
	}
	return found == 4
}

// isStructured reports whether the payload is a CloudEvent as a whole.
func isStructured(passed http.Header) bool {
	return strings.HasPrefix(strings.ToLower(passed.Get("Content-Type")), "application/cloudevents")
}

// setEventHeader sets the attributes of a CloudEvent. Those of a publisher's event replace them.
func setEventHeader(headers http.Header, m *handler.Message) {
	for _, f := range []handler.Field{
		{Name: "Ce-Specversion", Value: "1.0"},
		{Name: "Ce-Id", Value: m.ID},
		{Name: "Ce-Source", Value: "/leasehold/topics/" + m.Topic},
		{Name: "Ce-Type", Value: "leasehold.message"},
		{Name: "Ce-Time", Value: header.TimeText(m.Published)},
		{Name: "Ce-Partitionkey", Value: m.Key},
		{Name: "Ce-Sequence", Value: fmt.Sprintf("%020d", m.Seq)}, // Padded: sequences are compared as text.
	} {
		headers[f.Name] = []string{header.Escape(f.Value, header.IsNotAttribute)}
	}
}

package worker

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
)

const (
	// connectTime is how long a connection may take. It ends before most timeouts, and then a host that is gone shows as
	// unavailable soon.
	connectTime = 10 * time.Second
	// keptConnections is how many idle connections are kept: one for every partition that a node can hold.
	keptConnections = 1024
	// usualHeaders is room for the headers of a request with an envelope and some of the publisher's.
	usualHeaders = 32
)

// HTTP posts each message to a URL, and reads the answer's status: a webhook. docs/handlers.md holds headers and
// outcomes.
type HTTP struct {
	cfg       HTTPConfig
	app       string
	files     httpFiles
	transport *http.Transport
}

// NewHTTP builds the handler and reads the files that it needs.
func NewHTTP(cfg HTTPConfig, env HandlerEnv) (*HTTP, error) {
	cfg, err := completed(cfg)
	if err != nil {
		return nil, err
	}
	files, err := readHTTPFiles(cfg)
	if err != nil {
		return nil, err
	}
	return &HTTP{cfg: cfg, app: env.App, files: files, transport: &http.Transport{
		DialContext:         dialAnswer,
		TLSClientConfig:     files.tls,
		TLSHandshakeTimeout: connectTime,
		MaxIdleConnsPerHost: keptConnections,
		IdleConnTimeout:     90 * time.Second,
		// HTTP/2 would have calls of all partitions share a connection, and sends some of them again by itself.
		Protocols: http1(),
	}}, nil
}

func http1() *http.Protocols {
	p := &http.Protocols{}
	p.SetHTTP1(true)
	return p
}

// Run closes the connections at the end of ctx.
func (h *HTTP) Run(ctx context.Context) error {
	<-ctx.Done()
	h.transport.CloseIdleConnections()
	return nil
}

// Handle posts the message. The status decides, as soon as it is there; the body only says why.
func (h *HTTP) Handle(ctx context.Context, m *Message) Result {
	header := h.messageHeader(m)
	h.files.signer.sign(header, m.ID, time.Now(), m.Data)
	answer, none := h.post(ctx, header, m.Data)
	switch {
	case answer == nil:
		return none
	case slices.Contains(h.cfg.OKStatus, answer.code):
		return Result{Status: OK}
	}
	return answer.result()
}

// BatchSize is what the config says.
func (h *HTTP) BatchSize(int) int { return h.cfg.Batch }

// HandleBatch posts the messages as lines of JSON.
func (h *HTTP) HandleBatch(ctx context.Context, ms []*Message) BatchResult {
	body, _, err := encodeBatch(ms, math.MaxInt)
	if err != nil {
		return BatchResult{Result: failure(err)}
	}
	header := h.header()
	maps.Copy(header, batchHeader(ms))
	setIdempotencyKey(header, batchID(ms))
	h.files.signer.sign(header, batchID(ms), time.Now(), body)
	answer, none := h.post(ctx, header, body)
	switch {
	case answer == nil:
		return BatchResult{Result: none}
	case statusMeaning(answer.code) != OK: // ok_status, too, is about a message, and says nothing about all of them.
		return BatchResult{Result: answer.result()}
	case answer.err != nil: // Nothing would mean that all is done.
		return BatchResult{Result: notAnswered(ctx, answer.err, true)}
	}
	return parseBatchReply(answer.body, ms)
}

// httpAnswer is what came back.
type httpAnswer struct {
	code   int
	header http.Header
	body   []byte // At most maxReply bytes, and one more if there were more.
	err    error  // Why that is not all of it.
}

// result is what the answer means for a message.
func (a *httpAnswer) result() Result {
	text := oneLine(string(a.body))
	if to := a.header.Get("Location"); a.code/100 == 3 && to != "" {
		text = "redirects are not followed, set handler.url to where it leads: " + cut(to, maxReason/2)
	}
	if a.code == http.StatusBadRequest && wantsTLS(text) {
		return unavailable("handler.url begins with http://, and what listens there wants https://: %s", text)
	}
	return statusResult(a.code, text, a.header)
}

// wantsTLS recognises the answer of a TLS listener that was spoken to in plain text, as Go's server, nginx and Apache give
// it. Its 400 is about the address and not about the message.
func wantsTLS(text string) bool {
	for _, said := range []string{"HTTP request to an HTTPS server", "plain HTTP request was sent to HTTPS port", "speaking plain HTTP to an SSL-enabled server port"} {
		if strings.Contains(text, said) {
			return true
		}
	}
	return false
}

// post makes a request and returns the answer, or nil and what it means that there is none. It uses the transport
// itself, which follows no redirects.
func (h *HTTP) post(ctx context.Context, header http.Header, body []byte) (*httpAnswer, Result) {
	var connected atomic.Bool
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) {
		connected.Store(true)
		beginRequest(got.Conn)
	}})
	req, err := http.NewRequestWithContext(traced, http.MethodPost, h.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return nil, unavailable("handler.url: %w", err)
	}
	req.Header = header
	resp, err := h.transport.RoundTrip(req)
	if err != nil {
		return nil, notAnswered(ctx, err, connected.Load())
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1)) // To the end, which keeps the connection.
	return &httpAnswer{code: resp.StatusCode, header: resp.Header, body: text, err: err}, Result{}
}

// notAnswered is the result of a request without an answer. Before there is a connection, the message cannot be the
// cause; once there is one, it may be, and somebody may be working on it.
func notAnswered(ctx context.Context, err error, connected bool) Result {
	switch {
	case ctx.Err() != nil && connected:
		return ended(ctx)
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return unavailable("no connection within the call's time")
	case ctx.Err() != nil:
		return ended(ctx)
	case !connected:
		return unavailable("no connection: %w", err)
	case brokeOff(err):
		return failure(fmt.Errorf("connection broke off before the end of the answer: %w", err))
	}
	return unavailable("%w", err)
}

// brokeOff holds for errors of a connection that the other side closed. Other errors after the connection was made come
// from something that does not speak HTTP: the address is wrong.
func brokeOff(err error) bool {
	for _, e := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// header is what all requests have in common.
func (h *HTTP) header() http.Header {
	header := make(http.Header, usualHeaders)
	header.Set("User-Agent", h.app)
	for name, value := range h.cfg.Headers {
		header.Set(name, value)
	}
	if h.files.bearer != "" {
		header.Set("Authorization", "Bearer "+h.files.bearer)
	}
	return header
}

// setIdempotencyKey spells the header in lower case, which means the same to the receiver. The transport would take it,
// in its usual spelling, for a leave to send the request again by itself when the connection breaks off: a call for
// which nobody has looked at the fence.
func setIdempotencyKey(header http.Header, key string) {
	header["idempotency-key"] = []string{escape(key, isControl)}
}

// messageHeader is the envelope of a message: a CloudEvent in binary mode, everything once more under our own names, and
// the publisher's headers.
func (h *HTTP) messageHeader(m *Message) http.Header {
	header := h.header()
	for _, f := range m.fields() {
		header[f.name] = []string{escape(f.value, isControl)}
	}
	setIdempotencyKey(header, m.IdempotencyKey)
	if header.Get("Content-Type") == "" {
		header.Set("Content-Type", "application/octet-stream")
	}
	passed := passedHeaders(m.Headers)
	if !isStructured(passed) { // Else the payload is a whole CloudEvent with attributes of its own.
		setEventHeader(header, m)
	}
	maps.Copy(header, passed)
	return header
}

// passedHeaders are the publisher's headers as they are passed on: those that mean to a receiver what they mean to us under their
// names, others behind otherHeader. Of what may stand in a request once, the first keeps its name; receivers would disagree on which
// of two counts. Attributes of a CloudEvent keep theirs only if all that an event needs are there: else they would change ours.
func passedHeaders(headers map[string][]string) http.Header {
	passed, event := make(http.Header, len(headers)), isBinaryEvent(headers)
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		for _, value := range headers[name] {
			to := http.CanonicalHeaderKey(escape(name, isNoToken))
			lower := strings.ToLower(name)
			switch isAttribute := strings.HasPrefix(lower, "ce-"); {
			case lower == "tracestate":
			case (lower == "content-type" || lower == "traceparent" || isAttribute && event) && len(passed[to]) == 0:
			default:
				to = http.CanonicalHeaderKey(otherHeader + escape(name, isNoToken))
			}
			passed[to] = append(passed[to], escape(value, isControl))
		}
	}
	return passed
}

// otherHeader begins the names of the publisher's headers that are not passed on under their own.
const otherHeader = headerPrefix + "Header-"

// isBinaryEvent reports whether headers are those of a CloudEvent in binary mode: all attributes that it must have are there.
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
func setEventHeader(header http.Header, m *Message) {
	for _, f := range []field{
		{"Ce-Specversion", "1.0"},
		{"Ce-Id", m.ID},
		{"Ce-Source", "/leasehold/topics/" + m.Topic},
		{"Ce-Type", "leasehold.message"},
		{"Ce-Time", TimeText(m.Published)},
		{"Ce-Partitionkey", m.Key},
		{"Ce-Sequence", fmt.Sprintf("%020d", m.Seq)}, // Padded: sequences are compared as text.
	} {
		header[f.name] = []string{escape(f.value, isNoAttribute)}
	}
}

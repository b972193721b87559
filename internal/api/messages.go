package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/sync/semaphore"

	"leasehold/internal/admission"
	"leasehold/internal/api/guard"
	"leasehold/internal/api/listen"
	"leasehold/internal/api/reply"
)

// Messages takes messages for the topics of a node, and shows those that are stored. Its errors wrap ErrNotFound,
// ErrBadRequest, ErrTooLarge, ErrFull, ErrBusy or ErrNotYet where one of them fits.
type Messages interface {
	// Publish stores messages, those of a key in their order, and gives each a receipt. After one that is not stored no
	// later one of its key is. An error means that nothing was published; it is a *MessageError if one message is to
	// blame.
	Publish(ctx context.Context, topic string, messages []NewMessage) ([]Receipt, error)
	// Tap shows stored messages. The reader must be closed.
	Tap(ctx context.Context, topic string, o TapOptions) (MessageReader, error)
	// Message shows one.
	Message(ctx context.Context, topic string, seq uint64) (*Message, error)
	// Key finds the key that a name means.
	Key(ctx context.Context, topic, name string) (*KeyInfo, error)
	// Count counts them.
	Count(ctx context.Context, topic string, o CountOptions) (uint64, error)
}

// Why messages are not taken.
var (
	ErrTooLarge = errors.New("too large") // They never will be.
	// It takes nothing now: it is at its max_bytes, or a node is short of disk space.
	ErrFull = errors.New("topic is full")
	ErrBusy = errors.New("too much at one time") // Soon.
)

// NewMessage is one message to publish.
type NewMessage struct {
	Line    int    // Of the body, or number of the event in it; 0 for a body that is the message.
	Key     string // Raw.
	Subject string // Instead of Key: the full subject.
	ID      string // For de-duplication; empty: none.
	Header  map[string][]string
	Data    []byte
}

// MessageError is about one of the messages given.
type MessageError struct {
	Index int
	Err   error
}

func (e *MessageError) Error() string { return e.Err.Error() }

func (e *MessageError) Unwrap() error { return e.Err }

// Outcomes of publishing a message.
const (
	OutcomeStored    = "stored"
	OutcomeDuplicate = "duplicate" // One with its id was stored before.
	OutcomeRefused   = "refused"   // Not stored, and will not be.
	OutcomeUnknown   = "unknown"   // It may be stored, now or later.
	OutcomeUnsent    = "unsent"    // Not stored and not tried: it was not its turn.
)

// Published is the answer of POST /v1/topics/{topic}/messages.
type Published struct {
	V        int       `json:"v"`
	Topic    string    `json:"topic"`
	Messages []Receipt `json:"messages"`           // In the order of the body.
	Error    string    `json:"error,omitempty"`    // How many are not stored, and why the first of them is not.
	ErrCode  uint16    `json:"err_code,omitempty"` // Why nothing was published; docs/errors.md.
}

// Receipt is what became of one message.
type Receipt struct {
	Line      int    `json:"line,omitempty"` // As NewMessage.Line.
	Outcome   string `json:"outcome"`
	Partition int    `json:"partition"`
	Seq       uint64 `json:"seq"`       // Of the stored message; 0 if there is none.
	Duplicate bool   `json:"duplicate"` // Seq is of a message that was stored before.
	Key       string `json:"key"`       // As it stands in the subject.
	Error     string `json:"error,omitempty"`

	Err error `json:"-"` // Why it is not stored; nil if it is.
}

// Limits of one request to publish.
const (
	maxBatchBytes = 16 << 20
	maxBatch      = 10_000
)

// messageRoutes are the routes of messages. They are users' data, and publishing is a change: none of them is open on a
// port without a token.
func (h *handler) messageRoutes(opt Options, closing <-chan struct{}) map[string]http.Handler {
	m, private := opt.Messages, guard.Private(opt.Token)
	if m == nil {
		return nil
	}
	t := &tapping{handler: h, messages: m, open: semaphore.NewWeighted(maxTaps), closing: closing}
	p := &publishing{handler: h, messages: m, bodies: newIntake(opt.limits.bodies), limits: opt.limits}
	return map[string]http.Handler{
		"POST /v1/topics/{topic}/messages":      private(p.answer),
		"GET /v1/topics/{topic}/messages/{seq}": private(answer(h, t.message)),
		"GET /v1/topics/{topic}/tap":            private(t.answer),
		"GET /v1/topics/{topic}/count":          private(answer(h, t.count)),
		"GET /v1/topics/{topic}/key":            private(answer(h, t.key)),
	}
}

// publishing answers requests to publish.
type publishing struct {
	*handler
	messages Messages
	bodies   *intake
	limits   limits
}

func (p *publishing) answer(w http.ResponseWriter, r *http.Request) {
	info, ok := p.source.Topic(r.PathValue("topic"))
	if !ok {
		p.noTopic(w, r)
		return
	}
	form, err := readForm(r, info, min(maxBatchBytes, p.limits.bodies/batchPart))
	if err != nil {
		p.failWith(w, err)
		return
	}
	from, _ := listen.OriginOf(r.Context())
	share, err := p.bodies.open(from.Client)
	if err != nil {
		p.failWith(w, err)
		return
	}
	defer share.close()
	messages, err := p.read(w, r, form, share)
	if err != nil {
		w.Header().Set("Connection", "close") // What is left of the body is not wanted.
		p.failWith(w, err)
		return
	}
	receipts, err := p.messages.Publish(r.Context(), info.Name, messages)
	if err != nil {
		p.failWith(w, form.blame(messages, err))
		return
	}
	p.report(w, info.Name, messages, receipts)
}

// read reads the body within the limits.
func (p *publishing) read(w http.ResponseWriter, r *http.Request, f *form, s *share) ([]NewMessage, error) {
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Now().Add(publishLimit)) // A server that cannot has no limit of its own.
	body := &pacedBody{body: http.MaxBytesReader(w, r.Body, f.limit), share: s, control: control, step: p.limits.pace,
		end: time.Now().Add(p.limits.body)}
	body.extend()
	messages, err := f.read(body)
	if err == nil {
		_ = control.SetReadDeadline(time.Time{}) // It would end the request while it is being published.
	}
	return messages, err
}

// report answers with the receipts and the worst code among them.
func (p *publishing) report(w http.ResponseWriter, topic string, messages []NewMessage, receipts []Receipt) {
	body := Published{V: Version, Topic: topic, Messages: receipts}
	code, bad := http.StatusOK, 0
	for i := range receipts {
		receipt := &receipts[i]
		receipt.Line = messages[i].Line
		if receipt.Err == nil {
			continue
		}
		receipt.Error = plain(receipt.Err)
		code = worse(code, codeOf(receipt.Err))
		if bad++; bad == 1 {
			body.Error = receipt.Error
		}
	}
	if bad > 0 && len(receipts) > 1 {
		body.Error = fmt.Sprintf("%d of %d messages are not stored for sure; the first of them: %s", bad, len(receipts),
			body.Error)
	}
	reply.RetryLater(w, code)
	p.write(w, code, body)
}

// severity orders the codes that messages of one request can get, the worst last: what may be stored and may not be
// needs the most care, and what must be sent again as it is comes before what must be changed.
var severity = map[int]int{
	http.StatusOK:                    0,
	http.StatusBadRequest:            1,
	http.StatusRequestEntityTooLarge: 2,
	http.StatusTooManyRequests:       3,
	http.StatusInsufficientStorage:   4,
	http.StatusServiceUnavailable:    5,
}

func worse(a, b int) int {
	rank, known := severity[b]
	if !known || rank > severity[a] {
		return b
	}
	return a
}

// failWith answers with an error's own code.
func (h *handler) failWith(w http.ResponseWriter, err error) {
	code := codeOf(err)
	reply.RetryLater(w, code)
	body := reply.Failure{Error: plain(err), NoQuorum: errors.Is(err, ErrNoQuorum)}
	var r *admission.Refusal
	if errors.As(err, &r) {
		body.ErrCode = r.ErrCode
	}
	h.write(w, code, body)
}

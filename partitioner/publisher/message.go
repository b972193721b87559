package publisher

import (
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"

	"leasehold/internal/admission"
	"leasehold/partitioner"
)

// Message is one message to publish. Headers and Data belong to the publisher until its result is there.
type Message struct {
	Key     string      // raw key, encoded by the publisher; for topics whose subject has one wildcard
	Subject string      // instead of Key: the full subject
	ID      string      // message id for de-duplication within dedup_window, over all keys; generated if empty
	Headers nats.Header // kept as they are; package admission says what they may be
	Data    []byte      // with the headers at most max_payload
}

// Outcome is how publishing a message ended.
type Outcome int

const (
	// Stored means stored, by this call, at Result.Sequence.
	Stored Outcome = iota + 1
	// Duplicate means that a message with this id was there already, at Result.Sequence. It may be this very one:
	// a retry cannot tell when the caller chose the id. With a generated id that case is reported as Stored.
	Duplicate
	// Refused means that it is not stored and will not be. Result.Err says why.
	Refused
	// Unknown means that it may be stored, now or later. Later messages of its key are blocked until Publisher.Resolve.
	Unknown
)

// String is the outcome in lower case.
func (o Outcome) String() string {
	switch o {
	case Stored:
		return "stored"
	case Duplicate:
		return "duplicate"
	case Refused:
		return "refused"
	case Unknown:
		return "unknown"
	}
	return fmt.Sprintf("outcome %d", int(o))
}

// Result is how publishing one message ended.
type Result struct {
	Outcome   Outcome
	Sequence  uint64 // in the topic's stream, if stored or duplicate
	Partition int
	Key       string // as in Place; what Resolve takes
	ID        string
	Err       error // why it is refused or unknown
}

// Why a message is refused, or Publish does not take it. Result.Err wraps one of these, or ErrNoKey, ErrKeyTooLong,
// ErrSubject, or what the broker said; beside them, an *admission.Refusal for what no broker was asked about.
var (
	// ErrTopicFull: the topic is at its max_bytes. Nothing is lost; publish again later.
	ErrTopicFull = errors.New("topic is full (max_bytes): its groups must catch up, or max_bytes be raised")
	// ErrPublishingPaused: publishing is paused (see stream.PausePublishing). Nothing is lost; publish again later.
	ErrPublishingPaused = errors.New("topic takes no messages because a node is short of disk space: `leasehold status` " +
		"says which")
	// ErrTooLarge: headers and data exceed max_payload.
	ErrTooLarge = errors.New("message with its headers is larger than max_payload")
	// ErrHeader: headers or a message id that are not allowed.
	ErrHeader = errors.New("header is not allowed")
	// ErrNotPermitted: the user may not publish to this subject, or not receive answers.
	ErrNotPermitted = errors.New("not permitted")
	// ErrNoTopic: nothing stores this subject: no such topic, or its stream has no leader.
	ErrNoTopic = errors.New("no leader takes messages of this subject: the topic has no quorum, or does not exist")
	// ErrResources: the broker is out of storage or memory.
	ErrResources = errors.New("broker is out of resources")
	// ErrNotConnected: there is no connection to the broker.
	ErrNotConnected = errors.New("not connected to the broker")
	// ErrNoAnswer: the message was sent, and no answer came in time.
	ErrNoAnswer = errors.New("no answer from the broker")
	// ErrClosed: the publisher was closed.
	ErrClosed = errors.New("publisher is closed")
	// ErrKeyBlocked: messages wait for Resolve, because an earlier one of their key ended as Unknown.
	ErrKeyBlocked = errors.New("key is blocked after an unknown result")
)

// Check returns where the message would be stored, without sending anything, or why it cannot be published at all.
func (m *Message) Check(t partitioner.Topic) (partitioner.Place, error) {
	prepared, err := m.Prepare(t)
	if err != nil {
		return partitioner.Place{}, err
	}
	return prepared.place, nil
}

// Prepared is a message that may be published: its place is known and its headers are allowed. Publish it once.
type Prepared struct {
	place  partitioner.Place
	header nats.Header
	id     string
	data   []byte
	size   int64 // see Message.size
}

// Place is where the message belongs.
func (m *Prepared) Place() partitioner.Place { return m.place }

// Prepare computes the message's place and headers, or returns why it cannot be published at all. The error wraps
// ErrHeader, partitioner.ErrNoKey, partitioner.ErrKeyTooLong or partitioner.ErrSubject.
func (m *Message) Prepare(t partitioner.Topic) (*Prepared, error) {
	header, id, err := m.header()
	if err != nil {
		return nil, err
	}
	place, err := m.place(t)
	if err != nil {
		return nil, err
	}
	return &Prepared{place: place, header: header, id: id, data: m.Data, size: m.size()}, nil
}

// WireSize is what counts towards max_payload: data and headers as they are sent, with a message id of ours if there is
// none.
func (m *Message) WireSize() int64 { return int64(m.headerSize(m.givenID()) + len(m.Data)) }

// headerSize is how many bytes the headers take with this id, or one of ours if it is empty.
func (m *Message) headerSize(id string) int {
	idLength := len(id)
	if idLength == 0 {
		idLength = generatedID
	}
	n := len("NATS/1.0\r\n") + len(nats.MsgIdHdr) + len(": ") + idLength + len("\r\n\r\n")
	for name, values := range m.Headers {
		if strings.EqualFold(name, nats.MsgIdHdr) {
			continue
		}
		for _, value := range values {
			n += len(name) + len(": ") + len(value) + len("\r\n")
		}
	}
	return n
}

// givenID is the message's id as its caller gave it, in a field or a header.
func (m *Message) givenID() string {
	if m.ID != "" {
		return m.ID
	}
	for name, values := range m.Headers {
		if len(values) > 0 && strings.EqualFold(name, nats.MsgIdHdr) {
			return values[0]
		}
	}
	return ""
}

// generatedID is the length of the ids that a publisher makes.
const generatedID = 22

// place finds where the message belongs.
func (m *Message) place(t partitioner.Topic) (partitioner.Place, error) {
	subject := m.Subject
	if subject == "" {
		token, err := partitioner.EncodeKey(m.Key)
		if err != nil {
			return partitioner.Place{}, err
		}
		if subject, err = t.PublishSubject(token); err != nil {
			return partitioner.Place{}, err
		}
	} else if m.Key != "" {
		return partitioner.Place{}, admission.SubjectInvalid.Refuse("%s: give a key or a subject, not both",
			partitioner.ErrSubject).Wrapping(partitioner.ErrSubject)
	}
	return t.Placement(subject)
}

// header is the message's header to send, and the id in it. The caller's map is never changed.
func (m *Message) header() (header nats.Header, id string, err error) {
	id = m.givenID()
	if err := m.checkHeader(id); err != nil {
		return nil, id, err
	}
	header = make(nats.Header, len(m.Headers)+1)
	for name, values := range m.Headers {
		switch {
		case strings.EqualFold(name, nats.MsgIdHdr):
		case strings.EqualFold(name, nats.ExpectedStreamHdr): // The broker knows this spelling only.
			header[nats.ExpectedStreamHdr] = values
		default:
			header[name] = values
		}
	}
	return header, id, nil
}

func (m *Message) checkHeader(id string) error {
	if r := admission.Headers(m.Headers); r != nil {
		return badHeader(r)
	}
	for name, values := range m.Headers {
		if len(values) > 0 && values[0] != id && strings.EqualFold(name, nats.MsgIdHdr) {
			return badHeader(admission.HeaderNotAllowed.Refuse("message id %s differs from that of header %s, %s",
				admission.Quote(id), name, admission.Quote(values[0])))
		}
	}
	if r := admission.MessageID(id); r != nil {
		return badHeader(r)
	}
	return badHeader(admission.HeadersSize(m.headerSize(id)))
}

// badHeader is about a message's headers or id; nil stays nil.
func badHeader(r *admission.Refusal) error {
	if r == nil {
		return nil
	}
	return r.Wrapping(ErrHeader)
}

// size is about what the message takes in memory and on the wire, in bytes.
func (m *Message) size() int64 {
	n := len(m.Data) + len(m.Subject) + len(m.Key)
	for name, values := range m.Headers {
		for _, value := range values {
			n += len(name) + len(value)
		}
	}
	return int64(n)
}

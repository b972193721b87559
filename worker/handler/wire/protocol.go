// Package wire encodes what handlers outside this process are sent, and decodes their replies: the JSON lines of a
// child process, batches as lines of JSON, and the meaning of HTTP statuses.
package wire

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"leasehold/internal/jsondata"
	"leasehold/worker/handler"
	"leasehold/worker/header"
)

// protocolVersion is the "v" of the init line: docs/handlers.md says what may change under the same number.
const protocolVersion = 1

// maxAfter bounds after_ms: beyond a day an operator should look.
const maxAfter = 24 * time.Hour

// InitLine is the first line a child gets.
type InitLine struct {
	V        int            `json:"v"`
	Type     string         `json:"type"` // "init"
	ID       string         `json:"id"`
	Token    string         `json:"token"` // A child whose ack has it repeats it in every result. See child.token.
	App      string         `json:"app"`
	Node     string         `json:"node"`
	Group    string         `json:"group"`
	Topic    string         `json:"topic"`
	MaxBatch int            `json:"max_batch"` // Maximum batch size, for a child that wants batches.
	Config   map[string]any `json:"config"`
}

// NewInitLine returns the init line of a child with a new token. config may be nil.
func NewInitLine(env handler.Env, maxBatch int, config map[string]any, id string) InitLine {
	line := InitLine{
		V: protocolVersion, Type: "init", ID: id, Token: rand.Text(), App: env.App,
		Node: env.Node, Group: env.Group, Topic: env.Topic, MaxBatch: maxBatch, Config: config,
	}
	if line.Config == nil {
		line.Config = map[string]any{}
	}
	return line
}

// leaseLine tells a child about a partition.
type leaseLine struct {
	Type      string `json:"type"` // "assign" or "revoke"
	ID        string `json:"id"`
	Partition int    `json:"partition"`
	Epoch     uint64 `json:"epoch"`
	NextSeq   uint64 `json:"next_seq,omitempty"` // assign
	Reason    string `json:"reason,omitempty"`   // revoke
}

// NewAssignLine returns the line that tells a child that it has a partition.
func NewAssignLine(a handler.Assignment, id string) leaseLine {
	return leaseLine{Type: "assign", ID: id, Partition: a.Partition, Epoch: a.Epoch, NextSeq: a.NextSeq}
}

// NewRevokeLine returns the line that tells a child that it has lost a partition, and why.
func NewRevokeLine(a handler.Assignment, reason, id string) leaseLine {
	return leaseLine{Type: "revoke", ID: id, Partition: a.Partition, Epoch: a.Epoch, Reason: reason}
}

// StopLine is the last line a child gets.
type StopLine struct {
	Type string `json:"type"` // "stop"
	ID   string `json:"id"`
}

// MessageLine is one call.
type MessageLine struct {
	Type           string              `json:"type"` // "message"
	ID             string              `json:"id"`
	Topic          string              `json:"topic"`
	Group          string              `json:"group"`
	Node           string              `json:"node"`
	Partition      int                 `json:"partition"`
	Seq            uint64              `json:"seq"`
	Epoch          uint64              `json:"epoch"`
	Attempt        int                 `json:"attempt"`
	MaxAttempts    int                 `json:"max_attempts"`
	Key            string              `json:"key"`
	Subject        string              `json:"subject"`
	IdempotencyKey string              `json:"idempotency_key"`
	TimeoutMS      int64               `json:"timeout_ms"`
	Time           string              `json:"time"`
	Traceparent    string              `json:"traceparent,omitempty"`
	Released       bool                `json:"released,omitempty"`
	Headers        map[string][]string `json:"headers"`
	Payload
}

// BatchLine is one call for several messages.
type BatchLine struct {
	Type      string        `json:"type"` // "batch"
	ID        string        `json:"id"`
	Partition int           `json:"partition"`
	Epoch     uint64        `json:"epoch"`
	Messages  []MessageLine `json:"messages"`
}

// Payload is a message's payload in a line.
type Payload = jsondata.Payload

// NewPayload returns data as a field of a line: text if it is UTF-8, else base64.
func NewPayload(data []byte) Payload { return jsondata.New(data) }

// HeadersOrEmpty are the headers of a message for JSON, where no headers are {}.
func HeadersOrEmpty(m *handler.Message) map[string][]string {
	if m.Headers == nil {
		return map[string][]string{}
	}
	return m.Headers
}

// NewMessageLine returns the line of a call.
func NewMessageLine(m *handler.Message) MessageLine {
	return MessageLine{
		Type: "message", ID: m.ID, Topic: m.Topic, Group: m.Group, Node: m.Node,
		Partition: m.Partition, Seq: m.Seq, Epoch: m.Epoch, Attempt: m.Attempt, MaxAttempts: m.MaxAttempts,
		Key: m.Key, Subject: m.Subject, IdempotencyKey: m.IdempotencyKey,
		TimeoutMS: m.Timeout.Milliseconds(), Time: header.TimeText(m.Published),
		Traceparent: m.Traceparent, Released: m.Released, Headers: HeadersOrEmpty(m), Payload: NewPayload(m.Data),
	}
}

// EncodeMessage prints a message as a child gets it: one line of JSON, with its line end.
func EncodeMessage(m *handler.Message) ([]byte, error) { return EncodeLine(NewMessageLine(m)) }

// EncodeLine prints v as one line of JSON, with its line end.
func EncodeLine(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("encode line: %w", err)
	}
	return b.Bytes(), nil
}

// What a child can want, in its ack of init.
const (
	WantsBatch    = "batch"    // Several messages in a call.
	WantsParallel = "parallel" // Calls of several partitions at once.
)

// Reply is a line from a child, or a service's reply to a batch.
type Reply struct {
	Type  string `json:"type"` // "ack" or "result"
	ID    string `json:"id"`
	Token string `json:"token"` // Of init, if its ack had it.
	outcome
	Attempt   int          `json:"attempt"`    // Optional echo: a reply to another attempt does not count for this one.
	Wants     []string     `json:"wants"`      // Of the ack of init.
	OKThrough *uint64      `json:"ok_through"` // Of a batch: every message up to this sequence is done.
	Failed    *failedReply `json:"failed"`     // Of a batch: the message after those.
}

// outcome is the outcome of a message or a batch.
type outcome struct {
	Status  string  `json:"status"`
	Reason  string  `json:"reason"`
	AfterMS float64 `json:"after_ms"`
}

// failedReply is the outcome of one message of a batch.
type failedReply struct {
	Seq uint64 `json:"seq"`
	outcome
}

// ParseReply reads a line as a reply. It returns false for any other line, which is output of the program. A reply with
// a field of the wrong type still ends its call, as Retry: nothing is gained by waiting for the timeout. Some runtimes
// begin a pipe with a byte order mark.
func ParseReply(line []byte) (Reply, bool) {
	line = bytes.TrimSpace(jsondata.TrimBOM(line))
	if len(line) == 0 || line[0] != '{' {
		return Reply{}, false
	}
	var a Reply
	err := json.Unmarshal(line, &a)
	var wrong *json.UnmarshalTypeError // Of a field; all others have been read.
	switch {
	case err != nil && (a.ID == "" || !errors.As(err, &wrong)), a.Type != "ack" && a.Type != "result":
		return Reply{}, false
	case err != nil:
		return Reply{Type: a.Type, ID: a.ID, Token: a.Token,
			outcome: outcome{Status: string(handler.Retry), Reason: "unreadable answer: " + err.Error()}}, true
	}
	return a, true
}

// Result converts the outcome.
func (o outcome) Result() handler.Result {
	switch s := handler.Status(o.Status); s {
	case handler.OK:
		return handler.Result{Status: handler.OK}
	case handler.Retry, handler.Reject, handler.Unavailable, handler.Pause:
		return handler.Result{Status: s, Reason: header.OneLine(o.Reason), After: milliseconds(o.AfterMS)}
	}
	return handler.Result{
		Status: handler.Retry,
		Reason: fmt.Sprintf("handler answered with unknown status %q", header.Cut(o.Status, 64)),
	}
}

// milliseconds turns what a child wrote into a duration from 0 to maxAfter.
func milliseconds(ms float64) time.Duration {
	if !(ms > 0) {
		return 0
	}
	return time.Duration(math.Min(ms, float64(maxAfter.Milliseconds())) * float64(time.Millisecond))
}

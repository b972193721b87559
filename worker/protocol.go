package worker

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"leasehold/internal/jsondata"
)

// protocolVersion is the "v" of the init line: docs/handlers.md says what may change under the same number.
const protocolVersion = 1

// maxAfter bounds after_ms: beyond a day a person should look.
const maxAfter = 24 * time.Hour

// initLine is the first line a child gets.
type initLine struct {
	V        int            `json:"v"`
	Type     string         `json:"type"` // "init"
	ID       string         `json:"id"`
	Token    string         `json:"token"` // A child whose ack has it repeats it in every result. See child.token.
	App      string         `json:"app"`
	Node     string         `json:"node"`
	Group    string         `json:"group"`
	Topic    string         `json:"topic"`
	MaxBatch int            `json:"max_batch"` // Most messages of a batch; of use to a child that wants batches.
	Config   map[string]any `json:"config"`
}

// newInitLine returns the init line of a child with a new token. config may be nil.
func newInitLine(env HandlerEnv, maxBatch int, config map[string]any, id string) initLine {
	line := initLine{
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

func newAssignLine(a Assignment, id string) leaseLine {
	return leaseLine{Type: "assign", ID: id, Partition: a.Partition, Epoch: a.Epoch, NextSeq: a.NextSeq}
}

func newRevokeLine(a Assignment, reason, id string) leaseLine {
	return leaseLine{Type: "revoke", ID: id, Partition: a.Partition, Epoch: a.Epoch, Reason: reason}
}

// stopLine is the last line a child gets.
type stopLine struct {
	Type string `json:"type"` // "stop"
	ID   string `json:"id"`
}

// messageLine is one call.
type messageLine struct {
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
	payload
}

// batchLine is one call for several messages.
type batchLine struct {
	Type      string        `json:"type"` // "batch"
	ID        string        `json:"id"`
	Partition int           `json:"partition"`
	Epoch     uint64        `json:"epoch"`
	Messages  []messageLine `json:"messages"`
}

// payload is a message's payload in a line.
type payload = jsondata.Payload

func newPayload(data []byte) payload { return jsondata.New(data) }

// headersOrNone are the headers of a message for JSON, where no headers are {}.
func headersOrNone(m *Message) map[string][]string {
	if m.Headers == nil {
		return map[string][]string{}
	}
	return m.Headers
}

func newMessageLine(m *Message) messageLine {
	return messageLine{
		Type: "message", ID: m.ID, Topic: m.Topic, Group: m.Group, Node: m.Node,
		Partition: m.Partition, Seq: m.Seq, Epoch: m.Epoch, Attempt: m.Attempt, MaxAttempts: m.MaxAttempts,
		Key: m.Key, Subject: m.Subject, IdempotencyKey: m.IdempotencyKey,
		TimeoutMS: m.Timeout.Milliseconds(), Time: TimeText(m.Published),
		Traceparent: m.Traceparent, Released: m.Released, Headers: headersOrNone(m), payload: newPayload(m.Data),
	}
}

// EncodeMessage prints a message as a child gets it: one line of JSON, with its line end.
func EncodeMessage(m *Message) ([]byte, error) { return encodeLine(newMessageLine(m)) }

// encodeLine prints v as one line of JSON, with its line end.
func encodeLine(v any) ([]byte, error) {
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
	wantsBatch    = "batch"    // Several messages in a call.
	wantsParallel = "parallel" // Calls of several partitions at once.
)

// answer is a line from a child, or what a service says about a batch.
type answer struct {
	Type  string `json:"type"` // "ack" or "result"
	ID    string `json:"id"`
	Token string `json:"token"` // Of init, if its ack had it.
	outcome
	Attempt   int           `json:"attempt"`    // Optional echo; an answer to another attempt is not one to this.
	Wants     []string      `json:"wants"`      // Of the ack of init.
	OKThrough *uint64       `json:"ok_through"` // Of a batch: every message up to this sequence is done.
	Failed    *failedAnswer `json:"failed"`     // Of a batch: the message after those.
}

// outcome is what became of a message or a batch.
type outcome struct {
	Status  string  `json:"status"`
	Reason  string  `json:"reason"`
	AfterMS float64 `json:"after_ms"`
}

// failedAnswer is what became of one message of a batch.
type failedAnswer struct {
	Seq uint64 `json:"seq"`
	outcome
}

// parseAnswer reads a line as an answer. Anything that is not one is output of the program: false. A line that is meant
// as an answer and has a field of the wrong type still ends its call, as Retry: waiting for the timeout helps nobody. Some
// runtimes begin a pipe with a byte order mark.
func parseAnswer(line []byte) (answer, bool) {
	line = bytes.TrimSpace(jsondata.TrimBOM(line))
	if len(line) == 0 || line[0] != '{' {
		return answer{}, false
	}
	var a answer
	err := json.Unmarshal(line, &a)
	var wrong *json.UnmarshalTypeError // Of a field; all others have been read.
	switch {
	case err != nil && (a.ID == "" || !errors.As(err, &wrong)), a.Type != "ack" && a.Type != "result":
		return answer{}, false
	case err != nil:
		return answer{Type: a.Type, ID: a.ID, Token: a.Token, outcome: outcome{Status: string(Retry), Reason: "unreadable answer: " + err.Error()}}, true
	}
	return a, true
}

// result is what the outcome means.
func (o outcome) result() Result {
	switch s := Status(o.Status); s {
	case OK:
		return Result{Status: OK}
	case Retry, Reject, Unavailable, Pause:
		return Result{Status: s, Reason: oneLine(o.Reason), After: milliseconds(o.AfterMS)}
	}
	return Result{Status: Retry, Reason: fmt.Sprintf("handler answered with unknown status %q", cut(o.Status, 64))}
}

// milliseconds turns what a child wrote into a duration from 0 to maxAfter.
func milliseconds(ms float64) time.Duration {
	if !(ms > 0) {
		return 0
	}
	return time.Duration(math.Min(ms, float64(maxAfter.Milliseconds())) * float64(time.Millisecond))
}

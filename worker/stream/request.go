package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// Limits of requests to a stream's leader.
const (
	RequestTimeout = 2 * time.Second // For a request that only the leader answers.
	// For the stream's state: without a leader there is no reply, and none comes later.
	InfoTimeout = 500 * time.Millisecond
)

var ErrNotFound = errors.New("no replica has it")

// GetMessage gets a message from a stream's leader. The error is ErrNotFound if it has no such message.
func GetMessage(ctx context.Context, nc *nats.Conn, stream string, request []byte) (*Entry, error) {
	var answer struct {
		Error   *APIError `json:"error"`
		Message *struct {
			Subject string    `json:"subject"`
			Seq     uint64    `json:"seq"`
			Header  []byte    `json:"hdrs"`
			Data    []byte    `json:"data"`
			Time    time.Time `json:"time"`
		} `json:"message"`
	}
	if err := Request(ctx, nc, "STREAM.MSG.GET", stream, request, &answer); err != nil {
		return nil, err
	}
	switch {
	case answer.Error != nil && answer.Error.Code == codeNoMessage:
		return nil, ErrNotFound
	case answer.Error != nil || answer.Message == nil:
		return nil, fmt.Errorf("get message %s of stream %s: %w", request, stream, answer.Error)
	}
	m := answer.Message
	e := &Entry{Seq: m.Seq, Published: m.Time, Subject: m.Subject, Data: m.Data}
	if len(m.Header) > 0 {
		h, err := nats.DecodeHeadersMsg(m.Header)
		if err != nil {
			return nil, fmt.Errorf("headers of message %d of stream %s: %w", m.Seq, stream, err)
		}
		e.Headers = h
	}
	return e, nil
}

// APIError is the server's own error.
type APIError struct {
	Code int    `json:"err_code"`
	Text string `json:"description"`
}

// Error returns the server's text and code.
func (e *APIError) Error() string {
	if e == nil {
		return "empty answer"
	}
	return fmt.Sprintf("%s (%d)", e.Text, e.Code)
}

// BrokerCode returns the server's error code, for internal/brokererr.
func (e *APIError) BrokerCode() int {
	if e == nil {
		return 0
	}
	return e.Code
}

// Request asks a stream's leader.
func Request(ctx context.Context, nc *nats.Conn, what, stream string, request []byte, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, RequestTimeout)
	defer cancel()
	m, err := nc.RequestWithContext(ctx, "$JS.API."+what+"."+stream, request)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if err := json.Unmarshal(m.Data, answer); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// codeNoMessage is the code of nats-server's errors.json for a message that is not stored.
const codeNoMessage = 10037

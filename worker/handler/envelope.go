package handler

import (
	"cmp"
	"strconv"

	"leasehold/worker/header"
)

// Field is one part of a message's envelope, under the name of its header.
type Field struct{ Name, Value string }

// Envelope lists the envelope, except headers, trace context and payload. Names are spelled as http.CanonicalHeaderKey
// does, so that it need not be called for each message. Names of environment variables are derived from these; only
// JSON, where numbers are numbers, has its own (wire.MessageLine).
func (m *Message) Envelope() []Field {
	all := []Field{
		{Name: header.Prefix + "Id", Value: m.ID},
		{Name: header.Prefix + "Topic", Value: m.Topic},
		{Name: header.Prefix + "Group", Value: m.Group},
		{Name: header.Prefix + "Node", Value: m.Node},
		{Name: header.Prefix + "Partition", Value: strconv.Itoa(m.Partition)},
		{Name: header.Prefix + "Seq", Value: strconv.FormatUint(m.Seq, 10)},
		{Name: header.Prefix + "Epoch", Value: strconv.FormatUint(m.Epoch, 10)},
		{Name: header.Prefix + "Attempt", Value: strconv.Itoa(m.Attempt)},
		{Name: header.Prefix + "Max-Attempts", Value: strconv.Itoa(m.MaxAttempts)},
		{Name: header.Prefix + "Key", Value: m.Key},
		{Name: header.Prefix + "Subject", Value: m.Subject},
		{Name: header.Prefix + "Idempotency-Key", Value: m.IdempotencyKey},
		{Name: header.Prefix + "Timeout-Ms", Value: strconv.FormatInt(m.Timeout.Milliseconds(), 10)},
		{Name: header.Prefix + "Time", Value: header.TimeText(m.Published)},
	}
	if m.Released {
		all = append(all, Field{Name: header.Prefix + "Released", Value: "true"})
	}
	return all
}

// ReadHeaders fills in the fields that come from the publisher's headers.
func (m *Message) ReadHeaders() {
	m.IdempotencyKey = cmp.Or(header.First(m.Headers, header.OriginalMessageID), header.First(m.Headers, header.MessageID),
		m.ID)
	m.Traceparent = cmp.Or(header.First(m.Headers, header.TraceparentLower), header.First(m.Headers, header.Traceparent))
}

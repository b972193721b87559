package worker

import (
	"cmp"
	"strconv"
)

// field is one part of a message's envelope, under the name of its header.
type field struct{ name, value string }

// fields lists the envelope but for headers, trace context and payload. The names are spelled as http.CanonicalHeaderKey
// does it, so that nobody has to for each message. Environment variables have theirs from here; only JSON, where numbers
// are numbers, spells them once more (messageLine).
func (m *Message) fields() []field {
	all := []field{
		{headerPrefix + "Id", m.ID},
		{headerPrefix + "Topic", m.Topic},
		{headerPrefix + "Group", m.Group},
		{headerPrefix + "Node", m.Node},
		{headerPrefix + "Partition", strconv.Itoa(m.Partition)},
		{headerPrefix + "Seq", strconv.FormatUint(m.Seq, 10)},
		{headerPrefix + "Epoch", strconv.FormatUint(m.Epoch, 10)},
		{headerPrefix + "Attempt", strconv.Itoa(m.Attempt)},
		{headerPrefix + "Max-Attempts", strconv.Itoa(m.MaxAttempts)},
		{headerPrefix + "Key", m.Key},
		{headerPrefix + "Subject", m.Subject},
		{headerPrefix + "Idempotency-Key", m.IdempotencyKey},
		{headerPrefix + "Timeout-Ms", strconv.FormatInt(m.Timeout.Milliseconds(), 10)},
		{headerPrefix + "Time", TimeText(m.Published)},
	}
	if m.Released {
		all = append(all, field{headerPrefix + "Released", "true"})
	}
	return all
}

// fromHeaders fills in what the publisher's headers say.
func (m *Message) fromHeaders() {
	m.IdempotencyKey = cmp.Or(first(m.Headers, originalIDHdr), first(m.Headers, messageIDHdr), m.ID)
	m.Traceparent = cmp.Or(first(m.Headers, traceLowerHdr), first(m.Headers, traceHdr))
}

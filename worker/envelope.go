package worker

import (
	"fmt"
	"strconv"
	"strings"
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

// varName is the environment variable of a field: LEASEHOLD_MAX_ATTEMPTS for Leasehold-Max-Attempts.
func varName(header string) string { return strings.ToUpper(strings.ReplaceAll(header, "-", "_")) }

// escape writes those bytes of s that cannot be carried as %XX. Others stay as they are, so that ordinary values are
// not disfigured.
func escape(s string, bad func(byte) bool) string {
	good := 0
	for good < len(s) && !bad(s[good]) {
		good++
	}
	if good == len(s) {
		return s
	}
	var b strings.Builder
	b.WriteString(s[:good])
	for i := good; i < len(s); i++ {
		if bad(s[i]) {
			fmt.Fprintf(&b, "%%%02X", s[i])
		} else {
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

// isControl holds for what no header's value may contain.
func isControl(c byte) bool { return c < ' ' && c != '\t' || c == 0x7f }

// isNoToken holds for what no header's name may contain.
func isNoToken(c byte) bool {
	return c <= ' ' || c >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?={}`, c) >= 0
}

// isNoAttribute holds for what CloudEvents want encoded in the value of a header.
func isNoAttribute(c byte) bool { return c <= ' ' || c >= 0x7f || c == '"' || c == '%' }

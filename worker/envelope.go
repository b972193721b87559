package worker

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// field is one part of a message's envelope under the name that it has in JSON.
type field struct{ name, value string }

// fields lists the envelope but for headers, trace context and payload. The names of HTTP and NATS headers and of
// environment variables all come from here; only JSON, where numbers are numbers, spells them once more (messageLine).
func (m *Message) fields() []field {
	all := []field{
		{"id", m.ID},
		{"topic", m.Topic},
		{"group", m.Group},
		{"node", m.Node},
		{"partition", strconv.Itoa(m.Partition)},
		{"seq", strconv.FormatUint(m.Seq, 10)},
		{"epoch", strconv.FormatUint(m.Epoch, 10)},
		{"attempt", strconv.Itoa(m.Attempt)},
		{"max_attempts", strconv.Itoa(m.MaxAttempts)},
		{"key", m.Key},
		{"subject", m.Subject},
		{"idempotency_key", m.IdempotencyKey},
		{"timeout_ms", strconv.FormatInt(m.Timeout.Milliseconds(), 10)},
		{"time", TimeText(m.Published)},
	}
	if m.Released {
		all = append(all, field{"released", "true"})
	}
	return all
}

// headerName is the header of a field: Leasehold-Max-Attempts for max_attempts.
func headerName(field string) string {
	return http.CanonicalHeaderKey(headerPrefix + strings.ReplaceAll(field, "_", "-"))
}

// escape writes those bytes of s that cannot be carried as %XX. Others stay as they are, so that ordinary values are
// not disfigured.
func escape(s string, bad func(byte) bool) string {
	var b strings.Builder
	for i := range len(s) {
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

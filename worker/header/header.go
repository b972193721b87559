// Package header has the names of the headers that belong to Leasehold and the broker, and makes headers and texts of
// publishers and handlers safe to send, store and show.
package header

import (
	"fmt"
	"net/textproto"
	"strings"
)

// Names of headers. Those that begin with Prefix are Leasehold's own; a publisher's header of such a name, or of one of
// the broker's, is stored in a dead letter with header.OriginalPrefix before its name.
const (
	Prefix         = "Leasehold-"
	OriginalPrefix = Prefix + "Original-"

	// Requeues counts how often a message was sent to its topic again.
	Requeues = Prefix + "Requeues"
	// OnlyGroup names the only group that a requeued message is for. Lanes of other groups skip it.
	OnlyGroup = Prefix + "Only-Group"
	// PackedHeaders holds those of the publisher's headers that cannot be sent, in a requeued message, as base64.
	PackedHeaders = Prefix + "Packed-Headers"

	MessageID = "Nats-Msg-Id"
	// OriginalMessageID holds the message id under which a requeued message was first published.
	OriginalMessageID = OriginalPrefix + MessageID
	Traceparent       = "Traceparent"
	TraceparentLower  = "traceparent"
)

// Escape writes the bytes of s for which bad returns true as %XX. The others stay as they are, so that ordinary values
// stay readable.
func Escape(s string, bad func(byte) bool) string {
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

// IsControl reports whether a byte must not occur in a header's value.
func IsControl(c byte) bool { return c < ' ' && c != '\t' || c == 0x7f }

// IsNotToken reports whether a byte must not occur in a header's name.
func IsNotToken(c byte) bool {
	return c <= ' ' || c >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?={}`, c) >= 0
}

// IsNotAttribute reports whether CloudEvents require a byte to be encoded in the value of a header.
func IsNotAttribute(c byte) bool { return c <= ' ' || c >= 0x7f || c == '"' || c == '%' }

// Reserved reports whether a header's name is the broker's or ours, whatever its case.
func Reserved(name string) bool {
	canonical := textproto.CanonicalMIMEHeaderKey(name)
	return strings.HasPrefix(canonical, "Nats-") || strings.HasPrefix(canonical, Prefix)
}

// First returns the first value of a header.
func First(headers map[string][]string, name string) string {
	if v := headers[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

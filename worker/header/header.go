// Package header holds the names of the headers that Leasehold and the broker own, and makes headers and texts of
// publishers and handlers fit to be sent, stored and shown.
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

// Escape writes those bytes of s that cannot be carried as %XX. Others stay as they are, so that ordinary values are
// not disfigured.
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

// IsControl holds for what no header's value may contain.
func IsControl(c byte) bool { return c < ' ' && c != '\t' || c == 0x7f }

// IsNotToken holds for what no header's name may contain.
func IsNotToken(c byte) bool {
	return c <= ' ' || c >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?={}`, c) >= 0
}

// IsNotAttribute holds for what CloudEvents want encoded in the value of a header.
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

package worker

import (
	"fmt"
	"net/textproto"
	"strings"
)

// Names of headers. Those that begin with headerPrefix are Leasehold's own; a publisher's header of such a name, or of one of
// the broker's, is stored in a dead letter with originalPrefix before its name.
const (
	headerPrefix   = "Leasehold-"
	originalPrefix = headerPrefix + "Original-"

	// hdrRequeues counts how often a message was sent to its topic again.
	hdrRequeues = headerPrefix + "Requeues"
	// HeaderOnlyGroup names the only group that a requeued message is for. Lanes of other groups skip it.
	HeaderOnlyGroup = headerPrefix + "Only-Group"
	// hdrPacked holds those of the publisher's headers that cannot be sent, in a requeued message, as base64.
	hdrPacked = headerPrefix + "Packed-Headers"

	messageIDHdr = "Nats-Msg-Id"
	// originalIDHdr holds the message id under which a requeued message was first published.
	originalIDHdr = originalPrefix + messageIDHdr
	traceHdr      = "Traceparent"
	traceLowerHdr = "traceparent"
)

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

// reservedHeader reports whether a header's name is the broker's or ours, whatever its case.
func reservedHeader(name string) bool {
	canonical := textproto.CanonicalMIMEHeaderKey(name)
	return strings.HasPrefix(canonical, "Nats-") || strings.HasPrefix(canonical, headerPrefix)
}

// first returns the first value of a header.
func first(headers map[string][]string, name string) string {
	if v := headers[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

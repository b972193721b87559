// Package admission decides what a publisher's message may be: its subject, headers, message id, size and reply
// subject. It lists what is allowed and refuses the rest. Every entrance uses it, so that a message means the same to
// all parsers behind it and always fits the broker's protocol line together with what nodes add to it.
package admission

import "strings"

const (
	// MaxMsgID is the longest message id, in bytes: the broker keeps ids in memory for the whole dedup_window.
	MaxMsgID = 256
	// MaxHeaders is the largest header block as it goes on the wire, in bytes. The broker's own limit is 64 KiB; the
	// other half is for what a dead letter adds to each name.
	MaxHeaders = 32 << 10
	// MaxSubject is the longest subject and the longest reply subject, in bytes. The broker ends a connection whose
	// protocol line has more than 4,096 bytes; a line holds a subject, a reply subject and what nodes put before them.
	MaxSubject = 1024
	// MaxKey is the longest key, in bytes as it stands in the subject; several tokens count with the dots between them. It
	// leaves room in the protocol line for the dead letter's subject and the headers around it.
	MaxKey = 512
	// MaxHeaderName is the longest name of a header, in bytes.
	MaxHeaderName = 256
)

// The only headers with the broker's prefix that a publisher may send, spelled as the broker looks for them.
const (
	MsgID          = "Nats-Msg-Id"
	ExpectedStream = "Nats-Expected-Stream"
	brokerPrefix   = "nats-"
	// nodePrefix begins what a node says of a message: to whom it is requeued, how often, under which id it came first.
	nodePrefix = "Leasehold-"
)

// The headers with which NATS services say that a request has failed (nats.go v1.52, micro/service.go).
const (
	serviceError     = "Nats-Service-Error"
	serviceErrorCode = "Nats-Service-Error-Code"
)

// class is what a byte may stand in.
type class uint8

const (
	inName    class = 1 << iota // RFC 9110, section 5.6.2: tchar
	inValue                     // no control character but tab
	inID                        // no control character
	inSubject                   // neither that nor a space
)

// classes is the class of every byte.
var classes = makeClasses()

func makeClasses() (t [256]class) {
	for i := range t {
		c := byte(i)
		alphanumeric := '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z'
		if c < 0x80 && (alphanumeric || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			t[i] |= inName
		}
		if c == '\t' || c >= ' ' && c != 0x7f {
			t[i] |= inValue
		}
		if c >= ' ' && c != 0x7f {
			t[i] |= inID
		}
		if c > ' ' && c != 0x7f {
			t[i] |= inSubject
		}
	}
	return t
}

// prefix is how many bytes at the beginning of s are of a class.
func prefix[T string | []byte](s T, of class) int {
	for i := range len(s) {
		if classes[s[i]]&of == 0 {
			return i
		}
	}
	return len(s)
}

// HeaderName says why a header of this name is refused, nil if it is not.
func HeaderName(name string) *Refusal {
	if name == "" || len(name) > MaxHeaderName || prefix(name, inName) < len(name) {
		return HeaderMalformed.Refuse("header name %s is not 1 to %d letters, digits or any of !#$%%&'*+-.^_`|~", Quote(name),
			MaxHeaderName)
	}
	return reserved(name)
}

// HeaderValue says why a header with this value is refused, nil if it is not.
func HeaderValue(value string) *Refusal {
	if prefix(value, inValue) < len(value) {
		return HeaderMalformed.Refuse("header value %s has a control character", Quote(value))
	}
	return nil
}

// MessageID says why a message with this id is refused, nil if it is not. An empty one is none.
func MessageID(id string) *Refusal { return messageID(id) }

// Headers says why a message with these headers is refused, nil if it is not.
func Headers(h map[string][]string) *Refusal {
	ids, streams := 0, 0
	for name, values := range h {
		if r := HeaderName(name); r != nil {
			return r
		}
		switch {
		case isName(name, MsgID):
			ids += len(values)
		case isName(name, ExpectedStream):
			streams += len(values)
		}
		for _, value := range values {
			if r := HeaderValue(value); r != nil {
				return r
			}
		}
	}
	if ids > 1 || streams > 1 {
		return repeated()
	}
	return HeadersSize(WireSize(h))
}

// HeadersSize says whether a header block of so many bytes is refused, nil if it is not.
func HeadersSize(n int) *Refusal {
	if n > MaxHeaders {
		return HeadersTooLarge.Refuse("headers take %d bytes, at most %d are allowed", n, MaxHeaders)
	}
	return nil
}

// WireSize is how many bytes these headers take as a block.
func WireSize(h map[string][]string) int {
	if len(h) == 0 {
		return 0
	}
	n := len(preamble) + len(lineEnd)
	for name, values := range h {
		for _, value := range values {
			n += len(name) + len(separator) + len(value) + len(lineEnd)
		}
	}
	return n
}

// Payload says whether a message of so many bytes, headers included, is refused, nil if it is not.
func Payload(size, limit int64) *Refusal {
	if size > limit {
		return PayloadTooLarge.Refuse("message has %d bytes with its headers, at most %d are allowed (max_payload)", size,
			limit)
	}
	return nil
}

// reserved refuses the headers of nodes, and the broker's own, save the two that a publisher may send.
func reserved[T string | []byte](name T) *Refusal {
	if begins(name, nodePrefix) {
		return HeaderNotAllowed.Refuse("header %s is not allowed: only nodes set headers that begin with %s; use another "+
			"name", Quote(name), nodePrefix)
	}
	if !begins(name, brokerPrefix) {
		return nil
	}
	if isName(name, MsgID) || isName(name, ExpectedStream) {
		return nil
	}
	return HeaderNotAllowed.Refuse("header %s is not allowed: of the names beginning with Nats-, publishers may send "+
		"only %s and %s",
		Quote(name), MsgID, ExpectedStream)
}

// begins compares the beginning of a header's name without regard to case.
func begins[T string | []byte](name T, prefix string) bool {
	return len(name) >= len(prefix) && isName(name[:len(prefix)], prefix)
}

// isName compares header names without regard to the case of their letters. Both are ASCII.
func isName[T string | []byte](name T, want string) bool {
	if len(name) != len(want) {
		return false
	}
	for i := range len(name) {
		if lower(name[i]) != lower(want[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c | 0x20
	}
	return c
}

func messageID[T string | []byte](id T) *Refusal {
	if len(id) > MaxMsgID {
		return MessageIDTooLong.Refuse("message id %s has %d bytes, at most %d are allowed", Quote(id), len(id), MaxMsgID)
	}
	if n := len(id); prefix(id, inID) < n || n > 0 && (id[0] == ' ' || id[n-1] == ' ') {
		return HeaderMalformed.Refuse("message id %s has a control character or an outer space", Quote(id))
	}
	return nil
}

func repeated() *Refusal {
	return HeaderNotAllowed.Refuse("%s and %s may appear only once in a message", MsgID, ExpectedStream)
}

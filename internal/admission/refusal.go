package admission

import (
	"fmt"
	"strconv"
	"unicode/utf8"
)

// Kind is one reason to refuse a message. Reason and ErrCode are stable: clients and alerts may depend on them.
type Kind struct {
	Reason  string // label for counting
	Code    int    // as in HTTP
	ErrCode uint16 // as in the answer to a JetStream publish
	Meaning string
}

// The kinds of refusal. The broker's own codes lie between 10000 and 10999, so ours begin at 20001.
var (
	SubjectInvalid = Kind{"subject_invalid", 400, 20001,
		"the subject does not belong to the topic, has no key, a wildcard, an empty token, a space or a control character, " +
			"is not UTF-8, or it or its key is too long"}
	HeaderMalformed = Kind{"header_malformed", 400, 20002,
		"the header block, a header's name or value, or the message id has characters or line ends that are not allowed"}
	HeaderNotAllowed = Kind{"header_not_allowed", 400, 20003,
		"a name beginning with Leasehold-, or with Nats- other than Nats-Msg-Id and Nats-Expected-Stream, or one of these " +
			"two more than once"}
	HeadersTooLarge  = Kind{"headers_too_large", 413, 20004, "all headers together have more than 32 KiB"}
	MessageIDTooLong = Kind{"message_id_too_long", 400, 20005, "the message id has more than 256 bytes"}
	ReplyNotAllowed  = Kind{"reply_not_allowed", 400, 20006,
		"the reply subject is not under the client's inbox, or is not a valid subject"}
	// PayloadTooLarge keeps the broker's code, which clients know.
	PayloadTooLarge = Kind{"payload_too_large", 413, 10054, "data and headers together have more than max_payload"}
)

// Kinds lists every kind of refusal, in a fixed order.
func Kinds() []Kind {
	return []Kind{SubjectInvalid, HeaderMalformed, HeaderNotAllowed, HeadersTooLarge, MessageIDTooLong, ReplyNotAllowed,
		PayloadTooLarge}
}

// Refusal is why one message is refused. It will be refused again however often it is sent.
type Refusal struct {
	Code        int    // as in HTTP: 400 or 413
	ErrCode     uint16 // as in the answer to a JetStream publish
	Reason      string // of its Kind
	Description string // quotes at most quoted bytes of what it is about
}

// Error is the description with the code.
func (r *Refusal) Error() string {
	return r.Description + " (" + strconv.Itoa(int(r.ErrCode)) + ")"
}

// Is reports whether two refusals are of one kind, for errors.Is.
func (r *Refusal) Is(target error) bool {
	other, ok := target.(*Refusal)
	return ok && r.ErrCode == other.ErrCode
}

// Wrapping is the refusal as an error that is also kind, for errors.Is. The text stays that of the refusal.
func (r *Refusal) Wrapping(kind error) error { return &classified{kind: kind, refusal: r} }

// classified is a refusal that a caller has classified by an error of its own.
type classified struct {
	kind    error
	refusal *Refusal
}

func (e *classified) Error() string { return e.refusal.Error() }

func (e *classified) Unwrap() []error { return []error{e.kind, e.refusal} }

// Refuse makes a refusal of this kind. Text of a publisher must go through Quote.
func (k Kind) Refuse(format string, args ...any) *Refusal {
	return &Refusal{Code: k.Code, ErrCode: k.ErrCode, Reason: k.Reason, Description: fmt.Sprintf(format, args...)}
}

// quoted is how many bytes of a publisher's text a description repeats.
const quoted = 64

// Quote makes text of a publisher safe for a log line or a terminal, and short.
func Quote[T string | []byte](text T) string {
	if len(text) <= quoted {
		return strconv.Quote(string(text))
	}
	cut := quoted
	for cut > quoted-utf8.UTFMax && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return fmt.Sprintf("%s… (%d bytes)", strconv.Quote(string(text[:cut])), len(text))
}

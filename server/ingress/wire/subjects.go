package wire

import (
	"bytes"
	"strings"

	"leasehold/internal/admission"
)

// Matches reports whether a subject matches a pattern, token by token.
func Matches(pattern, subject string) bool {
	for {
		want, morePattern, more1 := strings.Cut(pattern, ".")
		got, moreSubject, more2 := strings.Cut(subject, ".")
		if want != "*" && want != got || more1 != more2 {
			return false
		}
		if !more1 {
			return true
		}
		pattern, subject = morePattern, moreSubject
	}
}

// KeyLength refuses a subject whose tokens for the wildcards are too long.
func KeyLength(pattern, subject string) *admission.Refusal {
	if len(subject) <= admission.MaxKey { // so is its key
		return nil
	}
	fixed := len(strings.ReplaceAll(pattern, "*", ""))
	if len(subject)-fixed+strings.Count(pattern, "*")-1 > admission.MaxKey {
		return admission.SubjectInvalid.Refuse("subject %s: its key has more than %d bytes", admission.Quote(subject),
			admission.MaxKey)
	}
	return nil
}

// IsPattern reports whether a subscription can have this subject. It must be checked before gsl.Insert, which keeps the
// first tokens of a subject that it refuses.
func IsPattern(subject []byte) bool {
	for token := range bytes.SplitSeq(subject, []byte(".")) {
		if len(token) == 0 {
			return false
		}
	}
	return !bytes.Contains(subject, []byte(".>."))
}

// maxSid is the maximum length of a subscription id: client libraries count.
const maxSid = 20

// IsSid reports whether a client may use this subscription id. It is repeated to the client in the line of each
// message.
func IsSid(sid []byte) bool {
	return len(sid) <= maxSid && !bytes.ContainsFunc(sid, func(r rune) bool { return r < ' ' || r == 0x7f })
}

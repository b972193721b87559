package ingress

import (
	"strings"

	"leasehold/internal/admission"
)

// inboxes begin every reply subject of a client.
const inboxes = "_INBOX."

// topic is the user's topic that a subject is meant for, and whether it matches: else it is one whose fixed beginning the
// subject has, or "".
func (u *user) topic(subject []byte) (near string, match bool) {
	for _, p := range u.Publish {
		if matches(p, text(subject)) {
			return p, true
		}
		if fixed, _, wild := strings.Cut(p, "*"); wild && fixed != "" && strings.HasPrefix(text(subject), fixed) {
			near = p
		}
	}
	return near, false
}

// matches reports whether a subject fits a pattern token by token.
func matches(pattern, subject string) bool {
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

// keyLength refuses a subject whose tokens for the wildcards are too long.
func keyLength(pattern, subject string) *admission.Refusal {
	if len(subject) <= admission.MaxKey { // so is its key
		return nil
	}
	fixed := len(strings.ReplaceAll(pattern, "*", ""))
	if len(subject)-fixed+strings.Count(pattern, "*")-1 > admission.MaxKey {
		return admission.SubjectInvalid.Refuse("subject %s: its key has more than %d bytes", admission.Quote(subject), admission.MaxKey)
	}
	return nil
}

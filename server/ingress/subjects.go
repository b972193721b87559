package ingress

import (
	"strings"

	"leasehold/internal/admission"
)

// inboxes begin every reply subject of a client.
const inboxes = "_INBOX."

// maxKey is the longest that the tokens for a pattern's wildcards may be together, with the dots between them: as long as
// a key may be (partitioner.MaxKey).
const maxKey = 512

// topic is the user's topic that a subject is meant for: the one that it matches, else one whose fixed beginning it has; ""
// if there is none.
func (u *user) topic(subject []byte) string {
	near := ""
	for _, p := range u.Publish {
		if matches(p, text(subject)) {
			return p
		}
		if fixed, _, wild := strings.Cut(p, "*"); wild && fixed != "" && strings.HasPrefix(text(subject), fixed) {
			near = p
		}
	}
	return near
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
	if len(subject) <= maxKey { // so is its key
		return nil
	}
	fixed := len(strings.ReplaceAll(pattern, "*", ""))
	if len(subject)-fixed+strings.Count(pattern, "*")-1 > maxKey {
		return admission.SubjectInvalid.Refuse("subject %s: its key has more than %d bytes", admission.Quote(subject), maxKey)
	}
	return nil
}

package admission

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Subject says why a message to this subject is refused whatever topic it is for, nil if it is not: a publisher must
// name one subject, not a pattern.
func Subject(subject string) *Refusal {
	if why := subjectFault(subject); why != "" {
		return SubjectInvalid.Refuse("subject %s %s", Quote(subject), why)
	}
	return nil
}

// Reply says why a message with this reply subject is refused, nil if it is not: it must lie below the client's inbox,
// which is given with its final dot. An empty one is none.
func Reply(reply, inbox string) *Refusal {
	if reply == "" {
		return nil
	}
	if !strings.HasPrefix(reply, inbox) {
		return ReplyNotAllowed.Refuse("reply subject %s is not under the client's inbox %s", Quote(reply), Quote(inbox))
	}
	if why := subjectFault(reply); why != "" {
		return ReplyNotAllowed.Refuse("reply subject %s %s", Quote(reply), why)
	}
	return nil
}

// subjectFault is what is wrong with a subject, "" if nothing is. Runes count because the broker takes its own index of
// a stream for damaged that holds such a subject (isValidSubject in nats-server v2.15.2), and reads all messages again
// at its next start.
func subjectFault(subject string) string {
	if len(subject) > MaxSubject {
		return fmt.Sprintf("is longer than %d bytes", MaxSubject)
	}
	if prefix(subject, inSubject) < len(subject) {
		return "has a space or a control character"
	}
	if strings.ContainsRune(subject, utf8.RuneError) { // which every byte that is not UTF-8 reads as
		return "is not valid UTF-8, or has the character U+FFFD"
	}
	for rest, more := subject, true; more; {
		var token string
		token, rest, more = strings.Cut(rest, ".")
		switch token {
		case "":
			return "has an empty token"
		case "*", ">":
			return "has a wildcard"
		}
	}
	return ""
}

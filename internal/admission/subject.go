package admission

import (
	"fmt"
	"strings"
)

// Subject says why a message to this subject is refused whatever topic it is for, nil if it is not: a publisher must name
// one subject, not a pattern.
func Subject(subject string) *Refusal {
	if why := subjectFault(subject); why != "" {
		return SubjectInvalid.with("subject %s %s", quote(subject), why)
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
		return ReplyNotAllowed.with("reply subject %s is not under the client's inbox %s", quote(reply), quote(inbox))
	}
	if why := subjectFault(reply); why != "" {
		return ReplyNotAllowed.with("reply subject %s %s", quote(reply), why)
	}
	return nil
}

// NotOfTopic refuses a subject that does not match its topic.
func NotOfTopic(subject, pattern string) *Refusal {
	return SubjectInvalid.with("subject %s is not one of the topic's: %s", quote(subject), quote(pattern))
}

// Key refuses a subject for its key.
func Key(subject, why string) *Refusal {
	return SubjectInvalid.with("subject %s: %s", quote(subject), why)
}

// subjectFault is what is wrong with a subject, "" if nothing is.
func subjectFault(subject string) string {
	if len(subject) > MaxSubject {
		return fmt.Sprintf("is longer than %d bytes", MaxSubject)
	}
	if prefix(subject, inSubject) < len(subject) {
		return "has a space or a control character"
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

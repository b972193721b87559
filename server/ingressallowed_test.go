package server_test

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// The allow-list as the model has it.

// Verdicts on a message.
const (
	pass   = iota
	refuse // with an answer
	forbid // with -ERR
)

func judge(subject, reply string, size int) int {
	pattern, near := modelTopic(subject)
	switch {
	case pattern == "" && !near, reply != "" && (!strings.HasPrefix(reply, "_INBOX.") || !oneSubject(reply)):
		return forbid
	case pattern == "" || !oneSubject(subject) || keyOf(pattern, subject) > 512 || size > fuzzPayload:
		return refuse
	}
	return pass
}

// modelTopic is the pattern that a subject matches, or whether it at least begins as one.
func modelTopic(subject string) (pattern string, near bool) {
	for _, p := range fuzzSubjects {
		if subjectMatches(p, subject) {
			return p, true
		}
		near = near || strings.HasPrefix(subject, p[:strings.Index(p, "*")])
	}
	return "", near
}

// subjectMatches is about patterns with "*", and with ">" at the end.
func subjectMatches(pattern, subject string) bool {
	want, got := strings.Split(pattern, "."), strings.Split(subject, ".")
	for i, w := range want {
		switch {
		case i == len(got):
			return false
		case w == ">" && i == len(want)-1:
			return true
		case w != "*" && w != got[i]:
			return false
		}
	}
	return len(want) == len(got)
}

// oneSubject holds for a subject that names one.
func oneSubject(s string) bool {
	for _, token := range strings.Split(s, ".") {
		if token == "" || token == "*" || token == ">" {
			return false
		}
	}
	return len(s) <= 1024 && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r == 0x7f || r == utf8.RuneError
	})
}

func keyOf(pattern, subject string) int {
	var key []string
	for i, token := range strings.Split(subject, ".") {
		if strings.Split(pattern, ".")[i] == "*" {
			key = append(key, token)
		}
	}
	return len(strings.Join(key, "."))
}

var (
	headerLine = regexp.MustCompile("^([!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}):([^\\x00-\\x08\\x0a-\\x1f\\x7f]*)$")
	shortID    = regexp.MustCompile(`^[^\x00-\x1f\x7f]{0,20}$`)
	idText     = regexp.MustCompile(`^[^\x00-\x1f\x7f]{0,256}$`)
)

// modelHeaders reads a block of headers that a publisher may send, and says how long it is when written plainly.
func modelHeaders(block string) (h map[string][]string, length int, ok bool) {
	body, first := strings.CutPrefix(block, "NATS/1.0\r\n")
	body, last := strings.CutSuffix(body, "\r\n")
	if len(block) > 32<<10 || !first || !last || body != "" && !strings.HasSuffix(body, "\r\n") {
		return nil, 0, false
	}
	h, length = map[string][]string{}, len("NATS/1.0\r\n\r\n")
	for line := range strings.SplitSeq(strings.TrimSuffix(body, "\r\n"), "\r\n") {
		if body == "" {
			break
		}
		found := headerLine.FindStringSubmatch(latin(line))
		if found == nil {
			return nil, 0, false
		}
		name := found[1]
		value := strings.Trim(line[len(name)+1:], " \t")
		if strings.HasPrefix(asciiUpper(name), "NATS-") {
			if name = ownHeader(name); name == "" || len(h[name]) > 0 || name == "Nats-Msg-Id" &&
				!idText.MatchString(latin(value)) {
				return nil, 0, false
			}
		}
		h[name] = append(h[name], value)
		length += len(name) + len(value) + len(": \r\n")
	}
	return h, length, length <= 32<<10
}

func ownHeader(name string) string {
	for _, own := range []string{"Nats-Msg-Id", "Nats-Expected-Stream"} {
		if asciiUpper(name) == asciiUpper(own) {
			return own
		}
	}
	return ""
}

// latin makes each byte a rune, for regular expressions over bytes.
func latin(s string) string {
	runes := make([]rune, len(s))
	for i := range len(s) {
		runes[i] = rune(s[i])
	}
	return string(runes)
}

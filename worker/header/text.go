package header

import (
	"bytes"
	"strings"
	"time"

	"leasehold/internal/printable"
)

// OneLine makes a handler's text safe for a header, a log line and a terminal.
func OneLine(text string) string {
	return strings.TrimSpace(Cut(printable.Line(text), MaxReason))
}

// TimeText formats a time in the one format that Leasehold uses; "" for the zero time.
func TimeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// ParseTime reads what TimeText wrote; the zero time if text is anything else.
func ParseTime(text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}
	}
	return t
}

// MaxReason bounds the reason that a handler may give for one result, in bytes.
const MaxReason = 2 << 10

// Cut shortens s to at most n bytes of valid UTF-8.
func Cut(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return string(bytes.ToValidUTF8([]byte(s), nil))
}

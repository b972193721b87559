package worker

import (
	"bytes"
	"leasehold/internal/printable"
	"strings"
	"time"
)

// oneLine makes text of handlers fit for a header, a log line and a terminal.
func oneLine(text string) string {
	return strings.TrimSpace(cut(printable.Line(text), maxReason))
}

// TimeText spells a time as everything of ours does; empty if there is none.
func TimeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

func parseTime(text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}
	}
	return t
}

// maxReason bounds what a handler may say about one answer, in bytes.
const maxReason = 2 << 10

// cut shortens s to at most n bytes of valid UTF-8.
func cut(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return string(bytes.ToValidUTF8([]byte(s), nil))
}

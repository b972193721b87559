package cli

import (
	"strings"
	"time"

	"leasehold/internal/duration"
)

// sinceHelp is what every --since takes.
const sinceHelp = "a time like 2026-01-02T15:04:05Z, or a duration back from now like 2h"

// parseSince reads a moment in the past.
func parseSince(text string, now time.Time) (time.Time, error) {
	at, err := time.Parse(time.RFC3339, text)
	if d, fault := duration.Parse(strings.TrimPrefix(text, "-")); fault == nil && d > 0 {
		at, err = now.Add(-d), nil
	}
	switch {
	case err != nil:
		return at, usage("--since %q is not %s", text, sinceHelp)
	case !at.Before(now):
		return at, usage("--since %q is not in the past", text)
	}
	return at, nil
}

package subprocess

import (
	"bytes"
	"fmt"

	"leasehold/worker/header"
)

// maxUnmatched bounds how much of a line is kept for an error, in bytes.
const maxUnmatched = 200

// noteUnmatched keeps a line of stdout that is not a reply: if a reply is missing later, it may be this one,
// misspelled.
func (c *child) noteUnmatched(line []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.noteUnmatchedLocked(line)
}

func (c *child) noteUnmatchedLocked(line []byte) {
	if len(bytes.TrimSpace(line)) > 0 {
		c.unmatched = header.Cut(string(line[:min(len(line), maxUnmatched)]), maxUnmatched)
	}
}

// withUnmatched adds the last line that was not a reply to the reason of a call whose reply is missing.
func (c *child) withUnmatched(reason string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.withUnmatchedLocked(reason)
}

func (c *child) withUnmatchedLocked(reason string) string {
	if c.unmatched == "" {
		return reason
	}
	return fmt.Sprintf("%s; the last line on its stdout is not a valid answer (type and id must match, and id must be a "+
		"string): %q", reason, c.unmatched)
}

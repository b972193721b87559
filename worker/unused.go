package worker

import (
	"bytes"
	"fmt"
)

// maxUnused bounds how much of a line is kept for an error, in bytes.
const maxUnused = 200

// noteUnused keeps a line of stdout that answers nothing: if an answer is missing later, it may be this one, misspelled.
func (c *child) noteUnused(line []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.noteUnusedLocked(line)
}

func (c *child) noteUnusedLocked(line []byte) {
	if len(bytes.TrimSpace(line)) > 0 {
		c.unused = cut(string(line[:min(len(line), maxUnused)]), maxUnused)
	}
}

// withUnused adds the last line that answered nothing to the reason for which an answer is missing.
func (c *child) withUnused(reason string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.withUnusedLocked(reason)
}

func (c *child) withUnusedLocked(reason string) string {
	if c.unused == "" {
		return reason
	}
	return fmt.Sprintf("%s; the last line on its stdout is not a valid answer (type and id must match, and id must be a string): %q", reason, c.unused)
}

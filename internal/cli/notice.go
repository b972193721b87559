package cli

import (
	"fmt"
	"io"
	"time"

	"leasehold/internal/cli/screen"
)

// notice is one line that tells the user what a command waits for: rewritten in place on a terminal, elsewhere
// printed again when it has changed, but not too often.
type notice struct {
	w        *screen.Writer
	terminal bool
	text     string
	at       time.Time // Of the last print.
}

// noticeEvery bounds how fast a log file fills with notices.
const noticeEvery = 2 * time.Second

func newNotice(w io.Writer) *notice { return &notice{w: screen.Of(w), terminal: isTerminal(w)} }

func (n *notice) show(text string) {
	if text == n.text || (!n.terminal && time.Since(n.at) < noticeEvery) {
		return
	}
	n.text, n.at = text, time.Now()
	if !n.terminal {
		fmt.Fprintln(n.w, text)
		return
	}
	n.w.Replace(text)
}

// clear removes the line from a terminal.
func (n *notice) clear() {
	if n.terminal && n.text != "" {
		n.w.Replace("")
	}
	n.text = ""
}

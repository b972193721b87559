// Package screen writes what operators read. Everything that a command says passes one Writer, which shows escape
// sequences and bidirectional characters of publishers and handlers as escapes; its own colours and tables are added
// behind that, so no text of others can look like them.
package screen

import (
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"

	"leasehold/internal/printable"
)

// Writer is stdout or stderr of a command. It is safe for several goroutines.
type Writer struct {
	w    io.Writer // What is written to.
	tty  io.Writer // What is looked at: w, or the terminal that a buffer is written to later.
	wide bool      // Tables show all columns. Set before anything is written.
	// paints is whether to use colours. Set before anything is written.
	paints bool
	// program is what commands in backquotes begin with instead of "leasehold"; empty: that. Set before anything is
	// written.
	program string

	mu   sync.Mutex
	part []byte // Beginning of a rune whose end was not written yet, guarded by mu.
}

// New makes a Writer. Colours are for terminals, unless the environment says otherwise.
func New(w io.Writer) *Writer {
	s := &Writer{w: w, tty: w}
	s.paints = s.Terminal() && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	return s
}

// Of is w itself if it is a Writer already.
func Of(w io.Writer) *Writer {
	if s, ok := w.(*Writer); ok {
		return s
	}
	return New(w)
}

// Onto is a Writer to a buffer whose content is shown later on the same terminal.
func (s *Writer) Onto(w io.Writer) *Writer {
	return &Writer{w: w, tty: s.tty, wide: s.wide, paints: s.paints, program: s.program}
}

// SetWide has tables show all columns, whole.
func (s *Writer) SetWide() { s.wide = true }

// SetColour overrules what New decided.
func (s *Writer) SetColour(on bool) { s.paints = on }

// SetProgram has commands in backquotes call the binary as its user does, so that they can be pasted.
func (s *Writer) SetProgram(name string) { s.program = name }

// shown makes one line of text fit to be shown.
func (s *Writer) shown(text string) string {
	if s.program != "" {
		text = strings.ReplaceAll(text, "`leasehold ", "`"+s.program+" ")
	}
	return printable.Line(text)
}

// Raw is what is behind the Writer: for cursor movements of our own, never for text of others.
func (s *Writer) Raw() io.Writer { return s.w }

// Write shows text, JSON too, without what could steer a terminal.
func (s *Writer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := p
	if len(s.part) > 0 {
		all = append(s.part, p...)
	}
	whole := len(all) - cutOff(all)
	s.part = append([]byte(nil), all[whole:]...)
	if _, err := io.WriteString(s.w, printable.Text(string(all[:whole]))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Flush writes the beginning of a rune that was never ended.
func (s *Writer) Flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.part) == 0 {
		return
	}
	_, _ = io.WriteString(s.w, printable.Text(string(s.part))) // The next write reports a broken pipe, if there is one.
	s.part = nil
}

// cutOff is how many bytes at the end begin a rune that is not complete.
func cutOff(p []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(p); n++ {
		if tail := p[len(p)-n:]; utf8.RuneStart(tail[0]) {
			if utf8.FullRune(tail) {
				return 0
			}
			return n
		}
	}
	return 0
}

// Terminal reports whether an operator watches.
func (s *Writer) Terminal() bool {
	f, ok := s.tty.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// The size of a terminal that does not say.
const (
	defaultWidth  = 80
	defaultHeight = 24
)

// Size is 0, 0 if it is not a terminal.
func (s *Writer) Size() (width, height int) {
	if !s.Terminal() {
		return 0, 0
	}
	width, height, err := term.GetSize(int(s.tty.(*os.File).Fd()))
	if err != nil || width <= 0 {
		width, height = fromEnvironment("COLUMNS", defaultWidth), fromEnvironment("LINES", defaultHeight)
	}
	return width, height
}

func fromEnvironment(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
		return n
	}
	return otherwise
}

// Say prints a line that begins with a coloured word, like "NOT OK:". On a terminal it is wrapped between words.
func (s *Writer) Say(c Colour, lead, line string) error {
	width, _ := s.Size()
	lead = printable.Line(lead)
	lines := wrap(lead+" "+s.shown(line), width)
	lines[0] = s.paint(c, lead) + strings.TrimPrefix(lines[0], lead)
	_, err := io.WriteString(s.w, strings.Join(lines, "\n  ")+"\n")
	return err
}

// Tell prints a line of ours. On a terminal it is wrapped between words.
func (s *Writer) Tell(line string) error {
	width, _ := s.Size()
	_, err := io.WriteString(s.w, strings.Join(wrap(s.shown(line), width), "\n  ")+"\n")
	return err
}

// labelWidth is where the values of Field begin.
const labelWidth = 14

// Field prints a named value, wrapped beside its name on a terminal.
func (s *Writer) Field(name, value string) error {
	width, _ := s.Size()
	lines := wrap(printable.Line(value), max(0, width-labelWidth))
	head := text.Pad(printable.Line(name), labelWidth, ' ')
	_, err := io.WriteString(s.w, head+strings.Join(lines, "\n"+strings.Repeat(" ", labelWidth))+"\n")
	return err
}

// wrap breaks a line into lines of a width, the second and later of which are indented by two. A command in backquotes
// and a word that is too long stay whole: an operator copies them. Width 0 breaks nothing.
func wrap(line string, width int) []string {
	if width <= 0 {
		return []string{line}
	}
	var lines []string
	room, now := width, ""
	for _, word := range words(line) {
		switch {
		case now == "":
			now = word
		case text.StringWidth(now)+1+text.StringWidth(word) <= room:
			now += " " + word
		default:
			lines, now, room = append(lines, now), word, width-2
		}
	}
	return append(lines, now)
}

// words splits at blanks that are not within backquotes.
func words(line string) []string {
	quoted := false
	return strings.FieldsFunc(line, func(r rune) bool {
		if r == '`' {
			quoted = !quoted
		}
		return r == ' ' && !quoted
	})
}

// Fit shows a line of text cut to the terminal's width, which an operator expects where lines are many.
func (s *Writer) Fit(line string) error {
	line = printable.Line(line)
	if width, _ := s.Size(); width > 0 {
		line = text.Snip(line, width, "…")
	}
	_, err := io.WriteString(s.w, line+"\n")
	return err
}

// Replace puts a text over the line of a terminal where the cursor is.
func (s *Writer) Replace(line string) {
	width, _ := s.Size()
	_, _ = io.WriteString(s.w, "\r\033[K"+text.Snip(printable.Line(line), max(0, width-1), "…")) // Progress only.
}

package process

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	"leasehold/worker/header"

	"github.com/hashicorp/go-hclog"
)

const (
	// MaxLine bounds a line from a child, in bytes. A reply needs far less; the rest of a longer line is dropped.
	MaxLine = 1 << 20
	// MaxOutputLine bounds a line of output that cannot be a reply, in bytes.
	MaxOutputLine = 64 << 10
	// maxLogged bounds how much of a line of output is logged, in bytes.
	maxLogged = 2 << 10
	// keptOutput is how much of a program's output is kept to say why it failed, in bytes.
	keptOutput = 4 << 10
	// A program may log outputBurst lines at once and outputRate lines a second in the long run. More is counted and
	// dropped: a log that drowns everything else, or fills the disk, hurts the node.
	outputBurst = 200
	outputRate  = 50
)

// ReadLines calls fn for each line of r, without its end and cut to limit bytes, until r ends. The line is only valid
// during the call.
func ReadLines(r io.Reader, limit int, fn func(line []byte)) {
	in := bufio.NewReader(r) // A small buffer: there are two for each process, and exec has a process for each message.
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part[:min(len(part), limit+1-len(line))]...)
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err == nil || len(line) > 0 {
			fn(bytes.TrimRight(line[:min(len(line), limit)], "\r\n"))
		}
		if err != nil {
			return
		}
		if line = line[:0]; cap(line) > 64<<10 {
			line = nil
		}
	}
}

// Output logs what a program writes and keeps the end of it. Safe for several goroutines.
type Output struct {
	log   hclog.Logger
	limit *OutputLimit

	mu   sync.Mutex
	tail []byte // Last ≤ keptOutput bytes of what is kept, guarded by mu.
}

// OutputLimit is how much may be logged, of one program or of several together. Safe for several goroutines.
type OutputLimit struct {
	mu      sync.Mutex
	credit  float64   // Lines that may be logged now, ≤ outputBurst, guarded by mu.
	filled  time.Time // When credit was last computed, guarded by mu.
	dropped int       // Lines dropped since the last that was logged, guarded by mu.
}

// NewOutputLimit returns a limit with all its credit.
func NewOutputLimit() *OutputLimit { return &OutputLimit{credit: outputBurst, filled: time.Now()} }

// NewOutput logs to log, within limit.
func NewOutput(log hclog.Logger, limit *OutputLimit) *Output { return &Output{log: log, limit: limit} }

// Stderr logs a line of standard error and keeps it for Last.
func (o *Output) Stderr(line []byte) {
	o.keep(line)
	o.write("stderr", line)
}

// Stdout logs a line of standard output that is not a reply.
func (o *Output) Stdout(line []byte) { o.write("stdout", line) }

// StdoutKept is Stdout for a program that may give its reasons there: the line is kept for Last, too.
func (o *Output) StdoutKept(line []byte) {
	o.keep(line)
	o.Stdout(line)
}

func (o *Output) keep(line []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tail = append(append(o.tail, line...), '\n')
	if over := len(o.tail) - keptOutput; over > 0 {
		o.tail = append(o.tail[:0], o.tail[over:]...)
	}
}

func (o *Output) write(stream string, line []byte) {
	if len(bytes.TrimSpace(line)) == 0 {
		return
	}
	ok, dropped := o.limit.take(time.Now())
	if dropped > 0 {
		o.log.Warn("handler output dropped: rate limit exceeded", "lines", dropped)
	}
	if ok {
		o.log.Log(levelOf(line), "handler output", "stream", stream, "line",
			header.Cut(string(line[:min(len(line), maxLogged)]), maxLogged))
	}
}

// take reports whether a line may be logged, and how many dropped lines are to be reported before it.
func (l *OutputLimit) take(now time.Time) (ok bool, dropped int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.credit = min(outputBurst, l.credit+outputRate*now.Sub(l.filled).Seconds())
	l.filled = now
	if l.credit < 1 {
		l.dropped++
		return false, 0
	}
	l.credit--
	// Reported only once a good part of the credit is back: otherwise a flood of lines would cause a flood of warnings.
	if l.credit > outputBurst/4 {
		dropped, l.dropped = l.dropped, 0
	}
	return true, dropped
}

// Last returns the last kept lines, joined to one line for a reason; empty if there are none.
func (o *Output) Last() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(string(o.tail)), "\n")
	text := strings.Join(lines[max(0, len(lines)-5):], " | ")
	return header.Cut(header.OneLine(text[max(0, len(text)-header.MaxReason/2):]), header.MaxReason/2)
}

// Explain adds the last words of the program, if there are any, to the reason of its failure.
func (o *Output) Explain(reason string) string {
	if last := o.Last(); last != "" {
		reason += ": " + last
	}
	return reason
}

// levelOf returns the level of a line by its first word, as most loggers write it.
func levelOf(line []byte) hclog.Level {
	word, _, _ := bytes.Cut(bytes.TrimLeft(line, " [<"), []byte(" "))
	switch strings.ToUpper(strings.TrimRight(header.Cut(string(word[:min(len(word), 16)]), 16), "]>:")) {
	case "ERROR", "FATAL", "CRITICAL", "PANIC":
		return hclog.Error
	case "WARN", "WARNING":
		return hclog.Warn
	case "DEBUG", "TRACE":
		return hclog.Debug
	}
	return hclog.Info
}

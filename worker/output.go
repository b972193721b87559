package worker

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	// maxLine bounds a line from a child, in bytes. An answer needs far less; the rest of a longer line is dropped.
	maxLine = 1 << 20
	// maxLogged bounds how much of a line of output is logged, in bytes.
	maxLogged = 2 << 10
	// keptOutput is how much of a child's stderr is kept to say why it failed, in bytes.
	keptOutput = 4 << 10
	// A child may log outputBurst lines at once and outputRate lines a second in the long run. More is counted and
	// dropped: a log that drowns everything else, or fills the disk, hurts the node.
	outputBurst = 200
	outputRate  = 50
)

// readLines calls fn for each line of r, without its end and cut to limit bytes, until r ends. The line is only valid
// during the call.
func readLines(r io.Reader, limit int, fn func(line []byte)) {
	in := bufio.NewReaderSize(r, 64<<10)
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

// output logs what a child says and keeps the end of its stderr. Safe for several goroutines.
type output struct {
	log hclog.Logger

	mu      sync.Mutex
	tail    []byte    // Last ≤ keptOutput bytes of stderr, guarded by mu.
	credit  float64   // Lines that may be logged now, ≤ outputBurst, guarded by mu.
	filled  time.Time // When credit was last reckoned, guarded by mu.
	dropped int       // Lines dropped since the last that was logged, guarded by mu.
}

func newOutput(log hclog.Logger) *output {
	return &output{log: log, credit: outputBurst, filled: time.Now()}
}

// stderr takes a line of standard error.
func (o *output) stderr(line []byte) {
	o.keep(line)
	o.write("stderr", line)
}

// stdout takes a line of standard output that is no answer.
func (o *output) stdout(line []byte) { o.write("stdout", line) }

func (o *output) keep(line []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tail = append(append(o.tail, line...), '\n')
	if over := len(o.tail) - keptOutput; over > 0 {
		o.tail = append(o.tail[:0], o.tail[over:]...)
	}
}

func (o *output) write(stream string, line []byte) {
	if len(bytes.TrimSpace(line)) == 0 {
		return
	}
	ok, dropped := o.take(time.Now())
	if dropped > 0 {
		o.log.Warn("handler output dropped, it writes too much", "lines", dropped)
	}
	if ok {
		o.log.Log(levelOf(line), "handler output", "stream", stream, "line", cut(string(line[:min(len(line), maxLogged)]), maxLogged))
	}
}

// take reports whether a line may be logged, and how many were dropped before it if that is to be said now.
func (o *output) take(now time.Time) (ok bool, dropped int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.credit = min(outputBurst, o.credit+outputRate*now.Sub(o.filled).Seconds())
	o.filled = now
	if o.credit < 1 {
		o.dropped++
		return false, 0
	}
	o.credit--
	// Said only once a good part of the credit is back: otherwise a flood would be answered by a flood of warnings.
	if o.credit > outputBurst/4 {
		dropped, o.dropped = o.dropped, 0
	}
	return true, dropped
}

// last returns the last lines of stderr in one line, for a reason; empty if there are none.
func (o *output) last() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(string(o.tail)), "\n")
	text := strings.Join(lines[max(0, len(lines)-5):], " | ")
	return cut(text[max(0, len(text)-maxReason/2):], maxReason/2)
}

// levelOf takes the level of a line from its first word, as most loggers write it.
func levelOf(line []byte) hclog.Level {
	word, _, _ := bytes.Cut(bytes.TrimLeft(line, " [<"), []byte(" "))
	switch strings.ToUpper(strings.TrimRight(cut(string(word[:min(len(word), 16)]), 16), "]>:")) {
	case "ERROR", "FATAL", "CRITICAL", "PANIC":
		return hclog.Error
	case "WARN", "WARNING":
		return hclog.Warn
	case "DEBUG", "TRACE":
		return hclog.Debug
	}
	return hclog.Info
}

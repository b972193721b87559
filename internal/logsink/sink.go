// Package logsink stands between the loggers of a process and its stderr, so that a log that cannot be written costs
// log lines and nothing else: a logger never waits for the reader of the log.
package logsink

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxQueued bounds what waits to be written, in bytes. It holds the lines of several minutes of a healthy node.
const maxQueued = 1 << 20

// Sink is a writer that never blocks. What does not fit is dropped and counted. Safe for several goroutines; a nil Sink
// has dropped nothing and has nothing to flush.
type Sink struct {
	out    io.Writer // Written to by the goroutine only.
	notice func(dropped uint64) []byte
	wake   chan struct{} // Buffered 1: there is something in the queue.
	done   chan struct{} // Closed when the goroutine has ended.
	torn   bool          // The last write ended inside a line. Owned by the goroutine.
	fails  bool          // The last write failed. Owned by the goroutine.

	mu      sync.Mutex
	queue   []entry
	size    int    // Bytes of queue, ≤ maxQueued.
	unsaid  uint64 // Lines dropped since the last notice that was queued or written.
	dropped uint64 // Lines dropped since the start.
	stuck   bool   // The last line did not fit or could not be written.
	closed  bool
}

// entry is a line, or a mark.
type entry struct {
	text   []byte
	before uint64        // Lines dropped right before this one.
	mark   chan struct{} // Of Flush: closed when all before it is written. nil for a line.
}

// Open starts a sink in front of out. notice makes the text that says how many lines were dropped, which is written as
// soon as something can be written again. The goroutine ends with Close, or not at all if out never returns.
func Open(out io.Writer, notice func(dropped uint64) []byte) *Sink {
	s := &Sink{out: out, notice: notice, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go s.run()
	return s
}

// Write queues a line or drops it. It never fails, since a failure could not be logged.
func (s *Sink) Write(line []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.size+len(line) > maxQueued {
		s.loseLocked(1)
		return len(line), nil
	}
	s.pushLocked(entry{text: bytes.Clone(line), before: s.unsaid})
	s.unsaid = 0
	return len(line), nil
}

// Dropped is how many lines were dropped since the start, and whether lines are being dropped now.
func (s *Sink) Dropped() (lines uint64, now bool) {
	if s == nil {
		return 0, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dropped, s.stuck
}

// Flush waits until all that was queued before is written, and reports whether that happened within the limit.
func (s *Sink) Flush(limit time.Duration) bool {
	if s == nil {
		return true
	}
	mark := make(chan struct{})
	s.mu.Lock()
	if !s.closed {
		s.pushLocked(entry{mark: mark})
	}
	s.mu.Unlock()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-mark:
		return true
	case <-s.done:
		return true
	case <-timer.C:
		return false
	}
}

// Close writes what is queued, within the limit. What comes later is dropped.
func (s *Sink) Close(limit time.Duration) {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.signal()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-s.done:
	case <-timer.C:
	}
}

func (s *Sink) pushLocked(e entry) {
	s.queue = append(s.queue, e)
	s.size += len(e.text)
	s.signal()
}

func (s *Sink) loseLocked(lines uint64) {
	s.unsaid += lines
	s.dropped += lines
	s.stuck = true
}

func (s *Sink) signal() {
	select {
	case s.wake <- struct{}{}:
	default: // It will look anyway.
	}
}

// run writes queued lines until the sink is closed and empty.
func (s *Sink) run() {
	defer close(s.done)
	for {
		e, more, closed := s.next()
		switch {
		case more:
			s.put(e)
		case closed:
			return
		default:
			<-s.wake
		}
	}
}

// next takes the first entry. At the end, dropped lines are an entry too: no line may ever follow that could carry
// their notice. Not after a failure, or a broken log would be tried without end.
func (s *Sink) next() (e entry, more, closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) > 0 {
		e, s.queue = s.queue[0], s.queue[1:]
		s.size -= len(e.text)
		return e, true, false
	}
	s.queue = nil
	if s.unsaid > 0 && !s.fails {
		e.before, s.unsaid = s.unsaid, 0
		return e, true, false
	}
	return entry{}, false, s.closed
}

// put writes an entry, after the notice of what was dropped before it.
func (s *Sink) put(e entry) {
	if e.mark != nil {
		close(e.mark)
		return
	}
	if e.before > 0 && s.write(s.notice(e.before)) == nil {
		e.before = 0
	}
	s.fails = e.before > 0 || s.write(e.text) != nil
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unsaid += e.before // They are in dropped already.
	s.stuck = s.unsaid > 0
	if s.fails && len(e.text) > 0 {
		s.loseLocked(1)
	}
}

// write writes a whole text or returns why not. After half a line it begins a new one.
func (s *Sink) write(text []byte) error {
	if s.torn && len(text) > 0 {
		text = append([]byte("\n"), text...)
	}
	for len(text) > 0 {
		n, err := s.out.Write(text)
		if n > 0 {
			s.torn = n < len(text)
		}
		text = text[n:]
		switch {
		case errors.Is(err, unix.EAGAIN) && awaitWritable(s.out):
		case err != nil:
			return err
		}
	}
	return nil
}

// awaitWritable waits until a descriptor takes more that another process has made non-blocking: whoever else has the
// same terminal or pipe can do that at any time.
func awaitWritable(w io.Writer) bool {
	c, ok := w.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	ready := false
	err = raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		_, err := unix.Poll(fds, -1)
		ready = err == nil || errors.Is(err, unix.EINTR)
	})
	return err == nil && ready
}

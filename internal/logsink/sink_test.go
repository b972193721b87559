package logsink

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const limit = 10 * time.Second

func notice(n uint64) []byte { return fmt.Appendf(nil, "dropped %d\n", n) }

// target is a writer whose behaviour can be changed.
type target struct {
	mu   sync.Mutex
	text strings.Builder
	fail error
	cut  int // Bytes that a failing write still takes.
	gate chan struct{}
}

func (w *target) Write(p []byte) (int, error) {
	if w.gate != nil {
		<-w.gate
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fail != nil {
		n := min(w.cut, len(p))
		w.text.Write(p[:n])
		return n, w.fail
	}
	return w.text.Write(p)
}

func (w *target) set(err error, cut int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fail, w.cut = err, cut
}

func (w *target) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// noticed adds up the notices in a log.
func noticed(log string) (lines uint64) {
	for line := range strings.Lines(log) {
		var n uint64
		if _, err := fmt.Sscanf(line, "dropped %d\n", &n); err == nil {
			lines += n
		}
	}
	return lines
}

func say(t *testing.T, s *Sink, lines ...string) {
	t.Helper()
	for _, l := range lines {
		if n, err := s.Write([]byte(l + "\n")); n != len(l)+1 || err != nil {
			t.Fatalf("Write = %d, %v", n, err)
		}
	}
}

func TestLinesComeOutInOrder(t *testing.T) {
	w := &target{}
	s := Open(w, notice)
	line := []byte("a\n")
	s.Write(line)
	line[0] = 'x' // The caller's buffer is its own again.
	say(t, s, "b", "c")
	s.Close(limit)
	if got := w.String(); got != "a\nb\nc\n" {
		t.Errorf("wrote %q", got)
	}
	if n, now := s.Dropped(); n != 0 || now {
		t.Errorf("Dropped = %d, %v", n, now)
	}
}

func TestAFullQueueDropsAndCounts(t *testing.T) {
	w := &target{gate: make(chan struct{})}
	s := Open(w, notice)
	big := strings.Repeat("x", maxQueued/4)
	for range 10 {
		say(t, s, big)
	}
	n, now := s.Dropped()
	if n < 5 || !now {
		t.Fatalf("Dropped = %d, %v, want 5 or more, now", n, now)
	}
	if s.Flush(10 * time.Millisecond) {
		t.Error("flushed what nobody takes")
	}
	close(w.gate)
	if !s.Flush(limit) {
		t.Fatal("does not flow again")
	}
	say(t, s, "after")
	s.Close(limit)
	if said := noticed(w.String()); said != n || !strings.HasSuffix(w.String(), "after\n") {
		t.Errorf("notices of %d lines, want %d", said, n)
	}
	if again, now := s.Dropped(); again != n || now {
		t.Errorf("Dropped = %d, %v, want %d, not now", again, now, n)
	}
}

func TestAFailingWriterIsTriedAgain(t *testing.T) {
	for name, err := range map[string]error{"full disk": syscall.ENOSPC, "reader gone": syscall.EPIPE,
		"terminal gone": syscall.EIO, "quota": syscall.EDQUOT} {
		t.Run(name, func(t *testing.T) {
			w := &target{}
			s := Open(w, notice)
			w.set(err, 3)
			say(t, s, "first", "second")
			s.Flush(limit)
			w.set(nil, 0)
			say(t, s, "third")
			s.Close(limit)
			if got := w.String(); got != "fir\nse\ndropped 2\nthird\n" {
				t.Errorf("wrote %q", got)
			}
			if n, now := s.Dropped(); n != 2 || now {
				t.Errorf("Dropped = %d, %v", n, now)
			}
		})
	}
}

func TestARealPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	s := Open(w, notice)
	for range 100 {
		say(t, s, strings.Repeat("x", 64<<10))
	}
	if n, now := s.Dropped(); n == 0 || !now {
		t.Fatalf("Dropped = %d, %v with a pipe that nobody reads", n, now)
	}
	go io.Copy(io.Discard, r)
	if !s.Flush(limit) {
		t.Fatal("does not flow again once it is read")
	}
	s.Close(limit)
}

// Another process that has the same pipe may make it non-blocking.
func TestANonBlockingDescriptor(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	fd, err := syscall.Dup(int(w.Fd())) // Fd makes it blocking, and the runtime's poller knows nothing of the copy.
	if err != nil {
		t.Fatal(err)
	}
	out := os.NewFile(uintptr(fd), "pipe")
	if err := syscall.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	s := Open(out, notice)
	for range 8 {
		say(t, s, strings.Repeat("x", 64<<10))
	}
	read := make(chan int64)
	go func() { n, _ := io.Copy(io.Discard, io.LimitReader(r, 8*(64<<10+1))); read <- n }()
	if n := <-read; n != 8*(64<<10+1) {
		t.Errorf("read %d bytes", n)
	}
	s.Close(limit)
	if n, _ := s.Dropped(); n != 0 {
		t.Errorf("dropped %d lines that only had to wait", n)
	}
}

func TestWriteAfterCloseIsDropped(t *testing.T) {
	s := Open(&target{}, notice)
	s.Close(limit)
	<-s.done
	say(t, s, "late")
	if n, _ := s.Dropped(); n != 1 || !s.Flush(limit) {
		t.Errorf("Dropped = %d", n)
	}
}

func TestNoSink(t *testing.T) {
	var s *Sink
	if n, now := s.Dropped(); n != 0 || now || !s.Flush(0) {
		t.Error("a nil sink has something")
	}
}

// No line may follow that could carry the notice.
func TestTheNoticeComesWithoutAnotherLine(t *testing.T) {
	w := &target{gate: make(chan struct{})}
	s := Open(w, notice)
	say(t, s, strings.Repeat("x", maxQueued-1))
	for n := uint64(0); n == 0; n, _ = s.Dropped() {
		say(t, s, strings.Repeat("y", maxQueued-1))
	}
	close(w.gate)
	s.Close(limit)
	if n, _ := s.Dropped(); noticed(w.String()) != n {
		t.Errorf("notices of %d lines, want %d", noticed(w.String()), n)
	}
}

// Whatever the writer returns, nobody who logs gets to know.
func TestWriteNeverFails(t *testing.T) {
	w := &target{}
	w.set(errors.New("broken"), 0)
	s := Open(w, notice)
	say(t, s, "a", "b", "c")
	s.Close(limit)
	if n, now := s.Dropped(); n != 3 || !now {
		t.Errorf("Dropped = %d, %v, want 3, now", n, now)
	}
}

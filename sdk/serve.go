package sdk

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"sync"
	"time"
)

// ErrNodeGone is the cause with which contexts end when the node is gone: stdin has ended, or stdout cannot be written.
var ErrNodeGone = errors.New("the node is gone")

// Run serves the node that started this process, on its standard streams, until the node says stop, is gone, or ctx
// ends. It is called once, as the last thing that main does: afterwards the process should exit. It returns nil after a
// stop and at the end of stdin.
func Run(ctx context.Context, h Handler) error {
	out, err := takeStdout()
	if err != nil {
		return fmt.Errorf("take stdout for the protocol: %w", err)
	}
	return Serve(ctx, h, os.Stdin, out)
}

// Serve is Run on other streams, for tests. It leaves stdout alone. When ctx ends before in does, a goroutine stays
// blocked in its read from in.
func Serve(ctx context.Context, h Handler, in io.Reader, out io.Writer) error {
	if h.Handle == nil {
		return errors.New("sdk: Handler.Handle is nil")
	}
	if h.Grace <= 0 {
		h.Grace = time.Second
	}
	calls, end := context.WithCancelCause(ctx)
	defer end(nil)
	s := &server{
		Handler: h, in: &lineReader{in: bufio.NewReaderSize(in, 64<<10)}, out: &writer{out: out},
		calls: calls, end: end, queues: make(map[int]*queue),
	}
	ended := make(chan error, 1)
	go func() { ended <- s.read() }() //nolint:contextcheck // Calls get s.calls, which is made of ctx.
	select {
	case err := <-ended:
		return s.finish(err)
	case <-calls.Done():
		return s.finish(context.Cause(calls))
	}
}

// server is one run. The goroutine of read dispatches lines; each queue that is not empty has a goroutine that works.
type server struct {
	Handler
	in    *lineReader
	out   *writer
	calls context.Context // Of all calls.
	end   context.CancelCauseFunc
	begun bool   // init has come. Of read.
	token string // Of init. Written before the first queue works.

	wg     sync.WaitGroup // The queues at work.
	mu     sync.Mutex     // Guards the fields below, and the lines of queues.
	queues map[int]*queue
	closed bool // No more lines are taken.
}

// queue holds the lines of a partition, or of all partitions without Parallel, that have not been worked on.
type queue struct {
	lines []*line
	busy  bool

	// Of the goroutine that works.
	pending map[int]Assignment // Partitions whose Assign has failed.
}

// errStop ends read when the node has said stop.
var errStop = errors.New("stop")

// read dispatches lines until the node says stop or is gone.
func (s *server) read() error {
	for {
		text, err := s.in.next()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return err
		}
		if text = bytes.TrimSpace(text); len(text) == 0 {
			continue
		}
		l, err := parseLine(text)
		if err != nil {
			return err
		}
		if l == nil {
			continue
		}
		if err := s.dispatch(l); err != nil {
			return err
		}
	}
}

func (s *server) dispatch(l *line) error {
	switch {
	case l.Type == typeInit:
		return s.init(l)
	case !s.begun:
		return fmt.Errorf("the node began with a line of type %q instead of init", l.Type)
	case l.Type == typeStop:
		s.wg.Wait()
		_ = s.out.write(reply{Type: typeAck, ID: l.ID, Token: s.token}) // The node need not wait for it.
		return errStop
	}
	s.enqueue(l)
	return nil
}

func (s *server) init(l *line) (err error) {
	switch {
	case s.begun:
		return errors.New("the node sent init twice")
	case l.V != version:
		return fmt.Errorf("the node speaks version %d of the protocol, not %d", l.V, version)
	}
	s.begun, s.token = true, l.Token
	if s.Init != nil {
		in := Init{l.App, l.Node, l.Group, l.Topic, l.MaxBatch, l.Config}
		if err := guard(func() error { return s.Init(s.calls, in) }); err != nil {
			return fmt.Errorf("init: %w", err)
		}
	}
	var wants []string
	if s.Parallel {
		wants = append(wants, "parallel")
	}
	if s.HandleBatch != nil {
		wants = append(wants, "batch")
	}
	return s.out.write(reply{Type: typeAck, ID: l.ID, Token: s.token, Wants: wants})
}

// enqueue has a line worked on after those before it.
func (s *server) enqueue(l *line) {
	key := 0
	if s.Parallel {
		key = l.Partition
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	q := s.queues[key]
	if q == nil {
		q = &queue{pending: make(map[int]Assignment)}
		s.queues[key] = q
	}
	q.lines = append(q.lines, l)
	if !q.busy {
		q.busy = true
		s.wg.Go(func() { s.work(q) })
	}
}

// work empties a queue.
func (s *server) work(q *queue) {
	for {
		s.mu.Lock()
		if len(q.lines) == 0 {
			q.busy = false
			s.mu.Unlock()
			return
		}
		l := q.lines[0]
		q.lines = q.lines[1:]
		s.mu.Unlock()
		if s.calls.Err() != nil {
			continue // Nobody wants the answer.
		}
		if err := s.out.write(s.reply(q, l)); err != nil {
			s.end(fmt.Errorf("%w: %w", ErrNodeGone, err))
		}
	}
}

// reply does what a line asks and returns the answer.
func (s *server) reply(q *queue, l *line) reply {
	var r reply
	switch l.Type {
	case typeAssign:
		_ = s.assign(q, l.assignment()) // It has noted the error, and messages are unavailable until it succeeds.
		r.Type = typeAck
	case typeRevoke:
		delete(q.pending, l.Partition)
		if s.Revoke != nil {
			_ = guard(func() error { s.Revoke(s.calls, l.assignment(), l.Reason); return nil })
		}
		r.Type = typeAck
	case typeMessage:
		r = s.message(q, l)
	case typeBatch:
		r = s.batch(q, l)
	}
	r.ID, r.Token = l.ID, s.token
	return r
}

// assign tells the program of a partition, and notes it if that fails.
func (s *server) assign(q *queue, a Assignment) error {
	if s.Assign == nil {
		return nil
	}
	delete(q.pending, a.Partition)
	err := guard(func() error { return s.Assign(s.calls, a) })
	if err != nil {
		q.pending[a.Partition] = a
		fmt.Fprintf(os.Stderr, "WARN assign partition %d: %s\n", a.Partition, reason(err))
	}
	return err
}

// assigned repeats a failed Assign of the partition.
func (s *server) assigned(q *queue, partition int) error {
	a, failed := q.pending[partition]
	if !failed {
		return nil
	}
	err := s.assign(q, a)
	var e *Error
	if err == nil || errors.As(err, &e) && e.Status == StatusPause {
		return err
	}
	after := time.Duration(0)
	if e != nil {
		after = e.After
	}
	return Unavailable(after, fmt.Errorf("assign partition %d: %w", partition, err))
}

func (s *server) message(q *queue, l *line) reply {
	err := s.assigned(q, l.Partition)
	if err == nil {
		err = s.call(l.Timeout, func(ctx context.Context) error { return s.Handle(ctx, &l.Message) })
	}
	return reply{Type: typeResult, outcome: outcomeOf(err)}
}

func (s *server) batch(q *queue, l *line) reply {
	ms := make([]*Message, len(l.Messages))
	for i := range l.Messages {
		ms[i] = &l.Messages[i].Message
	}
	err := s.assigned(q, l.Partition)
	if err == nil {
		err = s.call(ms[0].Timeout, func(ctx context.Context) error { return s.HandleBatch(ctx, ms) })
	}
	r := batchReply(ms, err)
	r.Type = typeResult
	return r
}

// call calls f with a context that ends at the timeout.
func (s *server) call(timeout time.Duration, f func(context.Context) error) error {
	ctx, cancel := s.calls, context.CancelFunc(func() {})
	if timeout > 0 {
		ctx, cancel = context.WithTimeout(ctx, timeout)
	}
	defer cancel()
	return guard(func() error { return f(ctx) })
}

// guard calls f and makes a panic an error.
func guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
			fmt.Fprintf(os.Stderr, "ERROR handler panicked: %v\n%s\n", p, debug.Stack())
		}
	}()
	return f()
}

// finish ends the calls in flight, waits for them, and returns what Serve does.
func (s *server) finish(err error) error {
	if errors.Is(err, errStop) {
		return nil // read has waited for them.
	}
	s.end(ErrNodeGone)
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	done := make(chan struct{})
	go func() { s.wg.Wait(); close(done) }()
	timer := time.NewTimer(s.Grace)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
	return err
}

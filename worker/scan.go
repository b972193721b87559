package worker

import (
	"context"
	"errors"
	"leasehold/internal/every"
	"time"

	"github.com/nats-io/nats.go"
)

// flushEvery is how many messages a reader passes on at most before it wakes up the lanes that got some. A wake-up
// costs more than a message, so a lane should find several.
const flushEvery = 256

// scan is a reader's way through the stream: a session after another, every sequence in turn.
type scan struct {
	r       *Reader
	name    string
	pos     uint64 // Next sequence expected.
	session *session
	offer   func(e *entry)    // Gives the message at pos to the lanes and moves pos on.
	skip    func(to uint64)   // Moves pos on to a sequence before which nothing is stored any more.
	miss    func(text string) // Stops the lanes before the message at pos, which is missing, and moves pos on.
	beat    func() error      // Looks after the session; an error ends it.
	wake    <-chan struct{}   // Lets follow return; nil for never.
	replan  bool              // Lets follow return: the catch-up reader must decide anew where to read.
	entry   entry             // The message at pos. Lanes copy it.
	wakes   []FedLane         // Lanes that have been given something while they were parked.
}

// push gives a message to a lane. Waking it up waits until there is nothing more to push at once.
func (s *scan) push(f *feed, e *entry) bool {
	ok, wake := f.lane.Push(e)
	if wake {
		s.wakes = append(s.wakes, f.lane)
	}
	return ok
}

func (s *scan) flush() {
	for i, l := range s.wakes {
		l.Signal()
		s.wakes[i] = nil
	}
	s.wakes = s.wakes[:0]
}

// open opens a session from the sequence, 0 for the head. What was purged before the session's start remains to be
// passed, by fill.
func (s *scan) open(ctx context.Context, from uint64) error {
	session, err := s.r.opener.open(ctx, readerConfig(from))
	if err != nil {
		return err
	}
	s.session = session
	s.r.Logger.Debug("reading", "reader", s.name, "from", from, "local", session.local)
	return nil
}

func (s *scan) close() {
	if s.session != nil {
		s.session.close()
		s.session = nil
	}
}

// pauseAfter waits a little after an error, so that a broker that is away is not asked in a hot loop.
func (s *scan) pauseAfter(ctx context.Context, err error) {
	if err == nil || ctx.Err() != nil {
		return
	}
	s.r.Logger.Debug("reading again", "reader", s.name, "position", s.pos, "error", err)
	if errors.Is(err, errMoved) {
		return
	}
	every.Sleep(ctx, reopenAfter)
}

// follow reads until ctx ends, the session is lost, or the catch-up reader has to decide anew.
func (s *scan) follow(ctx context.Context) error {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for !s.replan {
		var err error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.session.kick.C:
			err = s.session.kicked()
		case <-tick.C:
			err = s.beat()
		case <-s.wake:
			s.replan = true
		case m := <-s.session.in:
			err = s.takeAll(ctx, m)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// takeAll takes a message and those that wait behind it.
func (s *scan) takeAll(ctx context.Context, m *nats.Msg) error {
	defer s.flush()
	for n := 1; ; n++ {
		if err := s.take(ctx, m); err != nil {
			return err
		}
		if n >= flushEvery || s.replan {
			return nil
		}
		if m = s.session.waiting(); m == nil {
			return nil
		}
	}
}

// take takes what the server sent: a message, or a word about the pull.
func (s *scan) take(ctx context.Context, m *nats.Msg) error {
	d, isMessage, err := s.session.take(m)
	if err != nil || !isMessage {
		return err
	}
	if d.streamSeq < s.pos {
		return nil // From a replica that was behind when the session was opened.
	}
	if d.streamSeq > s.pos {
		if err := s.fill(ctx, d.streamSeq); err != nil {
			return err
		}
	}
	s.entry = entry{seq: d.streamSeq, published: d.published, subject: m.Subject, headers: m.Header, data: m.Data}
	s.offer(&s.entry)
	return nil
}

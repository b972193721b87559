package reader

import (
	"context"
	"errors"
	"time"

	"leasehold/internal/every"
	"leasehold/worker/stream"

	"github.com/nats-io/nats.go"
)

// flushEvery is after how many messages at most a reader wakes up the lanes that it gave some. A wake-up costs more
// than a message, so a lane should find several: with 1 BenchmarkDrain takes a fifth more CPU per message.
const flushEvery = 256

// sink is what a scanner feeds.
type sink interface {
	// deliver pushes the message at pos to the lanes that need it and moves pos past it.
	deliver(e *stream.Entry)
	// skip moves pos to a sequence below which nothing is stored any more.
	skip(to uint64)
	// missing stops the lanes that need the message at pos, which is missing, and moves pos past it. text says what
	// is missing.
	missing(text string)
	// tick is called every stream.TickInterval. An error means that the consumer is lost.
	tick() error
}

// scanner reads the stream: one consumer after another, every sequence in turn.
type scanner struct {
	r        *Reader
	name     string
	pos      uint64 // Next sequence expected.
	consumer *stream.PullConsumer
	sink     sink
	wake     <-chan struct{} // Lets follow return; nil for never.
	replan   bool            // Lets follow return: the catch-up reader must decide again where to read.
	entry    stream.Entry    // The message at pos. Lanes copy it.
	wakes    []Lane          // Waiting lanes that were given something, to be woken up.
}

// push gives a message to a lane. The lane is woken up later, once there is nothing more to push at the moment.
func (s *scanner) push(f *Cursor, e *stream.Entry) bool {
	ok, wake := f.lane.Push(e)
	if wake {
		s.wakes = append(s.wakes, f.lane)
	}
	return ok
}

func (s *scanner) flush() {
	for i, l := range s.wakes {
		l.Signal()
		s.wakes[i] = nil
	}
	s.wakes = s.wakes[:0]
}

// open opens a consumer from the sequence, 0 for the head. fill passes what was purged before the consumer's start.
func (s *scanner) open(ctx context.Context, from uint64) error {
	consumer, err := s.r.opener.Open(ctx, stream.ConsumerConfig(from))
	if err != nil {
		return err
	}
	s.consumer = consumer
	s.r.Logger.Debug("reading", "reader", s.name, "from", from, "local", consumer.Local)
	return nil
}

func (s *scanner) close() {
	if s.consumer != nil {
		s.consumer.Close()
		s.consumer = nil
	}
}

// pauseAfter waits a little after an error, so that an unreachable broker is not asked in a hot loop.
func (s *scanner) pauseAfter(ctx context.Context, err error) {
	if err == nil || ctx.Err() != nil {
		return
	}
	s.r.Logger.Debug("reading again", "reader", s.name, "position", s.pos, "error", err)
	if errors.Is(err, stream.ErrMoved) {
		return
	}
	every.Sleep(ctx, stream.ReopenDelay)
}

// follow reads until ctx ends, the consumer is lost, or the catch-up reader has to decide again.
func (s *scanner) follow(ctx context.Context) error {
	tick := time.NewTicker(stream.TickInterval)
	defer tick.Stop()
	for !s.replan {
		var err error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.consumer.RepullTimer.C:
			err = s.consumer.Repull()
		case <-tick.C:
			err = s.sink.tick()
		case <-s.wake:
			s.replan = true
		case m := <-s.consumer.Messages:
			err = s.takeAll(ctx, m)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// takeAll processes a message and those that wait behind it.
func (s *scanner) takeAll(ctx context.Context, m *nats.Msg) error {
	defer s.flush()
	for n := 1; ; n++ {
		if err := s.take(ctx, m); err != nil {
			return err
		}
		if n >= flushEvery || s.replan {
			return nil
		}
		if m = s.consumer.Buffered(); m == nil {
			return nil
		}
	}
}

// take processes what the server sent: a message, or the status of a pull.
func (s *scanner) take(ctx context.Context, m *nats.Msg) error {
	d, isMessage, err := s.consumer.Receive(m)
	if err != nil || !isMessage {
		return err
	}
	if d.StreamSeq < s.pos {
		return nil // From a replica that was behind when the consumer was opened.
	}
	if d.StreamSeq > s.pos {
		if err := s.fill(ctx, d.StreamSeq); err != nil {
			return err
		}
	}
	s.entry = stream.Entry{Seq: d.StreamSeq, Published: d.Published, Subject: m.Subject, Headers: m.Header, Data: m.Data}
	s.sink.deliver(&s.entry)
	return nil
}

// Package reader feeds the lanes of a topic on one node. A tail reader follows the head of the stream for the lanes
// that keep up, and a catch-up reader feeds all others. No lane is ever fed past a message that is missing.
package reader

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/time/rate"

	"leasehold/partitioner"
	"leasehold/worker/stream"
)

// Options are what a Reader needs.
type Options struct {
	Topic  partitioner.Topic
	JS     jetstream.JetStream
	Logger hclog.Logger

	// LocalServer returns the name of this node's own server, on which the readers' consumers are placed. If it is nil,
	// or the server is not clustered, consumers are placed anywhere.
	LocalServer func() string
	// IdleWrites limits how often a node moves the checkpoint of lanes that have nothing to do; the readers of a node
	// share it. nil: five a second, for this reader alone.
	IdleWrites *rate.Limiter
	// Pressure reports that the topic's stream is so full that idle lanes should not hold its janitor back. nil: never.
	Pressure func() bool

	RecentEntries int // How many messages the tail remembers; 0: 4096.
}

// Reader feeds the lanes of one topic on one node, whatever their groups. It has two readers, both
// unfiltered: the tail follows the head of the stream and feeds the lanes that keep up; the catch-up reader feeds
// all the others, and exists only while there are any.
//
// A reader feeds a lane without gaps: it sees every sequence of the stream, so a missing message is always noticed.
// Sequences are totally ordered, so a lane can change from the catch-up reader to the tail as soon as the former has
// come as far as the latter: no message is missed, and none comes twice.
type Reader struct {
	Options
	opener stream.Opener
	prefix string        // Of every stored subject, up to the partition.
	wake   chan struct{} // The catch-up reader should look at its lanes again.

	gaps     sync.Mutex // Held while one of the readers looks for a missing message.
	searched struct {   // The last message looked for on every replica. Guarded by gaps.
		seq uint64
		at  time.Time
	}

	mu          sync.Mutex
	cursors     []*Cursor   // In no order.
	byPartition [][]*Cursor // The same by partition: one for each group that holds it.
	behind      int         // How many lanes are behind.
	tailPos     uint64      // Next sequence the tail expects; 0 until it has first been opened.
	tailOpen    bool        // The tail has a consumer: what it has not seen was stored only just now.
	floor       uint64      // The tail has seen every sequence from floor to tailPos - 1.
	recent      recent      // The last of them.
	seen        []uint64    // Last sequence the tail has seen, by partition.
}

// feeder is who feeds a lane.
type feeder int

const (
	byCatchUp feeder = iota // The catch-up reader.
	byTail                  // The tail.
	byNobody                // Nobody: the message at next is missing.
)

// Lane is what a reader needs of the lanes that it feeds. All methods can be called from several goroutines.
type Lane interface {
	// Push adds a message to the lane's queue. ok is false if there is no room: the lane then calls the cursor's
	// HasCapacity once there is. wake is true if the lane must be woken up by Signal.
	Push(e *stream.Entry) (ok, wake bool)
	// Signal wakes up a lane that waits.
	Signal()
	// SetGap says which message is missing, so that the lane cannot continue; "" if it has been found.
	SetGap(text string)
	// Checkpoint is the sequence up to which all messages are finished.
	Checkpoint() uint64
	// Backlog is how many messages the lane has been given and has not finished.
	Backlog() uint64
	// MayIdle reports whether the checkpoint of a lane without work should follow to position.
	MayIdle(position uint64, now time.Time, pressed bool) bool
	// IdleTo moves the checkpoint of a lane without work to position.
	IdleTo(position uint64)
}

// Cursor is a lane as its reader sees it. Guarded by Reader.mu.
type Cursor struct {
	reader    *Reader
	lane      Lane // nil before Start.
	partition int
	feeder    feeder
	// The lane has all messages of its partition below next. While it is fed: below the reader's position.
	next     uint64
	full     bool      // The lane's queue has no room; it will say when it has.
	attached bool      // The catch-up reader, where it stands, feeds the lane.
	fed      bool      // It has fed the lane before.
	gapped   bool      // The lane has been told of a gap that it has not passed.
	retryAt  time.Time // When to look again for what is missing.

	lag      uint64    // Messages after the lane's checkpoint as counted by the server at lagAt.
	lagAt    time.Time // Zero: never.
	lagTried time.Time
}

// New builds a reader. It reads while Run runs.
func New(o Options) *Reader {
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	o.Logger = o.Logger.Named("reader").With("topic", o.Topic.Name)
	if o.IdleWrites == nil {
		o.IdleWrites = rate.NewLimiter(5, 5)
	}
	if o.Pressure == nil {
		o.Pressure = func() bool { return false }
	}
	if o.RecentEntries == 0 {
		o.RecentEntries = recentEntries
	}
	return &Reader{
		Options:     o,
		opener:      stream.Opener{JS: o.JS, Stream: o.Topic.Name, LocalServer: o.LocalServer},
		recent:      newRecent(o.RecentEntries),
		prefix:      strings.TrimSuffix(o.Topic.PartitionFilter(0), "0.>"),
		wake:        make(chan struct{}, 1),
		byPartition: make([][]*Cursor, o.Topic.Partitions),
		seen:        make([]uint64, o.Topic.Partitions),
	}
}

// Run reads until ctx ends. Lanes may come and go before, meanwhile and after.
func (r *Reader) Run(ctx context.Context) error {
	var all sync.WaitGroup
	all.Go(func() { r.runTail(ctx) })
	all.Go(func() { r.runCatchUp(ctx) })
	all.Go(func() { r.runIdle(ctx) })
	all.Go(func() { r.runLag(ctx) })
	all.Wait()
	return nil
}

// NewCursor returns the cursor of a lane whose messages up to done are finished. The lane is fed from Start to Stop.
func (r *Reader) NewCursor(partition int, done uint64) *Cursor {
	return &Cursor{reader: r, partition: partition, next: done + 1}
}

// Start feeds a lane everything behind the cursor.
func (f *Cursor) Start(l Lane) {
	r := f.reader
	r.mu.Lock()
	defer r.mu.Unlock()
	f.lane = l
	r.cursors = append(r.cursors, f)
	r.byPartition[f.partition] = append(r.byPartition[f.partition], f)
	r.behind++
	if !r.joinTail(f, 0) {
		r.wakeCatchUp()
	}
}

// Stop ends what Start began.
func (f *Cursor) Stop() {
	r := f.reader
	r.mu.Lock()
	defer r.mu.Unlock()
	if f.lane == nil {
		return
	}
	r.setFeeder(f, byNobody)
	is := func(other *Cursor) bool { return other == f }
	r.cursors = slices.DeleteFunc(r.cursors, is)
	r.byPartition[f.partition] = slices.DeleteFunc(r.byPartition[f.partition], is)
	r.wakeCatchUp()
}

// HasCapacity tells the reader that the lane's queue, which was full, has room again.
func (f *Cursor) HasCapacity() {
	f.reader.mu.Lock()
	defer f.reader.mu.Unlock()
	f.full = false
	f.reader.wakeCatchUp()
}

func (r *Reader) wakeCatchUp() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// setFeeder changes who feeds a lane. r.mu is held.
func (r *Reader) setFeeder(f *Cursor, mode feeder) {
	if f.feeder == byCatchUp {
		r.behind--
	}
	if mode == byCatchUp {
		r.behind++
	}
	f.feeder, f.attached = mode, false
}

// joinTail hands a lane that is behind over to the tail, if the lane has everything that the tail has passed, or can be
// given it at once: because the catch-up reader, which has fed it up to position, has got that far; because the tail
// has seen that the partition had nothing since; or because the tail remembers what it had. r.mu is held.
func (r *Reader) joinTail(f *Cursor, position uint64) bool {
	next := f.next
	if f.attached {
		next = max(next, position)
	}
	if r.tailPos == 0 {
		return false
	}
	if quiet := next >= r.floor && r.seen[f.partition] < next; next < r.tailPos && !quiet {
		if !r.recent.holds(next) || !r.replay(f, next) {
			return false
		}
	}
	r.setFeeder(f, byTail)
	r.passGap(f)
	f.next = max(next, r.tailPos)
	return true
}

// replay gives a lane what the tail remembers from a sequence on. It returns false if the lane has no room for all of
// it. r.mu is held.
func (r *Reader) replay(f *Cursor, next uint64) bool {
	woken := false
	r.recent.each(f.partition, next, func(e *stream.Entry) bool {
		ok, wake := f.lane.Push(e)
		if !ok {
			f.next, f.full, f.attached = e.Seq, true, false
		}
		woken = woken || wake
		return ok
	})
	if woken {
		f.lane.Signal()
	}
	return !f.full
}

// partitionOf reads the partition of a stored subject; -1 if it has none.
func (r *Reader) partitionOf(subject string) int {
	rest, ok := strings.CutPrefix(subject, r.prefix)
	number, _, more := strings.Cut(rest, ".")
	p, err := strconv.Atoi(number)
	if !ok || !more || err != nil || p < 0 || p >= r.Topic.Partitions {
		r.Logger.Error("stored subject does not belong to a partition; its message is not handled", "subject", subject)
		return -1
	}
	return p
}

// tail is the reader of the lanes that keep up. Its goroutine owns it.
type tail struct{ *scanner }

// runTail follows the head of the stream.
func (r *Reader) runTail(ctx context.Context) {
	t := &tail{&scanner{r: r, name: "tail"}}
	t.sink = t
	defer t.close()
	for ctx.Err() == nil {
		err := t.openTail(ctx)
		if err == nil {
			err = t.follow(ctx)
		}
		r.tailClosed()
		t.close()
		t.pauseAfter(ctx, err)
	}
}

// openTail opens the tail where it was, the first time at the first sequence that its consumer will deliver.
func (s *tail) openTail(ctx context.Context) error {
	if err := s.open(ctx, s.pos); err != nil {
		return err
	}
	if s.pos == 0 {
		s.r.mu.Lock()
		s.pos = s.consumer.Start
		s.r.floor, s.r.tailPos = s.pos, s.pos
		s.r.mu.Unlock()
	}
	if err := s.fill(ctx, s.consumer.Start); err != nil {
		return err
	}
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	s.r.tailOpen = true
	s.r.wakeCatchUp() // Lanes may be where the tail is.
	return nil
}

func (r *Reader) tailClosed() {
	r.mu.Lock()
	r.tailOpen = false
	r.mu.Unlock()
}

// deliver pushes a message to the lanes at the tail. A lane without room falls back to the catch-up reader, so that it
// does not hold up the others.
func (s *tail) deliver(e *stream.Entry) {
	r := s.r
	p := r.partitionOf(e.Subject)
	r.mu.Lock()
	defer r.mu.Unlock()
	if p >= 0 {
		r.seen[p] = e.Seq
		for _, f := range r.byPartition[p] {
			if f.feeder == byTail && f.next <= e.Seq && !s.push(f, e) {
				r.setFeeder(f, byCatchUp)
				f.next, f.full = e.Seq, true
			}
		}
	}
	r.recent.add(e, p)
	s.pos = e.Seq + 1
	r.tailPos = s.pos
}

// skip passes sequences that were purged.
func (s *tail) skip(to uint64) {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	s.pos, s.r.tailPos = to, to
}

// missing stops the lanes at the tail before a message that is missing, and continues without them.
func (s *tail) missing(text string) {
	r := s.r
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.cursors {
		if f.feeder == byTail && f.next <= s.pos {
			r.stopAtGap(f, s.pos, text)
		}
	}
	s.pos++
	r.tailPos, r.floor = s.pos, s.pos
	r.recent.reset()
}

// tick looks after the consumer.
func (s *tail) tick() error { return s.consumer.Tick() }

package worker

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
)

// ReaderOptions are what a Reader needs.
type ReaderOptions struct {
	Topic  partitioner.Topic
	JS     jetstream.JetStream
	Logger hclog.Logger

	// LocalServer is the name of this node's own server, on which the readers' consumers are placed. nil or a server
	// that is not clustered: wherever they are.
	LocalServer func() string
	// IdleWrites limits how often a node moves done of lanes that have nothing to do; the readers of a node share it.
	// nil: five a second, by itself.
	IdleWrites *rate.Limiter
	// Pressure reports that the topic's stream is so full that idle lanes should not hold its janitor back. nil: never.
	Pressure func() bool

	RecentEntries int // How many messages the tail remembers; 0: 4096.
}

// Reader feeds the lanes of one topic on one node, whatever their groups. It has two instances of one kind of reader,
// unfiltered both: the tail follows the head of the stream and feeds the lanes that keep up; the catch-up reader feeds
// all the others, and exists only while there are any.
//
// What a reader has fed to a lane it has fed without a gap: it sees every sequence of the stream, so that a message
// that is missing is always noticed. Sequences are totally ordered, so that a lane can change from the catch-up reader
// to the tail as soon as the one has got as far as the other: nothing is missed and nothing comes twice.
type Reader struct {
	ReaderOptions
	opener opener
	prefix string        // Of every stored subject, up to the partition.
	wake   chan struct{} // The catch-up reader should look at its lanes again.

	gaps     sync.Mutex // Held while one of the readers looks for a missing message.
	searched struct {   // The last message looked for on every replica. Guarded by gaps.
		seq uint64
		at  time.Time
	}

	mu       sync.Mutex
	lanes    []*feed   // In no order.
	feeds    [][]*feed // The same by partition: one for each group that holds it.
	behind   int       // How many lanes are behind.
	tailPos  uint64    // Next sequence the tail expects; 0 until it has first been opened.
	tailOpen bool      // The tail has a session, so what it has not seen is not long stored.
	floor    uint64    // The tail has seen every sequence from floor to tailPos - 1.
	recent   recent    // The last of them.
	seen     []uint64  // Last sequence the tail has seen, by partition.
}

// feedMode is who feeds a lane.
type feedMode int

const (
	feedBehind feedMode = iota // The catch-up reader.
	feedTail                   // The tail.
	feedGap                    // Nobody: the message at next is missing.
)

// FedLane is what a reader needs of the lanes that it feeds. All methods can be called from several goroutines.
type FedLane interface {
	// Push adds a message to the lane's queue. ok is false if there is no room: the lane then calls the cursor's HasCapacity once
	// there is. wake is true if the lane must be woken up by Signal.
	Push(e *entry) (ok, wake bool)
	// Signal wakes up a lane that waits.
	Signal()
	// SetGap says which message is missing, so that the lane cannot go on; "" if it has been found.
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

// feed is a lane as its reader sees it. Guarded by Reader.mu.
type feed struct {
	reader    *Reader
	lane      FedLane // nil before Start.
	partition int
	mode      feedMode
	next      uint64    // The lane has all messages of its partition below next. While it is fed: below the reader's position.
	full      bool      // The lane's queue has no room; it will say when it has.
	riding    bool      // The catch-up reader, where it stands, feeds the lane.
	fed       bool      // It has fed the lane before.
	gapped    bool      // The lane has been told of a gap that it has not passed.
	retryAt   time.Time // When to look again for what is missing.

	lag      uint64    // Messages after the lane's done as counted by the server at lagAt.
	lagAt    time.Time // Zero: never.
	lagTried time.Time
}

// NewReader builds a reader. It reads while Run runs.
func NewReader(o ReaderOptions) *Reader {
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
		ReaderOptions: o,
		opener:        opener{js: o.JS, stream: o.Topic.Name, localServer: o.LocalServer},
		recent:        newRecent(o.RecentEntries),
		prefix:        strings.TrimSuffix(o.Topic.PartitionFilter(0), "0.>"),
		wake:          make(chan struct{}, 1),
		feeds:         make([][]*feed, o.Topic.Partitions),
		seen:          make([]uint64, o.Topic.Partitions),
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
func (r *Reader) NewCursor(partition int, done uint64) *feed {
	return &feed{reader: r, partition: partition, next: done + 1}
}

// Start feeds a lane everything behind the cursor.
func (f *feed) Start(l FedLane) {
	r := f.reader
	r.mu.Lock()
	defer r.mu.Unlock()
	f.lane = l
	r.lanes = append(r.lanes, f)
	r.feeds[f.partition] = append(r.feeds[f.partition], f)
	r.behind++
	if !r.joinTail(f, 0) {
		r.wakeCatchUp()
	}
}

// Stop ends what Start began.
func (f *feed) Stop() {
	r := f.reader
	r.mu.Lock()
	defer r.mu.Unlock()
	if f.lane == nil {
		return
	}
	r.setMode(f, feedGap)
	is := func(other *feed) bool { return other == f }
	r.lanes = slices.DeleteFunc(r.lanes, is)
	r.feeds[f.partition] = slices.DeleteFunc(r.feeds[f.partition], is)
	r.wakeCatchUp()
}

// HasCapacity is how a lane whose queue was full says that it can take more.
func (f *feed) HasCapacity() {
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

// setMode changes who feeds a lane. r.mu is held.
func (r *Reader) setMode(f *feed, mode feedMode) {
	if f.mode == feedBehind {
		r.behind--
	}
	if mode == feedBehind {
		r.behind++
	}
	f.mode, f.riding = mode, false
}

// joinTail hands a lane that is behind to the tail, if it has everything that the tail has passed, or can be given it at
// once: because the catch-up reader, which has fed it up to position, has got that far; because the tail has seen that
// the partition had nothing since; or because the tail remembers what it had. r.mu is held.
func (r *Reader) joinTail(f *feed, position uint64) bool {
	next := f.next
	if f.riding {
		next = max(next, position)
	}
	if r.tailPos == 0 {
		return false
	}
	if quiet := next >= r.floor && r.seen[f.partition] < next; next < r.tailPos && !quiet {
		if !r.recent.holds(next) || !r.recall(f, next) {
			return false
		}
	}
	r.setMode(f, feedTail)
	r.passGap(f)
	f.next = max(next, r.tailPos)
	return true
}

// recall gives a lane what the tail remembers from a sequence on. It returns false if the lane has no room for all of
// it. r.mu is held.
func (r *Reader) recall(f *feed, next uint64) bool {
	woken := false
	r.recent.each(f.partition, next, func(e *entry) bool {
		ok, wake := f.lane.Push(e)
		if !ok {
			f.next, f.full, f.riding = e.seq, true, false
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
		r.Logger.Error("stored subject belongs to no partition and is not handled", "subject", subject)
		return -1
	}
	return p
}

// runTail follows the head of the stream.
func (r *Reader) runTail(ctx context.Context) {
	s := &scan{r: r, name: "tail"}
	s.offer, s.skip, s.miss = s.offerTail, s.skipTail, s.missTail
	s.beat = func() error { return s.session.onBeat() }
	defer s.close()
	for ctx.Err() == nil {
		err := s.openTail(ctx)
		if err == nil {
			err = s.follow(ctx)
		}
		r.tailClosed()
		s.close()
		s.pauseAfter(ctx, err)
	}
}

// openTail opens the tail where it was, the first time at the first sequence that its consumer will deliver.
func (s *scan) openTail(ctx context.Context) error {
	if err := s.open(ctx, s.pos); err != nil {
		return err
	}
	if s.pos == 0 {
		s.r.mu.Lock()
		s.pos = s.session.start
		s.r.floor, s.r.tailPos = s.pos, s.pos
		s.r.mu.Unlock()
	}
	if err := s.fill(ctx, s.session.start); err != nil {
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

// offerTail gives a message to the lanes at the tail. One that has no room drops out, so as not to hold up the others.
func (s *scan) offerTail(e *entry) {
	r := s.r
	p := r.partitionOf(e.subject)
	r.mu.Lock()
	defer r.mu.Unlock()
	if p >= 0 {
		r.seen[p] = e.seq
		for _, f := range r.feeds[p] {
			if f.mode == feedTail && f.next <= e.seq && !s.push(f, e) {
				r.setMode(f, feedBehind)
				f.next, f.full = e.seq, true
			}
		}
	}
	r.recent.add(e, p)
	s.pos = e.seq + 1
	r.tailPos = s.pos
}

// skipTail passes sequences that were purged.
func (s *scan) skipTail(to uint64) {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	s.pos, s.r.tailPos = to, to
}

// missTail stops the lanes at the tail before a message that is missing, and goes on without them.
func (s *scan) missTail(text string) {
	r := s.r
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.lanes {
		if f.mode == feedTail && f.next <= s.pos {
			r.stopAtGap(f, s.pos, text)
		}
	}
	s.pos++
	r.tailPos, r.floor = s.pos, s.pos
	r.recent.reset()
}

package reader

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go/jetstream"

	"leasehold/internal/ownership"
	"leasehold/partitioner"
	"leasehold/worker/handler"
	"leasehold/worker/lane"
	"leasehold/worker/stream"
	"leasehold/worker/workertest"
)

// rig is a topic with a reader and one group.
type rig struct {
	*workertest.TestTopic
	reader *Reader
	group  *laneSet
	local  func() string
	stop   func() // Ends group and reader and joins them.

	mu   sync.Mutex
	got  map[int][]uint64  // Sequences handled, by partition.
	hold map[int]chan bool // A call of this partition waits until its channel is closed.
	sent map[int][]uint64  // Sequences published, by partition.
}

type rigOptions struct {
	partitions   int
	queueEntries int
	preload      int // Messages published before anything reads.
	handler      handler.Handler
	recent       int // Messages the tail remembers; default 1, so that the catch-up reader has something to do.
}

func newRig(t testing.TB, js jetstream.JetStream, o rigOptions) *rig {
	t.Helper()
	r := newRigOn(t, js, "orders", o.partitions)
	r.Create(1)
	r.publish(o.preload)
	if o.handler == nil {
		o.handler = handler.Func(r.handle)
	}
	r.start(o)
	return r
}

// newRigOn only names the topic.
func newRigOn(t testing.TB, js jetstream.JetStream, topic string, partitions int) *rig {
	return &rig{TestTopic: workertest.NewTestTopic(t, js, topic, partitions), got: map[int][]uint64{},
		hold: map[int]chan bool{}, sent: map[int][]uint64{}}
}

func (r *rig) start(o rigOptions) {
	o.recent = max(1, o.recent)
	logger := hclog.New(&hclog.LoggerOptions{Output: r.T.Output(), Level: hclog.Debug})
	if _, ok := r.T.(*testing.B); ok {
		logger = hclog.NewNullLogger()
	}
	r.reader = New(Options{Topic: r.Topic, JS: r.JS, Logger: logger, LocalServer: r.local, RecentEntries: o.recent})
	r.group = newLaneSet(r.reader, o.handler, o.queueEntries)
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { _ = r.reader.Run(ctx) })
	r.stop = sync.OnceFunc(func() { r.group.stop(); cancel(); all.Wait() })
	r.T.Cleanup(r.stop)
}

func (r *rig) handle(ctx context.Context, m *handler.Message) handler.Result {
	r.mu.Lock()
	r.got[m.Partition] = append(r.got[m.Partition], m.Seq)
	hold := r.hold[m.Partition]
	r.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return handler.Result{Status: handler.Retry, Err: ctx.Err()}
		}
	}
	return handler.Result{Status: handler.OK}
}

// holdUp lets calls of a partition wait until the function returned is called.
func (r *rig) holdUp(p int) (release func()) {
	hold := make(chan bool)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hold[p] = hold
	return func() {
		r.mu.Lock()
		delete(r.hold, p)
		r.mu.Unlock()
		close(hold)
	}
}

// publish stores n messages, a key each, on partitions in no regular order.
func (r *rig) publish(n int) {
	r.T.Helper()
	futures := make([]jetstream.PubAckFuture, 0, n)
	parts := make([]int, 0, n)
	for range n {
		r.mu.Lock()
		total := 0
		for _, s := range r.sent {
			total += len(s)
		}
		r.mu.Unlock()
		key := fmt.Sprintf("k%d", total+len(futures))
		p := partitioner.Of(r.Topic.Partitions, key)
		f, err := r.JS.PublishAsync(fmt.Sprintf("%s.1.%d.%s", r.Topic.Name, p, key), []byte("payload"),
			jetstream.WithStallWait(workertest.WaitLimit))
		if err != nil {
			r.T.Fatal(err)
		}
		futures, parts = append(futures, f), append(parts, p)
	}
	for i, f := range futures {
		select {
		case ack := <-f.Ok():
			r.mu.Lock()
			r.sent[parts[i]] = append(r.sent[parts[i]], ack.Sequence)
			r.mu.Unlock()
		case err := <-f.Err():
			r.T.Fatal(err)
		}
	}
}

func (r *rig) startAll() []*lane.Lane {
	var lanes []*lane.Lane
	for p := range r.Topic.Partitions {
		lanes = append(lanes, r.group.Start(ownership.Grant{Partition: p, Epoch: 1}))
	}
	return lanes
}

// awaitAll waits until every partition save those named has handled exactly what was published after its done.
func (r *rig) awaitAll(except ...int) {
	r.T.Helper()
	workertest.Eventually(r.T, workertest.WaitLimit, func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		for p, want := range r.sent {
			if got := r.got[p]; !slices.Contains(except, p) && !slices.Equal(got, want) {
				return fmt.Errorf("partition %d handled %d messages, want %d; the last %v, want %v", p, len(got), len(want),
					lastFew(got), lastFew(want))
			}
		}
		return nil
	})
}

func lastFew(seqs []uint64) []uint64 { return seqs[max(0, len(seqs)-5):] }

// awaitTail waits until all lanes are fed by the tail.
func (r *rig) awaitTail() {
	r.T.Helper()
	workertest.Eventually(r.T, workertest.WaitLimit, func() error {
		r.reader.mu.Lock()
		defer r.reader.mu.Unlock()
		if !r.reader.tailOpen || r.reader.behind != 0 {
			return fmt.Errorf("tail open: %v; %d lanes behind at %d", r.reader.tailOpen, r.reader.behind, r.reader.tailPos)
		}
		return nil
	})
}

// consumers returns the names of the stream's consumers.
func (r *rig) consumers() (names []string) {
	r.T.Helper()
	list := r.Stream.ConsumerNames(r.T.Context())
	for name := range list.Name() {
		names = append(names, name)
	}
	if err := list.Err(); err != nil {
		r.T.Fatal(err)
	}
	return names
}

func TestReaderFeedsEveryLaneFromItsDoneToTheHead(t *testing.T) {
	r := newRig(t, workertest.StartBroker(t), rigOptions{partitions: 64, queueEntries: 64, preload: 5000})
	r.startAll()
	for range 10 {
		r.publish(300)
	}
	r.awaitAll()
	r.awaitTail()
	r.publish(300)
	r.awaitAll()
	workertest.Eventually(t, workertest.WaitLimit, func() error {
		if n := len(r.consumers()); n != 1 {
			return fmt.Errorf("%d consumers while nobody lags, want the tail's alone", n)
		}
		return nil
	})
	for _, s := range r.group.Status() {
		if s.Lag == nil || *s.Lag != 0 || s.State != lane.StateHeld {
			t.Fatalf("status %+v", s)
		}
	}
}

func TestLanesThatComeAndGoWhileMessagesComeMissNothing(t *testing.T) {
	r := newRig(t, workertest.StartBroker(t), rigOptions{partitions: 16, queueEntries: 8, preload: 2000})
	lanes := r.startAll()
	for round := range 40 {
		r.publish(100)
		p := round % 16
		lanes[p].Drain()
		<-lanes[p].Stopped()
		p0, _ := lanes[p].Progress()
		lanes[p] = r.group.Start(ownership.Grant{Partition: p, Epoch: uint64(round), Progress: p0})
	}
	r.awaitAll()
	r.awaitTail()
}

func TestSlowLaneHoldsUpNobody(t *testing.T) {
	r := newRig(t, workertest.StartBroker(t), rigOptions{partitions: 8, queueEntries: 8, preload: 500})
	release := r.holdUp(3)
	r.startAll()
	r.publish(1000)
	r.awaitAll(3)
	// A second lane falls out while the first is far behind.
	second := r.holdUp(5)
	r.publish(1000)
	r.awaitAll(3, 5)
	workertest.Eventually(t, workertest.WaitLimit, func() error {
		for _, s := range r.group.Status() {
			// Counted by the server, for the queue holds only a few.
			if s.Partition == 3 && (s.Lag == nil || *s.Lag != uint64(len(r.sent[3]))) {
				return fmt.Errorf("lag %v, want %d", s.Lag, len(r.sent[3]))
			}
		}
		return nil
	})
	second()
	r.awaitAll(3)
	release()
	r.awaitAll()
	r.awaitTail()
}

func TestReaderGoesOnAfterItsConsumersAreDeleted(t *testing.T) {
	r := newRig(t, workertest.StartBroker(t), rigOptions{partitions: 8, queueEntries: 16, preload: 100})
	release := r.holdUp(2)
	r.startAll()
	for range 3 {
		r.publish(500)
		for _, name := range r.consumers() {
			_ = r.Stream.DeleteConsumer(t.Context(), name) // Some go by themselves meanwhile.
		}
		r.publish(100)
		r.awaitAll(2)
	}
	release()
	r.awaitAll()
}

func TestPurgedPrefixIsNoGap(t *testing.T) {
	r := newRig(t, workertest.StartBroker(t), rigOptions{partitions: 4, queueEntries: 8, preload: 3000})
	if err := r.Stream.Purge(t.Context(), jetstream.WithPurgeSequence(1500)); err != nil {
		t.Fatal(err)
	}
	r.dropSent(1500)
	release := r.holdUp(1)
	r.startAll()
	r.awaitAll(1)
	// The lane that is held up has a few in its queue; all the rest is purged before it comes to it.
	if err := r.Stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	release()
	r.awaitTail()
	r.mu.Lock()
	if got := r.got[1]; len(got) < 1 || len(got) > 9 {
		t.Errorf("%d messages handled in spite of the purge", len(got))
	}
	r.got[1], r.sent[1] = nil, nil
	r.mu.Unlock()
	r.publish(100)
	r.awaitAll()
	for _, s := range r.group.Status() {
		if s.State != lane.StateHeld {
			t.Errorf("status %+v", s)
		}
	}
}

// dropSent forgets what was published before a sequence.
func (r *rig) dropSent(before uint64) {
	for p, seqs := range r.sent {
		r.sent[p] = slices.DeleteFunc(seqs, func(s uint64) bool { return s < before })
	}
}

func TestLanesStopBeforeAMessageThatIsMissing(t *testing.T) {
	r := newRig(t, workertest.StartBroker(t), rigOptions{partitions: 4, queueEntries: 64, preload: 300})
	if err := r.Stream.DeleteMsg(t.Context(), 200); err != nil {
		t.Fatal(err)
	}
	r.startAll()
	workertest.Eventually(t, workertest.WaitLimit, func() error {
		for _, s := range r.group.Status() {
			if s.State != lane.StateGap || s.Error == "" {
				return fmt.Errorf("status %+v", s)
			}
		}
		return nil
	})
	r.publish(20)
	r.mu.Lock()
	defer r.mu.Unlock()
	for p, sent := range r.sent {
		want := slices.DeleteFunc(slices.Clone(sent), func(s uint64) bool { return s >= 200 })
		if !slices.Equal(r.got[p], want) {
			t.Errorf("partition %d handled up to %v, want up to %v", p, lastFew(r.got[p]), lastFew(want))
		}
	}
}

func TestLanesStoppedByAGapLookAgain(t *testing.T) {
	r := newRig(t, workertest.StartBroker(t), rigOptions{partitions: 4, preload: 300})
	if err := r.Stream.DeleteMsg(t.Context(), 200); err != nil {
		t.Fatal(err)
	}
	r.startAll()
	workertest.Eventually(t, workertest.WaitLimit, func() error {
		for _, s := range r.group.Status() {
			if s.State != lane.StateGap {
				return fmt.Errorf("status %+v", s)
			}
		}
		return nil
	})
	// An operator purges what is before and at the gap, the lanes having finished it.
	if err := r.Stream.Purge(t.Context(), jetstream.WithPurgeSequence(201)); err != nil {
		t.Fatal(err)
	}
	r.reader.retryGaps(time.Now().Add(time.Hour))
	for p, sent := range r.sent {
		r.sent[p] = slices.DeleteFunc(sent, func(s uint64) bool { return s == 200 })
	}
	r.awaitAll()
	r.awaitTail()
	if s := r.group.Status()[0]; s.State != lane.StateHeld {
		t.Errorf("status %+v", s)
	}
}

func TestMessageMissingHereIsFetchedFromTheLeader(t *testing.T) {
	r := newRig(t, workertest.StartBroker(t), rigOptions{partitions: 4, preload: 100})
	r.startAll()
	r.awaitAll()
	s := &collector{scanner: &scanner{r: r.reader, pos: 40}}
	s.sink = s
	if err := s.fill(t.Context(), 45); err != nil {
		t.Fatal(err)
	}
	for _, e := range s.got {
		if p := r.reader.partitionOf(e.Subject); !slices.Contains(r.sent[p], e.Seq) || string(e.Data) != "payload" {
			t.Errorf("fetched %+v", e)
		}
	}
	if len(s.got) != 5 || s.got[0].Seq != 40 || s.got[4].Seq != 44 {
		t.Errorf("fetched %v, want 40 to 44", s.got)
	}
}

// collector keeps what a scan delivers.
type collector struct {
	*scanner
	got []stream.Entry
}

func (c *collector) deliver(e *stream.Entry) {
	c.got, c.pos = append(c.got, *e), e.Seq+1
}

func (c *collector) skip(uint64)    {}
func (c *collector) missing(string) {}
func (c *collector) tick() error    { return nil }

func TestIdleLanesFollowTheTail(t *testing.T) {
	r := newRig(t, workertest.StartBroker(t), rigOptions{partitions: 64})
	r.startAll()
	r.awaitTail()
	for range 5 {
		if _, err := r.JS.Publish(t.Context(), "orders.1.9.key", nil); err != nil {
			t.Fatal(err)
		}
	}
	workertest.Eventually(t, workertest.WaitLimit, func() error {
		if s := r.group.Status()[9]; s.Checkpoint != 5 {
			return fmt.Errorf("status %+v", s)
		}
		return nil
	})
	r.reader.moveIdle(0, time.Now().Add(time.Hour))
	moved := 0
	for _, s := range r.group.Status() {
		if s.Partition != 9 && s.Checkpoint == 5 {
			moved++
		}
	}
	if moved == 0 || moved > 6 {
		t.Errorf("%d lanes moved at once, want about 5", moved)
	}
}

func TestQuietLaneIsAtTheTailWithoutCatchingUp(t *testing.T) {
	r := newRig(t, workertest.StartBroker(t), rigOptions{partitions: 8})
	r.startAll()
	r.awaitTail()
	r.publish(200)
	r.awaitAll()
	lane := r.group.Start(ownership.Grant{Partition: 2, Epoch: 9,
		Progress: ownership.Progress{Checkpoint: r.sent[2][len(r.sent[2])-1]}})
	r.reader.mu.Lock()
	defer r.reader.mu.Unlock()
	for _, f := range r.reader.byPartition[2] {
		if f.lane == lane && f.feeder != byTail {
			t.Errorf("mode %d, position %d of %d", f.feeder, f.next, r.reader.tailPos)
		}
	}
}

func TestTakeoverNeedsNoConsumerIfTheTailRemembers(t *testing.T) {
	r := newRig(t, workertest.StartBroker(t), rigOptions{partitions: 8, queueEntries: 16, recent: 1000})
	lanes := r.startAll()
	r.awaitTail()
	r.publish(800)
	r.awaitAll()
	lanes[2].Drain()
	<-lanes[2].Stopped()
	r.mu.Lock()
	r.got[2] = nil
	r.mu.Unlock()
	r.group.Start(ownership.Grant{Partition: 2, Epoch: 9}) // Over a hundred messages, and a queue of 16.
	for range 5 {
		r.publish(20)
		if n := len(r.consumers()); n != 1 {
			t.Errorf("%d consumers, want the tail's alone", n)
		}
	}
	r.awaitAll()
	r.awaitTail()
}

func TestRecentHoldsTheLastMessagesWithinItsBounds(t *testing.T) {
	q := newRecent(4)
	q.maxBytes = 3*stream.EntryOverhead + 100
	for seq := uint64(10); seq < 20; seq++ {
		q.add(&stream.Entry{Seq: seq, Data: make([]byte, 30)}, int(seq%2))
	}
	var got []uint64
	q.each(1, 17, func(e *stream.Entry) bool { got = append(got, e.Seq); return true })
	if q.n != 3 || q.holds(16) || !q.holds(17) || !slices.Equal(got, []uint64{17, 19}) {
		t.Errorf("%d entries, partition 1: %v", q.n, got)
	}
	q.add(&stream.Entry{Seq: 20, Data: make([]byte, 1<<20)}, 0)
	if q.n != 1 || !q.holds(20) {
		t.Errorf("%d entries after one larger than all the room", q.n)
	}
	if q.reset(); q.holds(20) || q.bytes != 0 {
		t.Errorf("%d bytes after reset", q.bytes)
	}
}

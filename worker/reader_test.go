package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"leasehold/internal/ownership"
	"leasehold/partitioner"
)

// waitLimit is how long a test waits for what happens within milliseconds on a machine that has nothing else to do.
const waitLimit = 30 * time.Second

// eventually waits until check has nothing to complain about.
func eventually(t testing.TB, limit time.Duration, check func() error) {
	t.Helper()
	for deadline := time.Now().Add(limit); ; time.Sleep(2 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// startBroker runs a stand-alone broker in this process.
func startBroker(t testing.TB) jetstream.JetStream {
	t.Helper()
	return connect(t, startServer(t))
}

func startServer(t testing.TB) *server.Server {
	t.Helper()
	ns, err := server.NewServer(&server.Options{
		ServerName: "test", Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
		MaxPayload: 1<<20 + 64<<10, // As a node's: the largest message, and what a dead letter adds to it.
	})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(20 * time.Second) {
		t.Fatal("the broker does not start")
	}
	return ns
}

func connect(t testing.TB, ns *server.Server) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect("", nats.InProcessServer(ns))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// rig is a topic with a reader and one group.
type rig struct {
	t      testing.TB
	js     jetstream.JetStream
	topic  partitioner.Topic
	stream jetstream.Stream
	reader *Reader
	group  *Group
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
	handler      Handler
	recent       int // Messages the tail remembers; default 1, so that the catch-up reader has something to do.
}

func newRig(t testing.TB, js jetstream.JetStream, o rigOptions) *rig {
	t.Helper()
	r := newRigOn(t, js, "orders", o.partitions)
	r.createStream(1)
	r.publish(o.preload)
	if o.handler == nil {
		o.handler = HandlerFunc(r.handle)
	}
	r.start(o)
	return r
}

// newRigOn only names the topic.
func newRigOn(t testing.TB, js jetstream.JetStream, topic string, partitions int) *rig {
	return &rig{
		t: t, js: js, topic: partitioner.Topic{Name: topic, Partitions: partitions}.WithDefaults(),
		got: map[int][]uint64{}, hold: map[int]chan bool{}, sent: map[int][]uint64{},
	}
}

// createStream creates the topic's stream without what guards a real one: tests delete messages from it.
func (r *rig) createStream(replicas int) {
	r.t.Helper()
	create := func() (err error) {
		r.stream, err = r.js.CreateStream(r.t.Context(), jetstream.StreamConfig{
			Name: r.topic.Name, Subjects: []string{r.topic.StoredFilter()}, Replicas: replicas,
			AllowDirect: true, MaxBytes: 64 << 20,
		})
		return err
	}
	eventually(r.t, waitLimit, create) // A cluster's first asset may have to wait for it.
}

func (r *rig) start(o rigOptions) {
	o.recent = max(1, o.recent)
	logger := hclog.New(&hclog.LoggerOptions{Output: r.t.Output(), Level: hclog.Debug})
	if _, ok := r.t.(*testing.B); ok {
		logger = hclog.NewNullLogger()
	}
	r.reader = NewReader(ReaderOptions{Topic: r.topic, JS: r.js, Logger: logger, LocalServer: r.local, RecentEntries: o.recent})
	group, err := NewGroup(GroupOptions{
		Config: Config{Name: "billing", Topic: r.topic.Name}, Topic: r.topic, Node: "n1",
		Handler: o.handler, Reader: r.reader, Logger: logger, queueEntries: o.queueEntries, queueBytes: 1 << 20,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.group = group
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { _ = r.reader.Run(ctx) })
	all.Go(func() {
		if err := group.Run(ctx); err != nil {
			r.t.Error(err)
		}
	})
	r.stop = sync.OnceFunc(func() { cancel(); all.Wait() })
	r.t.Cleanup(r.stop)
}

func (r *rig) handle(ctx context.Context, m *Message) Result {
	r.mu.Lock()
	r.got[m.Partition] = append(r.got[m.Partition], m.Seq)
	hold := r.hold[m.Partition]
	r.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return Result{Status: Retry, Err: ctx.Err()}
		}
	}
	return Result{Status: OK}
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
	r.t.Helper()
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
		p := partitioner.Of(r.topic.Partitions, key)
		f, err := r.js.PublishAsync(fmt.Sprintf("%s.1.%d.%s", r.topic.Name, p, key), []byte("payload"), jetstream.WithStallWait(waitLimit))
		if err != nil {
			r.t.Fatal(err)
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
			r.t.Fatal(err)
		}
	}
}

func (r *rig) startAll() []*Lane {
	var lanes []*Lane
	for p := range r.topic.Partitions {
		lanes = append(lanes, r.group.Start(ownership.Grant{Partition: p, Epoch: 1}))
	}
	return lanes
}

// awaitAll waits until every partition save those named has handled exactly what was published after its done.
func (r *rig) awaitAll(except ...int) {
	r.t.Helper()
	eventually(r.t, waitLimit, func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		for p, want := range r.sent {
			if got := r.got[p]; !slices.Contains(except, p) && !slices.Equal(got, want) {
				return fmt.Errorf("partition %d handled %d messages, want %d; the last %v, want %v", p, len(got), len(want), lastFew(got), lastFew(want))
			}
		}
		return nil
	})
}

func lastFew(seqs []uint64) []uint64 { return seqs[max(0, len(seqs)-5):] }

// awaitTail waits until all lanes are fed by the tail.
func (r *rig) awaitTail() {
	r.t.Helper()
	eventually(r.t, waitLimit, func() error {
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
	r.t.Helper()
	list := r.stream.ConsumerNames(r.t.Context())
	for name := range list.Name() {
		names = append(names, name)
	}
	if err := list.Err(); err != nil {
		r.t.Fatal(err)
	}
	return names
}

func TestReaderFeedsEveryLaneFromItsDoneToTheHead(t *testing.T) {
	r := newRig(t, startBroker(t), rigOptions{partitions: 64, queueEntries: 64, preload: 5000})
	r.startAll()
	for range 10 {
		r.publish(300)
	}
	r.awaitAll()
	r.awaitTail()
	r.publish(300)
	r.awaitAll()
	eventually(t, waitLimit, func() error {
		if n := len(r.consumers()); n != 1 {
			return fmt.Errorf("%d consumers while nobody lags, want the tail's alone", n)
		}
		return nil
	})
	for _, s := range r.group.Status() {
		if s.Lag == nil || *s.Lag != 0 || s.State != StateHeld {
			t.Fatalf("status %+v", s)
		}
	}
}

func TestLanesThatComeAndGoWhileMessagesComeMissNothing(t *testing.T) {
	r := newRig(t, startBroker(t), rigOptions{partitions: 16, queueEntries: 8, preload: 2000})
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
	r := newRig(t, startBroker(t), rigOptions{partitions: 8, queueEntries: 8, preload: 500})
	release := r.holdUp(3)
	r.startAll()
	r.publish(1000)
	r.awaitAll(3)
	// A second lane falls out while the first is far behind.
	second := r.holdUp(5)
	r.publish(1000)
	r.awaitAll(3, 5)
	eventually(t, waitLimit, func() error {
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
	r := newRig(t, startBroker(t), rigOptions{partitions: 8, queueEntries: 16, preload: 100})
	release := r.holdUp(2)
	r.startAll()
	for range 3 {
		r.publish(500)
		for _, name := range r.consumers() {
			_ = r.stream.DeleteConsumer(t.Context(), name) // Some go by themselves meanwhile.
		}
		r.publish(100)
		r.awaitAll(2)
	}
	release()
	r.awaitAll()
}

func TestPurgedPrefixIsNoGap(t *testing.T) {
	r := newRig(t, startBroker(t), rigOptions{partitions: 4, queueEntries: 8, preload: 3000})
	if err := r.stream.Purge(t.Context(), jetstream.WithPurgeSequence(1500)); err != nil {
		t.Fatal(err)
	}
	r.dropSent(1500)
	release := r.holdUp(1)
	r.startAll()
	r.awaitAll(1)
	// The lane that is held up has a few in its queue; all the rest is purged before it comes to it.
	if err := r.stream.Purge(t.Context()); err != nil {
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
		if s.State != StateHeld {
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
	r := newRig(t, startBroker(t), rigOptions{partitions: 4, queueEntries: 64, preload: 300})
	if err := r.stream.DeleteMsg(t.Context(), 200); err != nil {
		t.Fatal(err)
	}
	r.startAll()
	eventually(t, waitLimit, func() error {
		for _, s := range r.group.Status() {
			if s.State != StateGap || s.Error == "" {
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
	r := newRig(t, startBroker(t), rigOptions{partitions: 4, preload: 300})
	if err := r.stream.DeleteMsg(t.Context(), 200); err != nil {
		t.Fatal(err)
	}
	r.startAll()
	eventually(t, waitLimit, func() error {
		for _, s := range r.group.Status() {
			if s.State != StateGap {
				return fmt.Errorf("status %+v", s)
			}
		}
		return nil
	})
	// A person purges what is before and at the gap, the lanes having finished it.
	if err := r.stream.Purge(t.Context(), jetstream.WithPurgeSequence(201)); err != nil {
		t.Fatal(err)
	}
	r.reader.retryGaps(time.Now().Add(time.Hour))
	for p, sent := range r.sent {
		r.sent[p] = slices.DeleteFunc(sent, func(s uint64) bool { return s == 200 })
	}
	r.awaitAll()
	r.awaitTail()
	if s := r.group.Status()[0]; s.State != StateHeld {
		t.Errorf("status %+v", s)
	}
}

func TestMessageMissingHereIsFetchedFromTheLeader(t *testing.T) {
	r := newRig(t, startBroker(t), rigOptions{partitions: 4, preload: 100})
	r.startAll()
	r.awaitAll()
	s := &scan{r: r.reader, pos: 40}
	var got []uint64
	s.offer = func(e *entry) {
		if p := r.reader.partitionOf(e.subject); !slices.Contains(r.sent[p], e.seq) || string(e.data) != "payload" {
			t.Errorf("fetched %+v", e)
		}
		got, s.pos = append(got, e.seq), s.pos+1
	}
	if err := s.fill(t.Context(), 45); err != nil {
		t.Fatal(err)
	}
	if want := []uint64{40, 41, 42, 43, 44}; !slices.Equal(got, want) {
		t.Errorf("fetched %v, want %v", got, want)
	}
}

func TestIdleLanesFollowTheTail(t *testing.T) {
	r := newRig(t, startBroker(t), rigOptions{partitions: 64})
	r.startAll()
	r.awaitTail()
	for range 5 {
		if _, err := r.js.Publish(t.Context(), "orders.1.9.key", nil); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, waitLimit, func() error {
		if s := r.group.Status()[9]; s.Done != 5 {
			return fmt.Errorf("status %+v", s)
		}
		return nil
	})
	r.reader.moveIdle(0, time.Now().Add(time.Hour))
	moved := 0
	for _, s := range r.group.Status() {
		if s.Partition != 9 && s.Done == 5 {
			moved++
		}
	}
	if moved == 0 || moved > 6 {
		t.Errorf("%d lanes moved at once, want about 5", moved)
	}
}

func TestQuietLaneIsAtTheTailWithoutCatchingUp(t *testing.T) {
	r := newRig(t, startBroker(t), rigOptions{partitions: 8})
	r.startAll()
	r.awaitTail()
	r.publish(200)
	r.awaitAll()
	lane := r.group.Start(ownership.Grant{Partition: 2, Epoch: 9, Progress: ownership.Progress{Checkpoint: r.sent[2][len(r.sent[2])-1]}})
	r.reader.mu.Lock()
	defer r.reader.mu.Unlock()
	for _, f := range r.reader.feeds[2] {
		if f.lane == lane && f.mode != feedTail {
			t.Errorf("mode %d, position %d of %d", f.mode, f.next, r.reader.tailPos)
		}
	}
}

func TestTakeoverNeedsNoConsumerIfTheTailRemembers(t *testing.T) {
	r := newRig(t, startBroker(t), rigOptions{partitions: 8, queueEntries: 16, recent: 1000})
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
	q.maxBytes = 3*entryOverhead + 100
	for seq := uint64(10); seq < 20; seq++ {
		q.add(&entry{seq: seq, data: make([]byte, 30)}, int(seq%2))
	}
	var got []uint64
	q.each(1, 17, func(e *entry) bool { got = append(got, e.seq); return true })
	if q.n != 3 || q.holds(16) || !q.holds(17) || !slices.Equal(got, []uint64{17, 19}) {
		t.Errorf("%d entries, partition 1: %v", q.n, got)
	}
	q.add(&entry{seq: 20, data: make([]byte, 1<<20)}, 0)
	if q.n != 1 || !q.holds(20) {
		t.Errorf("%d entries after one larger than all the room", q.n)
	}
	if q.reset(); q.holds(20) || q.bytes != 0 {
		t.Errorf("%d bytes after reset", q.bytes)
	}
}

func TestGroupJoinsEverythingAndStartsNothingAfter(t *testing.T) {
	r := newRig(t, startBroker(t), rigOptions{partitions: 4, preload: 100})
	r.holdUp(1)
	lanes := r.startAll()
	r.awaitAll(1)
	r.stop()
	for _, l := range append(lanes, r.group.Start(ownership.Grant{Partition: 0, Epoch: 2})) {
		if !hasStopped(l) {
			t.Error("a lane outlived its group")
		}
	}
	if n := len(r.group.Status()); n != 0 {
		t.Errorf("status has %d lanes", n)
	}
}

func TestEnvelopeCarriesEverything(t *testing.T) {
	js := startBroker(t)
	got := make(chan *Message, 2)
	h := HandlerFunc(func(_ context.Context, m *Message) Result { got <- m; return Result{Status: OK} })
	r := newRig(t, js, rigOptions{partitions: 4, handler: h})
	r.group.Start(ownership.Grant{Partition: 3, Epoch: 8})
	msg := &nats.Msg{Subject: "orders.1.3.c-17", Data: []byte("x"), Header: nats.Header{
		"Nats-Msg-Id": {"id-1"}, "traceparent": {"00-ab-cd-01"}, "Color": {"red", "blue"},
	}}
	if _, err := js.PublishMsg(t.Context(), msg); err != nil {
		t.Fatal(err)
	}
	m := <-got
	if m.ID != "orders/3/1" || m.IdempotencyKey != "id-1" || m.Traceparent != "00-ab-cd-01" || m.Key != "c-17" ||
		m.Subject != "orders.c-17" || m.Epoch != 8 || m.Attempt != 1 || m.MaxAttempts != 8 || m.Timeout != 30*time.Second ||
		m.Group != "billing" || m.Node != "n1" || len(m.Headers["Color"]) != 2 || time.Since(m.Published) > time.Minute {
		t.Errorf("envelope %+v", m)
	}
	if _, err := js.Publish(t.Context(), "orders.1.3.c-18", nil); err != nil {
		t.Fatal(err)
	}
	if m := <-got; m.IdempotencyKey != "orders/3/2" {
		t.Errorf("idempotency key %q", m.IdempotencyKey)
	}
}

func TestHandlerThatFailsEndsItsGroup(t *testing.T) {
	js := startBroker(t)
	topic := partitioner.Topic{Name: "orders", Partitions: 2}.WithDefaults()
	boom := errors.New("boom")
	g, err := NewGroup(GroupOptions{
		Config: Config{Name: "billing"}, Topic: topic, Handler: failing{boom}, Reader: NewReader(ReaderOptions{Topic: topic, JS: js}),
	})
	if err != nil {
		t.Fatal(err)
	}
	l := g.Start(ownership.Grant{Partition: 1})
	if err := g.Run(t.Context()); !errors.Is(err, boom) {
		t.Errorf("error %v", err)
	}
	<-l.Stopped()
}

type failing struct{ err error }

func (f failing) Run(context.Context) error               { return f.err }
func (f failing) Handle(context.Context, *Message) Result { return Result{Status: OK} }

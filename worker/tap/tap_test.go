package tap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"leasehold/partitioner"
	"leasehold/worker/workertest"
)

// tapTopic is a topic to tap.
type tapTopic struct{ *workertest.TestTopic }

// tapRig is a topic with messages of keys k0 … k9, message i under key i % 10, and no reader.
func tapRig(t *testing.T, messages int) *tapTopic {
	t.Helper()
	r := &tapTopic{workertest.NewTestTopic(t, workertest.StartBroker(t), "orders", 4)}
	r.Create(1)
	for i := range messages {
		r.publishKey(i % 10)
	}
	return r
}

// publishKey stores a message of the key k<n>, as the topic's transform would.
func (r *tapTopic) publishKey(n int) {
	r.T.Helper()
	key := fmt.Sprintf("k%d", n)
	subject := fmt.Sprintf("orders.1.%d.%s", partitioner.Of(4, key), key)
	m := &nats.Msg{Subject: subject, Data: []byte(key), Header: nats.Header{"Nats-Msg-Id": {nats.NewInbox()},
		"Traceparent": {"00-1"}}}
	if _, err := r.JS.PublishMsg(r.T.Context(), m); err != nil {
		r.T.Fatal(err)
	}
}

func (r *tapTopic) tap(o Options) *Tap {
	r.T.Helper()
	o.Topic, o.JS = r.Topic, r.JS
	tap, err := Open(r.T.Context(), o)
	if err != nil {
		r.T.Fatal(err)
	}
	r.T.Cleanup(tap.Close)
	return tap
}

// shown is what a tap shows until its end.
func shown(t *testing.T, tap *Tap) (seqs []uint64) {
	t.Helper()
	for {
		m, err := tap.Next(t.Context())
		if errors.Is(err, io.EOF) {
			return seqs
		}
		if err != nil {
			t.Fatal(err)
		}
		seqs = append(seqs, m.Seq)
	}
}

func TestTapShowsWhatIsAskedForAndEnds(t *testing.T) {
	r := tapRig(t, 1000)
	key := func(k string) string { return r.Topic.KeyFilter(k) }
	for name, c := range map[string]struct {
		o    Options
		want string
	}{
		"last":                     {Options{Last: 3}, "[998 999 1000]"},
		"last of a key":            {Options{Last: 3, Filter: key("k4")}, "[975 985 995]"},
		"last of a key, all of it": {Options{Last: 101, Filter: key("k0")}, fmt.Sprint(seqRange(1, 1000, 10))},
		"nothing of a key":         {Options{Last: 3, Filter: key("nobody")}, "[]"},
		"none":                     {Options{Last: 0}, "[]"},
		"from a sequence":          {Options{From: 999}, "[999 1000]"},
		"from a sequence of a key": {Options{From: 985, Filter: key("k4")}, "[985 995]"},
		"beyond the end":           {Options{From: 5000}, "[]"},
		"since an hour": {Options{Since: time.Now().Add(-time.Hour), Filter: key("k9")},
			fmt.Sprint(seqRange(10, 1000, 10))},
		"since a moment ahead": {Options{Since: time.Now().Add(time.Hour)}, "[]"},
	} {
		if got := fmt.Sprint(shown(t, r.tap(c.o))); got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
}

func seqRange(from, to, step int) (seqs []uint64) {
	for i := from; i <= to; i += step {
		seqs = append(seqs, uint64(i))
	}
	return seqs
}

func TestTapFollowsUntilItIsClosed(t *testing.T) {
	r := tapRig(t, 10)
	tap := r.tap(Options{Last: 1, Follow: true})
	for i := range 5 {
		m, err := tap.Next(t.Context())
		if err != nil || m.Seq != uint64(10+i) {
			t.Fatalf("got %+v, %v", m, err)
		}
		r.publishKey(i)
	}
	if _, err := tap.Next(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := tap.Next(ctx)
		ended <- err
	}()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestTapGoesOnWhereItWasAfterItsConsumerIsGone(t *testing.T) {
	r := tapRig(t, 10)
	tap := r.tap(Options{From: 1, Follow: true})
	for seq := uint64(1); seq <= 30; seq++ {
		if seq > 10 {
			if seq%5 == 0 {
				for name := range r.Stream.ConsumerNames(t.Context()).Name() {
					if err := r.Stream.DeleteConsumer(t.Context(), name); err != nil {
						t.Fatal(err)
					}
				}
			}
			r.publishKey(int(seq))
		}
		m, err := tap.Next(t.Context())
		if err != nil || m.Seq != seq {
			t.Fatalf("got %+v, %v, want %d", m, err, seq)
		}
	}
}

func TestTapEndsThoughWhatWasLeftIsPurged(t *testing.T) {
	r := tapRig(t, 10)
	tap := r.tap(Options{From: 1})
	if err := r.Stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	tap.left, tap.until = tap.left+5, tap.until+5 // As if there had been more that did not come before the purge.
	tap.tick.Reset(time.Millisecond)
	if seqs := shown(t, tap); len(seqs) > 10 {
		t.Errorf("got %v", seqs)
	}
}

func TestTapShowsTheEnvelopeAndMovesNothing(t *testing.T) {
	r := tapRig(t, 1)
	m, err := r.tap(Options{Last: 1}).Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p := partitioner.Of(4, "k0")
	if m.ID != fmt.Sprintf("orders/%d/1", p) || m.Partition != p || m.Key != "k0" || m.Subject != "orders.k0" ||
		string(m.Data) != "k0" || m.IdempotencyKey != m.Headers["Nats-Msg-Id"][0] || m.Traceparent != "00-1" ||
		m.Published.IsZero() || m.Attempt != 0 || m.Epoch != 0 {
		t.Errorf("got %+v", m)
	}
	direct, err := Get(t.Context(), r.JS, r.Topic, 1)
	if err != nil || fmt.Sprint(direct.Headers) != fmt.Sprint(m.Headers) || direct.ID != m.ID ||
		!direct.Published.Equal(m.Published) {
		t.Errorf("asked for by its sequence: %+v, %v", direct, err)
	}
}

func TestStoredSaysWhyAMessageIsNotThere(t *testing.T) {
	r := tapRig(t, 10)
	if err := r.Stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.publishKey(1)
	if _, err := Get(t.Context(), r.JS, r.Topic, 12); !errors.Is(err, ErrNotStored) ||
		err.Error() != "message is not stored yet: the newest one of topic orders has sequence 11" {
		t.Errorf("ahead: %v", err)
	}
	if _, err := Get(t.Context(), r.JS, r.Topic, 10); !errors.Is(err, ErrNotStored) {
		t.Errorf("purged: %v", err)
	}
	if m, err := Get(t.Context(), r.JS, r.Topic, 11); err != nil || m.Seq != 11 {
		t.Errorf("stored: %v, %v", m, err)
	}
}

func TestLastMatchingFindsEnoughAndNotMuchMore(t *testing.T) {
	for seed := range uint64(40) {
		random := rand.New(rand.NewPCG(seed, 1))
		first := 1 + random.Uint64N(1000)
		end := first + random.Uint64N(100_000)
		share := random.Float64() * random.Float64()
		matches := map[uint64]bool{}
		for seq := first; seq < end; seq++ {
			matches[seq] = random.Float64() < share
		}
		asked := 0
		count := func(from uint64) (n uint64, _ error) {
			asked++
			for seq := from; seq < end; seq++ {
				if matches[seq] {
					n++
				}
			}
			return n, nil
		}
		want := 1 + random.Uint64N(100)
		from, skip, err := lastMatching(first, end, want, want*4, count)
		if err != nil {
			t.Fatal(err)
		}
		questions := asked
		have, _ := count(from)
		if have < want && (from != first || skip != 0) || have >= want && have-skip != want || skip > startSlack ||
			questions > 40 {
			t.Fatalf("seed %d: from %d (%d to %d), skip %d of %d, want %d, %d questions", seed, from, first, end, skip, have,
				want, questions)
		}
	}
}

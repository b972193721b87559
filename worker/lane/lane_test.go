package lane

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"leasehold/internal/ownership"
	"leasehold/worker/handler"
	"leasehold/worker/stream"

	"github.com/hashicorp/go-hclog"
)

// script is a handler that keeps a log of its calls and answers from a list by sequence, OK once that is used up.
type script struct {
	mu      sync.Mutex
	calls   []string // "seq/attempt"
	answers map[uint64][]handler.Result
	call    func(ctx context.Context, m *handler.Message) // What a call does before it answers; may be nil.
	inside  atomic.Int32
	overlap atomic.Bool
}

func (s *script) Handle(ctx context.Context, m *handler.Message) handler.Result {
	if s.inside.Add(1) > 1 {
		s.overlap.Store(true)
	}
	defer s.inside.Add(-1)
	s.mu.Lock()
	s.calls = append(s.calls, fmt.Sprintf("%d/%d", m.Seq, m.Attempt))
	r := handler.Result{Status: handler.OK}
	if left := s.answers[m.Seq]; len(left) > 0 {
		r, s.answers[m.Seq] = left[0], left[1:]
	}
	s.mu.Unlock()
	if s.call != nil {
		s.call(ctx, m)
	}
	return r
}

func (s *script) log() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// stand is a lane with a fake source and a fake driver.
type testLane struct {
	*Lane
	woken atomic.Int32
}

type testLaneOptions struct {
	policy Policy
	grant  ownership.Grant
	// store is what the driver does when the lane wakes it; nil commits at once.
	store      func(l *Lane)
	letters    DeadLetters
	health     *Breaker
	onCapacity func()
	logger     hclog.Logger // nil discards.
}

func newTestLane(t *testing.T, h handler.Handler, o testLaneOptions) *testLane {
	s := &testLane{}
	g := o.grant
	if g.Epoch == 0 {
		g.Epoch = 7
	}
	g.Wake = func() {
		s.woken.Add(1)
		if o.store != nil {
			o.store(s.Lane)
			return
		}
		p, _ := s.Progress()
		s.Committed(p)
	}
	policy := o.policy.WithDefaults()
	if o.logger == nil {
		o.logger = hclog.NewNullLogger()
	}
	s.Lane = New(Options{
		Policy: policy, Handler: h, Logger: o.logger, MaxEntries: 4, MaxBytes: 1 << 20,
		Node: "n1", DeadLetters: o.letters, Breaker: o.health, OnCapacity: o.onCapacity,
		NewMessage: func(g ownership.Grant, e *stream.Entry) (handler.Message, error) {
			return handler.Message{
				Topic: "orders", Group: "billing", Node: "n1", Seq: e.Seq, Epoch: g.Epoch, Key: e.Subject,
				Subject: "orders." + e.Subject,
				Timeout: policy.Timeout, MaxAttempts: policy.MaxAttempts, Headers: e.Headers, Data: e.Data,
			}, nil
		},
	}, g)
	go s.Run()
	t.Cleanup(func() {
		s.Cancel(errors.New("end of test"))
		<-s.Stopped()
	})
	return s
}

// feed pushes messages like a reader and reports how many found room.
func (s *testLane) feed(seqs ...uint64) (taken int) {
	for _, seq := range seqs {
		ok, wake := s.Push(&stream.Entry{Seq: seq})
		if !ok {
			return taken
		}
		if wake {
			s.Signal()
		}
		taken++
	}
	return taken
}

func wantCalls(t *testing.T, h *script, want ...string) {
	t.Helper()
	if got := h.log(); !slices.Equal(got, want) {
		t.Fatalf("calls %v, want %v", got, want)
	}
}

func wantDone(t *testing.T, l *Lane, done uint64, attempt int) {
	t.Helper()
	if p, _ := l.Progress(); p.Checkpoint != done || p.Attempt != attempt {
		t.Fatalf("done %d attempt %d, want %d and %d", p.Checkpoint, p.Attempt, done, attempt)
	}
}

func hasStopped(l *Lane) bool {
	select {
	case <-l.Stopped():
		return true
	default:
		return false
	}
}

func TestLaneHandlesEachMessageOnceAndInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &script{}
		s := newTestLane(t, h, testLaneOptions{grant: ownership.Grant{Progress: ownership.Progress{Checkpoint: 4}}})
		s.feed(3, 4, 5, 9)
		synctest.Wait()
		s.feed(9, 7, 12)
		synctest.Wait()
		wantCalls(t, h, "5/1", "9/1", "12/1")
		wantDone(t, s.Lane, 12, 0)
	})
}

func TestLaneRetriesInPlaceWithBackoffWhileLaterMessagesWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &script{answers: map[uint64][]handler.Result{1: {{Status: handler.Retry}, {Status: handler.Timeout},
			{Status: handler.Retry, After: time.Minute}}}}
		var at []time.Duration
		begun := time.Now()
		h.call = func(context.Context, *handler.Message) { at = append(at, time.Since(begun)) }
		s := newTestLane(t, h, testLaneOptions{policy: Policy{Backoff: Backoff{Initial: time.Second, Max: time.Minute,
			Factor: 2}}})
		s.feed(1, 2)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		wantCalls(t, h, "1/1", "1/2", "1/3", "1/4", "2/1")
		want := []time.Duration{0, time.Second, 3 * time.Second, 63 * time.Second, 63 * time.Second}
		if !slices.Equal(at, want) {
			t.Errorf("calls at %v, want %v", at, want)
		}
		wantDone(t, s.Lane, 2, 0)
	})
}

func TestLaneStartsARetryOnlyOnceTheAttemptIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &script{answers: map[uint64][]handler.Result{3: {{Status: handler.Retry}}}}
		s := newTestLane(t, h, testLaneOptions{store: func(*Lane) {}})
		s.feed(3)
		time.Sleep(time.Hour)
		wantCalls(t, h, "3/1")
		if p, urgent := s.Progress(); p.Checkpoint != 0 || p.Attempt != 1 || !urgent {
			t.Fatalf("progress %+v, %v", p, urgent)
		}
		s.Committed(ownership.Progress{}) // An older commit settles nothing.
		time.Sleep(time.Minute)
		wantCalls(t, h, "3/1")
		s.Committed(ownership.Progress{Attempt: 1})
		synctest.Wait()
		wantCalls(t, h, "3/1", "3/2")
	})
}

func TestLaneCountsOnFromTheGrantsAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &script{answers: map[uint64][]handler.Result{3: {{Status: handler.Retry}}}}
		s := newTestLane(t, h, testLaneOptions{grant: ownership.Grant{Progress: ownership.Progress{Attempt: 2}},
			policy: Policy{MaxAttempts: 8}})
		s.feed(3, 4)
		time.Sleep(time.Minute)
		wantCalls(t, h, "3/3", "3/4", "4/1")
	})
}

func TestLaneBlocksLoudly(t *testing.T) {
	for name, c := range map[string]struct {
		answer  handler.Result
		used    int
		state   string
		calls   []string
		attempt int
	}{
		"exhausted": {handler.Result{Status: handler.Retry, Reason: "boom"}, 0, StateBlocked,
			[]string{"1/1", "1/2"}, 2},
		"one more try by new owner": {handler.Result{Status: handler.Retry, Reason: "boom"}, 2, StateBlocked, []string{"1/2"},
			2},
		"reject": {handler.Result{Status: handler.Reject, Reason: "boom"}, 0, StateBlocked,
			[]string{"1/1"}, 0},
		"pause": {handler.Result{Status: handler.Pause, Reason: "boom"}, 0, StatePaused, []string{"1/1"},
			0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &script{answers: map[uint64][]handler.Result{1: {c.answer, c.answer, c.answer}}}
				s := newTestLane(t, h, testLaneOptions{grant: ownership.Grant{Progress: ownership.Progress{Attempt: c.used}},
					policy: Policy{MaxAttempts: 2}})
				s.feed(1, 2)
				time.Sleep(time.Hour)
				wantCalls(t, h, c.calls...)
				wantDone(t, s.Lane, 0, c.attempt)
				if st := s.Status(); st.State != c.state || st.Error == "" {
					t.Errorf("status %+v", st)
				}
				s.Drain()
				synctest.Wait()
				if !hasStopped(s.Lane) {
					t.Error("a blocked lane does not drain")
				}
			})
		})
	}
}

func TestUnavailableCountsNoAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := handler.Result{Status: handler.Unavailable, Reason: "connection refused"}
		h := &script{answers: map[uint64][]handler.Result{1: slices.Repeat([]handler.Result{down}, 100)}}
		s := newTestLane(t, h, testLaneOptions{policy: Policy{MaxAttempts: 1}})
		s.feed(1, 2)
		time.Sleep(time.Minute)
		if st := s.Status(); st.State != StateUnavailable || st.Error != "connection refused" || st.Attempt != 0 {
			t.Errorf("status %+v", st)
		}
		time.Sleep(3 * time.Hour)
		wantDone(t, s.Lane, 2, 0)
		if n := len(h.log()); n != 102 {
			t.Errorf("%d calls", n)
		}
		if st := s.Status(); st.State != StateHeld || st.Error != "" {
			t.Errorf("status %+v", st)
		}
	})
}

func TestPanicIsAFailedAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &script{}
		h.call = func(_ context.Context, m *handler.Message) {
			if m.Attempt == 1 && m.Seq == 1 {
				panic("ouch")
			}
		}
		s := newTestLane(t, h, testLaneOptions{})
		s.feed(1, 2)
		time.Sleep(time.Minute)
		wantCalls(t, h, "1/1", "1/2", "2/1")
	})
}

func TestCallEndsAtItsDeadlineAndIsJoinedHoweverLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cause error
		h := &script{answers: map[uint64][]handler.Result{1: {{Status: handler.Timeout}}}}
		h.call = func(ctx context.Context, m *handler.Message) {
			if m.Attempt > 1 || m.Seq > 1 {
				return
			}
			below, cancel := context.WithCancel(ctx)
			defer cancel()
			<-below.Done()
			cause = context.Cause(below)
			time.Sleep(time.Hour) // Gives up late.
		}
		s := newTestLane(t, h, testLaneOptions{policy: Policy{Timeout: time.Second}})
		s.feed(1, 2)
		time.Sleep(30 * time.Minute)
		s.CheckOverdue(time.Now())
		wantCalls(t, h, "1/1")
		if st := s.Status(); st.State != StateOverdue {
			t.Errorf("status %+v", st)
		}
		time.Sleep(time.Hour)
		wantCalls(t, h, "1/1", "1/2", "2/1")
		if !errors.Is(cause, handler.ErrTimeout) || h.overlap.Load() {
			t.Errorf("cause %v, overlap %v", cause, h.overlap.Load())
		}
	})
}

func TestDrainFinishesTheCallInFlight(t *testing.T) {
	for name, c := range map[string]struct {
		answer  handler.Result
		done    uint64
		attempt int
	}{
		"ok":          {handler.Result{Status: handler.OK}, 1, 0},
		"retry":       {handler.Result{Status: handler.Retry}, 0, 1},
		"unavailable": {handler.Result{Status: handler.Unavailable}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &script{answers: map[uint64][]handler.Result{1: {c.answer}}}
				h.call = func(ctx context.Context, _ *handler.Message) {
					time.Sleep(time.Second)
					if ctx.Err() != nil {
						t.Error("a drain must not end the call")
					}
				}
				s := newTestLane(t, h, testLaneOptions{})
				s.feed(1, 2)
				synctest.Wait()
				s.Drain()
				synctest.Wait()
				if hasStopped(s.Lane) {
					t.Fatal("stopped with a call in flight")
				}
				<-s.Stopped()
				wantCalls(t, h, "1/1")
				wantDone(t, s.Lane, c.done, c.attempt)
			})
		})
	}
}

func TestNothingCountsAfterCancel(t *testing.T) {
	for _, status := range []handler.Status{handler.OK, handler.Retry} {
		t.Run(string(status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lost := errors.New("lost")
				h := &script{answers: map[uint64][]handler.Result{2: {{Status: status}}}}
				h.call = func(ctx context.Context, m *handler.Message) {
					if m.Seq == 2 {
						<-ctx.Done()
						if !errors.Is(context.Cause(ctx), lost) {
							t.Errorf("cause %v", context.Cause(ctx))
						}
					}
				}
				s := newTestLane(t, h, testLaneOptions{})
				s.feed(1, 2, 3)
				synctest.Wait()
				s.Cancel(lost)
				<-s.Stopped()
				wantCalls(t, h, "1/1", "2/1")
				wantDone(t, s.Lane, 1, 0)
			})
		})
	}
}

func TestCommitEachWaitsForEveryMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &script{}
		s := newTestLane(t, h, testLaneOptions{policy: Policy{Commit: CommitEach}, store: func(*Lane) {}})
		s.feed(1, 2)
		time.Sleep(time.Hour)
		wantCalls(t, h, "1/1")
		if p, urgent := s.Progress(); p.Checkpoint != 1 || !urgent {
			t.Fatalf("progress %+v, urgent %v", p, urgent)
		}
		s.Committed(ownership.Progress{Checkpoint: 1})
		synctest.Wait()
		wantCalls(t, h, "1/1", "2/1")
	})
}

func TestNoCallStartsBehindTheFence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var looks int
		h := &script{}
		s := newTestLane(t, h, testLaneOptions{grant: ownership.Grant{MayStart: func() bool { looks++; return looks <= 2 }}})
		s.feed(1, 2, 3)
		time.Sleep(time.Hour)
		wantCalls(t, h, "1/1", "2/1")
		if st := s.Status(); st.State != StateFenced || hasStopped(s.Lane) {
			t.Errorf("status %+v", st)
		}
		s.Cancel(errors.New("fenced"))
		<-s.Stopped()
		wantDone(t, s.Lane, 2, 0)
	})
}

func TestFullQueueRefusesAndSaysWhenItHasRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		var room atomic.Int32
		h := &script{call: func(context.Context, *handler.Message) { <-gate }}
		s := newTestLane(t, h, testLaneOptions{onCapacity: func() { room.Add(1) }})
		s.feed(1)
		synctest.Wait()
		if n := s.feed(2, 3, 4, 5, 6); n != 4 {
			t.Fatalf("%d found room, want 4 beside the one in flight", n)
		}
		gate <- struct{}{}
		synctest.Wait()
		if room.Load() != 0 {
			t.Error("room before half of the queue was free")
		}
		close(gate)
		synctest.Wait()
		if room.Load() != 1 {
			t.Errorf("%d calls of onRoom, want one", room.Load())
		}
		s.feed(6)
		synctest.Wait()
		wantDone(t, s.Lane, 6, 0)
	})
}

// assigner is a handler that wants to be told.
type assigner struct {
	script
	faults int // Assign fails this often.
}

func (a *assigner) note(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls = append(a.calls, fmt.Sprintf(format, args...))
}

func (a *assigner) Assign(_ context.Context, as handler.Assignment) error {
	a.note("assign %d %d", as.Epoch, as.NextSeq)
	if a.faults--; a.faults >= 0 {
		return errors.New("not yet")
	}
	return nil
}

func (a *assigner) Revoke(_ context.Context, as handler.Assignment, reason string) {
	a.note("revoke %d %s", as.NextSeq, reason)
}

func TestHandlerIsToldBeforeTheFirstAndAfterTheLastMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &assigner{faults: 1}
		s := newTestLane(t, h, testLaneOptions{grant: ownership.Grant{Progress: ownership.Progress{Checkpoint: 10}}})
		s.feed(11)
		time.Sleep(time.Minute)
		s.Drain()
		<-s.Stopped()
		wantCalls(t, &h.script, "assign 7 11", "assign 7 11", "11/1", "revoke 12 rebalance")

		lost := &assigner{}
		s = newTestLane(t, lost, testLaneOptions{})
		synctest.Wait()
		s.Cancel(errors.New("fenced"))
		<-s.Stopped()
		wantCalls(t, &lost.script, "assign 7 1", "revoke 1 lost")
	})
}

func TestIdleLaneFollowsThePositionOnlyWhenFarBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestLane(t, &script{}, testLaneOptions{grant: ownership.Grant{Progress: ownership.Progress{Checkpoint: 5}}})
		synctest.Wait()
		now := time.Now()
		for name, c := range map[string]struct {
			position uint64
			now      time.Time
			pressed  bool
			want     bool
		}{
			"a little behind":    {100, now, false, false},
			"many behind":        {5 + idleBehind + 1, now, false, true},
			"long behind":        {6, now.Add(time.Minute), false, true},
			"stream nearly full": {6, now, true, true},
			"not behind":         {5, now.Add(time.Hour), true, false},
		} {
			if got := s.MayIdle(c.position, c.now, c.pressed); got != c.want {
				t.Errorf("%s: %v", name, got)
			}
		}
		s.IdleTo(20_000)
		wantDone(t, s.Lane, 20_000, 0)
		s.Drain()
		s.IdleTo(30_000)
		wantDone(t, s.Lane, 20_000, 0)
	})
}

func TestBackoffGrowsToItsMaximumWithinItsJitter(t *testing.T) {
	b := DefaultBackoff()
	for n, want := range map[int]time.Duration{1: 500 * time.Millisecond, 3: 2 * time.Second, 50: time.Minute,
		5000: time.Minute} {
		for range 100 {
			if got := b.wait(n); got < want*8/10 || got > want*12/10 {
				t.Fatalf("wait(%d) = %s, want %s ± 20 %%", n, got, want)
			}
		}
	}
}

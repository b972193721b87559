package lane

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"leasehold/internal/ownership"
	"leasehold/partitioner"
	"leasehold/worker/deadletter"
	"leasehold/worker/handler"
	"leasehold/worker/stream"
	"leasehold/worker/workertest"
)

// fakeDeadLetters are dead letters in memory. The contract in deadletters_test.go holds it to what the real ones do.
type fakeDeadLetters struct {
	mu      sync.Mutex
	letters []*deadletter.Record // By Stored.
	last    uint64
	puts    int // Asked of refuse.
	full    bool
	fail    error                            // Of every call, if set.
	refuse  func(l *deadletter.Record) error // Of put; may be nil.
	behind  uint64                           // So many dead letters are not known yet to a look for parked ones.
}

func (f *fakeDeadLetters) Put(_ context.Context, l *deadletter.Record) (uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return 0, f.fail
	}
	if f.refuse != nil {
		f.puts++
		if err := f.refuse(l); err != nil {
			return 0, err
		}
	}
	if have := f.find(l.DeadLetterPlace); have != nil {
		return have.Stored, nil
	}
	if f.full {
		return 0, deadletter.ErrFull
	}
	f.last++
	stored := *l
	stored.Stored = f.last
	f.letters = append(f.letters, &stored)
	return f.last, nil
}

// count is how many dead letters are there.
func (f *fakeDeadLetters) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.letters)
}

func (f *fakeDeadLetters) find(p partitioner.DeadLetterPlace) *deadletter.Record {
	for _, l := range f.letters {
		if l.DeadLetterPlace == p {
			return l
		}
	}
	return nil
}

func (f *fakeDeadLetters) Has(_ context.Context, p partitioner.DeadLetterPlace) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.find(p) != nil, f.fail
}

func (f *fakeDeadLetters) Get(_ context.Context, p partitioner.DeadLetterPlace) (*deadletter.Record, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if l := f.find(p); l != nil {
		return l, nil
	}
	return nil, deadletter.ErrNotFound
}

func (f *fakeDeadLetters) Parked(_ context.Context, partition int, least uint64) (deadletter.Places, uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if known := f.last - f.behind; known < least {
		f.behind--
		return nil, 0, errors.New("the leader is behind")
	}
	found := deadletter.Places{}
	for _, l := range f.letters {
		if l.Kind == partitioner.Parked && l.Partition == partition {
			found[l.LetterKey] = append(found[l.LetterKey], l.DeadLetterPlace)
		}
	}
	for _, places := range found {
		slices.SortFunc(places, func(a, b partitioner.DeadLetterPlace) int { return cmp.Compare(a.Seq, b.Seq) })
	}
	return found, f.last, f.fail
}

func (f *fakeDeadLetters) Remove(_ context.Context, stored uint64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.letters = slices.DeleteFunc(f.letters, func(l *deadletter.Record) bool { return l.Stored == stored })
	return nil
}

// text lists the dead letters as "kind key seq reason attempts".
func (f *fakeDeadLetters) text() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for _, l := range f.letters {
		out = append(out, fmt.Sprintf("%s %s %d %s %d", l.Kind, l.LetterKey, l.Seq, l.Reason, l.Attempts))
	}
	return strings.Join(out, "; ")
}

func (f *fakeDeadLetters) want(t *testing.T, want string) {
	t.Helper()
	if got := f.text(); got != want {
		t.Errorf("letters %q, want %q", got, want)
	}
}

// feedKeys feeds messages "key/seq".
func (s *testLane) feedKeys(t *testing.T, messages ...string) {
	t.Helper()
	for _, m := range messages {
		var e stream.Entry
		key, seq, _ := strings.Cut(m, "/")
		if _, err := fmt.Sscan(seq, &e.Seq); err != nil {
			t.Fatal(err)
		}
		e.Subject = key
		for {
			ok, wake := s.Push(&e)
			if wake {
				s.Signal()
			}
			if ok {
				break
			}
			time.Sleep(time.Millisecond)
		}
	}
}

var errTest = errors.New("end of test")

var (
	fails   = handler.Result{Status: handler.Retry, Reason: "boom"}
	refuses = handler.Result{Status: handler.Reject, Reason: "no such thing"}
)

func always(r handler.Result, seqs ...uint64) map[uint64][]handler.Result {
	answers := map[uint64][]handler.Result{}
	for _, seq := range seqs {
		answers[seq] = slices.Repeat([]handler.Result{r}, 1000)
	}
	return answers
}

func deadLetter() Policy  { return Policy{MaxAttempts: 2} }
func parkingKeys() Policy { return Policy{MaxAttempts: 2, OnExhausted: ExhaustedPark} }

func TestExhaustedMessageIsSetAsideAndTheNextFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, box := &script{answers: always(fails, 2)}, &fakeDeadLetters{}
		s := newTestLane(t, h, testLaneOptions{policy: deadLetter(), letters: box})
		s.feedKeys(t, "a/1", "a/2", "a/3")
		time.Sleep(time.Minute)
		wantCalls(t, h, "1/1", "2/1", "2/2", "3/1")
		box.want(t, "dead a 2 max_attempts 2")
		if p, _ := s.Progress(); p.Checkpoint != 3 || p.Attempt != 0 || p.DeadLetterSeq != 1 {
			t.Errorf("progress %+v", p)
		}
		l := box.letters[0]
		if l.Error != "boom" || l.FirstFail.IsZero() || !l.LastFail.After(l.FirstFail) || l.Node != "n1" || l.Epoch != 7 ||
			l.Subject != "orders.a" {
			t.Errorf("letter %+v", l)
		}
	})
}

func TestRejectedMessageIsSetAsideAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, box := &script{answers: always(refuses, 1, 2, 3, 4, 5)}, &fakeDeadLetters{}
		s := newTestLane(t, h, testLaneOptions{policy: parkingKeys(), letters: box})
		s.feedKeys(t, "a/1", "a/2", "a/3", "a/4", "a/5", "a/6")
		time.Sleep(time.Minute)
		wantCalls(t, h, "1/1", "2/1", "3/1", "4/1", "5/1", "6/1") // The breaker does not mind, and no key is parked.
		box.want(t, "dead a 1 rejected 1; dead a 2 rejected 1; dead a 3 rejected 1; dead a 4 rejected 1; dead a 5 rejected 1")
	})
}

func TestOnlyWhatIsStoredIsPassed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, box := &script{answers: always(refuses, 1)}, &fakeDeadLetters{full: true}
		s := newTestLane(t, h, testLaneOptions{policy: deadLetter(), letters: box})
		s.feedKeys(t, "a/1", "a/2")
		time.Sleep(time.Hour)
		wantDone(t, s.Lane, 0, 0)
		if st := s.Status(); st.State != StateUnavailable || !strings.Contains(st.Error, "dlq_max_bytes") {
			t.Errorf("status %+v", st)
		}
		box.mu.Lock()
		box.full = false
		box.mu.Unlock()
		time.Sleep(2 * time.Minute)
		wantCalls(t, h, "1/1", "2/1")
		wantDone(t, s.Lane, 2, 0)
	})
}

func TestLetterThatDoesNotFitGoesWithoutHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, box := &script{answers: always(refuses, 1)}, &fakeDeadLetters{}
		box.refuse = func(l *deadletter.Record) error {
			if l.Headers != nil {
				return fmt.Errorf("%w: too many headers", deadletter.ErrRefused)
			}
			return nil
		}
		s := newTestLane(t, h, testLaneOptions{policy: deadLetter(), letters: box})
		s.Push(&stream.Entry{Seq: 1, Subject: "a", Headers: map[string][]string{"x": {"y"}}, Data: []byte("payload")})
		s.Signal()
		s.feedKeys(t, "a/2")
		time.Sleep(time.Minute)
		wantCalls(t, h, "1/1", "2/1")
		box.want(t, "dead a 1 rejected 1")
		if l := box.letters[0]; string(l.Data) != "payload" || !strings.Contains(l.LeftOut, "1 headers") ||
			!strings.Contains(l.LeftOut, "too many headers") {
			t.Errorf("letter %+v", l)
		}
	})
}

// TestLetterThatCanNeverBeStoredStopsThePartitionWithItsWayOut: it is not tried forever, and status names the command.
func TestLetterThatCanNeverBeStoredStopsThePartitionWithItsWayOut(t *testing.T) {
	for name, r := range map[string]handler.Result{"rejected": refuses, "exhausted": fails} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, box := &script{answers: always(r, 7)}, &fakeDeadLetters{}
				box.refuse = func(*deadletter.Record) error { return fmt.Errorf("%w: nothing fits", deadletter.ErrRefused) }
				policy := deadLetter()
				policy.Group = "billing"
				s := newTestLane(t, h, testLaneOptions{policy: policy, letters: box, grant: ownership.Grant{Partition: 3}})
				s.feedKeys(t, "a/7", "a/8")
				time.Sleep(time.Hour)
				wantDone(t, s.Lane, 0, s.Status().Attempt)
				st := s.Status()
				if st.State != StateBlocked || !strings.Contains(st.Error, "nothing fits") ||
					!strings.Contains(st.Error, "leasehold seek billing --partition 3 --to seq:8") {
					t.Errorf("status %+v", st)
				}
				if box.puts != 2 {
					t.Errorf("tried %d times", box.puts)
				}
			})
		})
	}
}

func TestNothingIsSetAsideBehindTheFence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		looks := 0
		h, box := &script{answers: always(refuses, 1)}, &fakeDeadLetters{}
		s := newTestLane(t, h, testLaneOptions{policy: deadLetter(), letters: box,
			grant: ownership.Grant{MayStart: func() bool {
				looks++
				return looks <= 1 // The call.
			}}})
		s.feedKeys(t, "a/1")
		time.Sleep(time.Hour)
		box.want(t, "")
		if st := s.Status(); st.State != StateFenced {
			t.Errorf("status %+v", st)
		}
	})
}

func TestNothingIsSetAsideBeforeItsAttemptsAreStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, box := &script{answers: always(fails, 1)}, &fakeDeadLetters{}
		s := newTestLane(t, h, testLaneOptions{policy: Policy{MaxAttempts: 1}, letters: box, store: func(*Lane) {}})
		s.feedKeys(t, "a/1")
		time.Sleep(time.Hour)
		box.want(t, "")
		p, urgent := s.Progress()
		if p.Attempt != 1 || !urgent {
			t.Fatalf("progress %+v, urgent %v", p, urgent)
		}
		s.Committed(p)
		synctest.Wait()
		box.want(t, "dead a 1 max_attempts 1")
	})
}

func TestPartitionThatNeverSetAnythingAsideAsksForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, box := &script{}, &fakeDeadLetters{fail: errTest}
		s := newTestLane(t, h, testLaneOptions{policy: parkingKeys(), letters: box})
		s.feedKeys(t, "a/1")
		synctest.Wait()
		wantDone(t, s.Lane, 1, 0)
	})
}

func TestBlockNeverSkips(t *testing.T) {
	for name, r := range map[string]handler.Result{"exhausted": fails, "rejected": refuses} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, box := &script{answers: always(r, 1)}, &fakeDeadLetters{}
				s := newTestLane(t, h, testLaneOptions{policy: Policy{MaxAttempts: 2, OnExhausted: ExhaustedBlock}, letters: box})
				s.feedKeys(t, "a/1", "a/2")
				time.Sleep(time.Hour)
				box.want(t, "")
				if st := s.Status(); st.State != StateBlocked || st.Checkpoint != 0 {
					t.Errorf("status %+v", st)
				}
			})
		})
	}
}

func TestParkedKeyKeepsItsOrderAndOthersGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, box := &script{answers: always(fails, 2)}, &fakeDeadLetters{}
		s := newTestLane(t, h, testLaneOptions{policy: parkingKeys(), letters: box})
		s.feedKeys(t, "b/1", "a/2", "b/3", "a/4", "c/5", "a/6")
		time.Sleep(time.Minute)
		wantCalls(t, h, "1/1", "2/1", "2/2", "3/1", "5/1")
		box.want(t, "parked a 2 max_attempts 2; parked a 4 parked 0; parked a 6 parked 0")
		if st := s.Status(); st.Parked != 1 || st.Checkpoint != 6 {
			t.Errorf("status %+v", st)
		}
	})
}

// TestKeysThatAreHashedAreParkedAndReleasedAsOthersAre: nothing but the dead letters' names knows of the hash.
func TestKeysThatAreHashedAreParkedAndReleasedAsOthersAre(t *testing.T) {
	for _, key := range []string{strings.Repeat("k", 4060), "M\xfcller", "a\u00a0b", "%sha256-x"} {
		synctest.Test(t, func(t *testing.T) {
			h, box := &script{answers: map[uint64][]handler.Result{1: {fails, fails}}}, &fakeDeadLetters{}
			s := newTestLane(t, h, testLaneOptions{policy: parkingKeys(), letters: box})
			s.feedKeys(t, key+"/1", key+"x/2", key+"/3")
			time.Sleep(time.Minute)
			wantCalls(t, h, "1/1", "1/2", "2/1")
			hash := partitioner.NewLetterKey(key)
			box.want(t, fmt.Sprintf("parked %s 1 max_attempts 2; parked %s 3 parked 0", hash, hash))
			if box.letters[1].Key != key {
				t.Errorf("the letter of %q has the key %q", key, box.letters[1].Key)
			}
			s.Drain()
			<-s.Stopped()
			p, _ := s.Progress()
			p.Release = string(hash)
			next := newTestLane(t, h, testLaneOptions{policy: parkingKeys(), letters: box,
				grant: ownership.Grant{Epoch: 8, Progress: p}})
			next.feedKeys(t, key+"/4")
			time.Sleep(time.Minute)
			wantCalls(t, h, "1/1", "1/2", "2/1", "1/1", "3/1", "4/1")
			box.want(t, "")
		})
	}
}

func TestNextOwnerKnowsTheParkedKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box := &fakeDeadLetters{}
		first := newTestLane(t, &script{answers: always(fails, 1)}, testLaneOptions{policy: parkingKeys(), letters: box})
		first.feedKeys(t, "a/1")
		time.Sleep(time.Minute)
		first.Drain()
		<-first.Stopped()
		p, _ := first.Progress()
		box.behind = 1 // A leader that has just been elected.
		h := &script{}
		next := newTestLane(t, h, testLaneOptions{policy: parkingKeys(), letters: box,
			grant: ownership.Grant{Epoch: 8, Progress: p}})
		next.feedKeys(t, "a/2", "b/3")
		time.Sleep(time.Minute)
		wantCalls(t, h, "3/1")
		box.want(t, "parked a 1 max_attempts 2; parked a 2 parked 0")
	})
}

func TestMessageSetAsideByAnOwnerThatDiedIsNotCalledAgain(t *testing.T) {
	for _, kind := range []partitioner.DeadLetterKind{partitioner.Dead, partitioner.Parked} {
		t.Run(string(kind), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, box := &script{}, &fakeDeadLetters{}
				place := partitioner.DeadLetterPlace{Group: "billing", Kind: kind, LetterKey: "a", Seq: 4}
				if _, err := box.Put(t.Context(), &deadletter.Record{DeadLetterPlace: place}); err != nil {
					t.Fatal(err)
				}
				s := newTestLane(t, h, testLaneOptions{policy: deadLetter(), letters: box,
					grant: ownership.Grant{Progress: ownership.Progress{Checkpoint: 3, Attempt: 2}}})
				s.feedKeys(t, "a/4", "b/5")
				time.Sleep(time.Minute)
				wantCalls(t, h, "5/1")
				wantDone(t, s.Lane, 5, 0)
			})
		})
	}
}

// TestDeadLetterThatIsStoredBehindTheFenceIsTold: the process was stopped between The fence check and the write.
func TestDeadLetterThatIsStoredBehindTheFenceIsTold(t *testing.T) {
	for _, late := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			var log workertest.LockedBuffer
			var passed atomic.Bool
			box := &fakeDeadLetters{refuse: func(*deadletter.Record) error { passed.Store(late); return nil }}
			s := newTestLane(t, &script{answers: always(fails, 1)}, testLaneOptions{
				policy: parkingKeys(), letters: box, logger: hclog.New(&hclog.LoggerOptions{Output: &log}),
				grant: ownership.Grant{MayStart: func() bool { return !passed.Load() }},
			})
			s.feedKeys(t, "a/1")
			time.Sleep(time.Minute)
			box.want(t, "parked a 1 max_attempts 2")
			if told := strings.Contains(log.String(), "dead letter stored late") &&
				strings.Contains(log.String(), "leasehold dlq drop"); told != late {
				t.Errorf("late %v: %s", late, log.String())
			}
		})
	}
}

// TestParkedKeyIsKnownWhateverTookTheAttemptsBack: an owner dies between the partition's first parked letter and its
// checkpoint, and what told of it is gone from the lease, or means less, before the next owner looks.
func TestParkedKeyIsKnownWhateverTookTheAttemptsBack(t *testing.T) {
	raised := parkingKeys()
	raised.MaxAttempts = 20
	for name, c := range map[string]struct {
		policy Policy
		p      ownership.Progress
		feed   []string
		calls  []string
		parked string
	}{
		"resume": {parkingKeys(), ownership.Progress{CheckDeadLetters: true}, []string{"a/1", "a/2", "b/3"},
			[]string{"3/1"}, "; parked a 2 parked 0"},
		"seek forward": {parkingKeys(), ownership.Progress{Checkpoint: 1, CheckDeadLetters: true},
			[]string{"a/2", "b/3"}, []string{"3/1"}, "; parked a 2 parked 0"},
		"seek beyond the key": {parkingKeys(), ownership.Progress{Checkpoint: 2, CheckDeadLetters: true},
			[]string{"b/3", "a/4"}, []string{"3/1"}, "; parked a 4 parked 0"},
		"max_attempts raised": {raised, ownership.Progress{Attempt: 2}, []string{"a/1", "a/2", "b/3"}, []string{"3/1"},
			"; parked a 2 parked 0"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, box := &script{}, &fakeDeadLetters{}
				place := partitioner.DeadLetterPlace{Group: "billing", Kind: partitioner.Parked, LetterKey: "a", Seq: 1}
				if _, err := box.Put(t.Context(), &deadletter.Record{DeadLetterPlace: place, Key: "a",
					Reason: deadletter.ReasonMaxAttempts, Attempts: 2}); err != nil {
					t.Fatal(err)
				}
				s := newTestLane(t, h, testLaneOptions{policy: c.policy, letters: box, grant: ownership.Grant{Progress: c.p}})
				s.feedKeys(t, c.feed...)
				time.Sleep(time.Minute)
				wantCalls(t, h, c.calls...)
				box.want(t, "parked a 1 max_attempts 2"+c.parked)
			})
		})
	}
}

// TestOwnerAfterALookLooksToo: the first one found a parked key and dies before it has handled anything.
func TestOwnerAfterALookLooksToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, box := &script{}, &fakeDeadLetters{}
		place := partitioner.DeadLetterPlace{Group: "billing", Kind: partitioner.Parked, LetterKey: "a", Seq: 1}
		if _, err := box.Put(t.Context(), &deadletter.Record{DeadLetterPlace: place}); err != nil {
			t.Fatal(err)
		}
		p := ownership.Progress{Checkpoint: 1, CheckDeadLetters: true}
		for epoch := uint64(7); epoch < 10; epoch++ {
			s := newTestLane(t, h, testLaneOptions{policy: parkingKeys(), letters: box,
				grant: ownership.Grant{Epoch: epoch, Progress: p}})
			time.Sleep(time.Minute)
			if st := s.Status(); st.Parked != 1 {
				t.Errorf("epoch %d: %+v", epoch, st)
			}
			s.Drain()
			<-s.Stopped()
			p, _ = s.Progress()
		}
		if p.CheckDeadLetters || p.DeadLetterSeq != 1 {
			t.Errorf("progress %+v", p)
		}
	})
}

// TestLookThatFindsNothingIsNotRepeated: the next takeover need not wait for the dead letters.
func TestLookThatFindsNothingIsNotRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestLane(t, &script{}, testLaneOptions{policy: parkingKeys(), letters: &fakeDeadLetters{},
			grant: ownership.Grant{Progress: ownership.Progress{CheckDeadLetters: true}}})
		time.Sleep(time.Minute)
		if p, _ := s.Progress(); p.CheckDeadLetters || p.DeadLetterSeq != 0 {
			t.Errorf("progress %+v", p)
		}
	})
}

func TestMessageWithoutAttemptsLeftIsTriedOnceByANewOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, box := &script{answers: always(fails, 4)}, &fakeDeadLetters{}
		s := newTestLane(t, h, testLaneOptions{policy: deadLetter(), letters: box,
			grant: ownership.Grant{Progress: ownership.Progress{Checkpoint: 3, Attempt: 2}}})
		s.feedKeys(t, "a/4", "b/5")
		time.Sleep(time.Minute)
		wantCalls(t, h, "4/2", "5/1")
		box.want(t, "dead a 4 max_attempts 2")
	})
}

// TestOutageEndsInThreeDeadLettersAtMost: several lanes of a group fail, and continue once one of them succeeds.
func TestOutageEndsInThreeDeadLettersAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		logger := hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Info})
		box, health := &fakeDeadLetters{}, NewBreaker(logger)
		var mu sync.Mutex
		broken := true
		h := handler.Func(func(context.Context, *handler.Message) handler.Result {
			mu.Lock()
			defer mu.Unlock()
			if broken {
				return fails
			}
			return handler.Result{Status: handler.OK}
		})
		var lanes []*testLane
		for p := range 8 {
			s := newTestLane(t, h, testLaneOptions{policy: deadLetter(), letters: box, health: health, logger: logger,
				grant: ownership.Grant{Partition: p}})
			s.feedKeys(t, "a/1", "a/2", "a/3", "a/4")
			lanes = append(lanes, s)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := len(box.letters); n != tripThreshold {
			t.Errorf("%d dead letters: %s", n, box.text())
		}
		stalled := 0
		for _, l := range lanes {
			if st := l.Status(); st.State == StateUnavailable && strings.Contains(st.Error, "circuit breaker open") &&
				!st.RetryAt.IsZero() {
				stalled++
			}
		}
		if stalled != len(lanes) {
			t.Errorf("%d of %d lanes say that they wait", stalled, len(lanes))
		}
		if n := strings.Count(log.String(), "the partition waits"); n != len(lanes) {
			t.Errorf("%d lines say that a partition waits, want one for each of %d:\n%s", n, len(lanes), log.String())
		}
		mu.Lock()
		broken = false
		mu.Unlock()
		time.Sleep(time.Minute + 13*time.Second) // One lane's longest wait; the others follow at once.
		synctest.Wait()
		for _, l := range lanes {
			wantDone(t, l.Lane, 4, 0)
		}
		if n := len(box.letters); n != tripThreshold {
			t.Errorf("%d dead letters after the recovery", n)
		}
	})
}

// TestCallOfAnOutageCountsNothingOnceTheOutageIsOver: a call hangs when another lane finds the handler in order again.
func TestCallOfAnOutageCountsNothingOnceTheOutageIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box, health := &fakeDeadLetters{}, NewBreaker(hclog.NewNullLogger())
		policy := Policy{MaxAttempts: 1, Timeout: time.Hour}
		answers := always(fails, 1, 2, 3)
		answers[4] = []handler.Result{fails, fails}
		failing := newTestLane(t, &script{answers: answers}, testLaneOptions{policy: policy, letters: box, health: health})
		hanging := &script{answers: map[uint64][]handler.Result{1: {fails}}, call: func(context.Context, *handler.Message) {
			time.Sleep(time.Minute)
		}}
		late := newTestLane(t, hanging, testLaneOptions{policy: policy, letters: box, health: health,
			grant: ownership.Grant{Partition: 1}})
		late.feedKeys(t, "a/1")
		failing.feedKeys(t, "a/1", "a/2", "a/3", "a/4")
		time.Sleep(time.Hour)
		wantDone(t, failing.Lane, 4, 0)
		wantDone(t, late.Lane, 1, 0)
		wantCalls(t, hanging, "1/1", "1/1")
		box.want(t, "dead a 1 max_attempts 1; dead a 2 max_attempts 1; dead a 3 max_attempts 1")
	})
}

func TestHandlersPauseIsStoredAndLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &script{answers: map[uint64][]handler.Result{1: {{Status: handler.Pause, Reason: "look at me"}}}}
		s := newTestLane(t, h, testLaneOptions{})
		s.feedKeys(t, "a/1")
		time.Sleep(time.Hour)
		s.Drain()
		<-s.Stopped()
		p, _ := s.Progress()
		if !strings.Contains(p.Paused, "look at me") || p.Checkpoint != 0 || s.woken.Load() != 1 {
			t.Fatalf("progress %+v after %d wake-ups", p, s.woken.Load())
		}
		next := newTestLane(t, h, testLaneOptions{grant: ownership.Grant{Epoch: 8, Progress: p}})
		next.feedKeys(t, "a/1", "a/2")
		time.Sleep(time.Hour)
		wantCalls(t, h, "1/1")
		if st := next.Status(); st.State != StatePaused || !strings.HasPrefix(st.Error, p.Paused) ||
			!strings.Contains(st.Error, "leasehold resume ") {
			t.Errorf("status %+v", st)
		}
	})
}

// parkSome parks key a with messages 1, 3 and 5, and b with 2.
func parkSome(t *testing.T) *fakeDeadLetters {
	t.Helper()
	box := &fakeDeadLetters{}
	for _, p := range []partitioner.DeadLetterPlace{
		{LetterKey: "a", Seq: 5}, {LetterKey: "b", Seq: 2}, {LetterKey: "a", Seq: 1}, {LetterKey: "a", Seq: 3},
	} {
		p.Group, p.Kind = "billing", partitioner.Parked
		if _, err := box.Put(t.Context(), &deadletter.Record{DeadLetterPlace: p, Key: string(p.LetterKey), Topic: "orders",
			Reason: deadletter.ReasonParked}); err != nil {
			t.Fatal(err)
		}
	}
	return box
}

func TestReleaseHandlesParkedMessagesInOrderBeforeLiveOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, box := &script{answers: map[uint64][]handler.Result{3: {fails, {Status: handler.Unavailable}}}}, parkSome(t)
		s := newTestLane(t, h, testLaneOptions{policy: parkingKeys(), letters: box,
			grant: ownership.Grant{Progress: ownership.Progress{Checkpoint: 6, Release: "a", DeadLetterSeq: 4}}})
		s.feedKeys(t, "b/7", "a/8")
		time.Sleep(5 * time.Minute)
		wantCalls(t, h, "1/1", "3/1", "3/2", "3/2", "5/1", "8/1")
		box.want(t, "parked b 2 parked 0; parked b 7 parked 0")
		if p, urgent := s.Progress(); p.Release != "" || p.Checkpoint != 8 || urgent {
			t.Errorf("progress %+v, urgent %v", p, urgent)
		}
	})
}

func TestReleaseOfEverythingLeavesWhatFailsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, box := &script{answers: always(fails, 3)}, parkSome(t)
		s := newTestLane(t, h, testLaneOptions{policy: parkingKeys(), letters: box,
			grant: ownership.Grant{Progress: ownership.Progress{Checkpoint: 6, Release: ownership.AllKeys}}})
		s.feedKeys(t, "b/7", "a/8")
		time.Sleep(5 * time.Minute)
		wantCalls(t, h, "1/1", "3/1", "3/2", "2/1", "7/1")
		box.want(t, "parked a 5 parked 0; parked a 3 parked 0; parked a 8 parked 0")
		if p, _ := s.Progress(); p.Release != "" {
			t.Errorf("progress %+v", p)
		}
	})
}

func TestReleaseGoesOnAtTheNextOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, box := &script{}, parkSome(t)
		h.call = func(_ context.Context, m *handler.Message) { time.Sleep(time.Minute) }
		s := newTestLane(t, h, testLaneOptions{policy: parkingKeys(), letters: box,
			grant: ownership.Grant{Progress: ownership.Progress{Checkpoint: 6, Release: "b a"}}})
		time.Sleep(90 * time.Second) // b is done, a has begun.
		s.Cancel(errors.New("dead"))
		<-s.Stopped()
		p, _ := s.Progress()
		if p.Release != "a" {
			t.Fatalf("left to release: %q", p.Release)
		}
		newTestLane(t, h, testLaneOptions{policy: parkingKeys(), letters: box, grant: ownership.Grant{Epoch: 8, Progress: p}})
		time.Sleep(time.Hour)
		wantCalls(t, h, "2/1", "1/1", "1/1", "3/1", "5/1")
		box.want(t, "")
	})
}

func TestReleasedMessageThatWillNeverWorkIsSetAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, box := &script{answers: always(refuses, 3)}, parkSome(t)
		newTestLane(t, h, testLaneOptions{policy: parkingKeys(), letters: box,
			grant: ownership.Grant{Progress: ownership.Progress{Checkpoint: 6, Release: "a"}}})
		time.Sleep(time.Minute)
		wantCalls(t, h, "1/1", "3/1", "5/1")
		box.want(t, "parked b 2 parked 0; dead a 3 rejected 1")
	})
}

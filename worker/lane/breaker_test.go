package lane

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"leasehold/internal/ownership"
	"leasehold/worker/handler"
	"leasehold/worker/stream"

	"github.com/hashicorp/go-hclog"
)

// healthRig is the lanes of a group that share a handler.
type healthRig struct {
	box   *fakeDeadLetters
	log   bytes.Buffer
	lanes []*testLane
}

func newHealthRig(t *testing.T, policy Policy, h handler.Handler, lanes ...[]stream.Entry) *healthRig {
	t.Helper()
	r := &healthRig{box: &fakeDeadLetters{}}
	logger := hclog.New(&hclog.LoggerOptions{Output: &r.log, Level: hclog.Info})
	shared := NewBreaker(logger)
	for p, messages := range lanes {
		s := newTestLane(t, h, testLaneOptions{policy: policy, letters: r.box, health: shared, logger: logger,
			grant: ownership.Grant{Partition: p}})
		r.lanes = append(r.lanes, s)
		go s.feedAll(messages)
	}
	return r
}

// judgedBroken is how often the breaker opened.
func (r *healthRig) judgedBroken() int {
	return strings.Count(r.log.String(), "circuit breaker open: the last")
}

// keysOf makes messages of a key.
func keysOf(key string, from, to uint64) (messages []stream.Entry) {
	for seq := from; seq <= to; seq++ {
		messages = append(messages, stream.Entry{Seq: seq, Subject: key})
	}
	return messages
}

// feedAll pushes messages as there is room, until the lane stops.
func (s *testLane) feedAll(messages []stream.Entry) {
	for i := range messages {
		for {
			ok, wake := s.Push(&messages[i])
			if wake {
				s.Signal()
			}
			if ok {
				break
			}
			select {
			case <-s.Stopped():
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
}

// hostileAfter answers messages whose key begins with "bad" after a while with a failure, and others with ok.
func hostileAfter(d time.Duration) handler.Func {
	return func(_ context.Context, m *handler.Message) handler.Result {
		time.Sleep(d)
		if strings.HasPrefix(m.Key, "bad") {
			return fails
		}
		return handler.Result{Status: handler.OK}
	}
}

// TestHostileMessagesDoNotStopAGroupWhoseOthersSucceed: 16 messages of one publisher, four at the head of each of
// four partitions, fail side by side while a fifth partition continues slowly. They are dead-lettered, and the
// handler is never taken for broken; whatever number of attempts, unless it is too small to tell.
func TestHostileMessagesDoNotStopAGroupWhoseOthersSucceed(t *testing.T) {
	for _, attempts := range []int{3, 4, 8} {
		t.Run(fmt.Sprint(attempts), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lane := append(keysOf("bad", 1, 4), keysOf("good", 5, 8)...)
				policy := Policy{MaxAttempts: attempts, Backoff: Backoff{Initial: time.Second, Max: 20 * time.Second, Factor: 2}}
				r := newHealthRig(t, policy, hostileAfter(300*time.Millisecond), lane, lane, lane, lane, keysOf("slow", 1, 8000))
				time.Sleep(30 * time.Minute)
				for _, l := range r.lanes[:4] {
					wantDone(t, l.Lane, 8, 0)
				}
				if n := r.box.count(); n != 16 {
					t.Errorf("%d dead letters: %s", n, r.box.text())
				}
				if n := r.judgedBroken(); n != 0 {
					t.Errorf("the handler was taken for broken %d times:\n%s", n, r.log.String())
				}
			})
		})
	}
}

// TestHostileMessagesAreToldFromAnOutageOnlyByProof: without a partition that continues, nothing tells them from one.
// The partitions wait, and say how an operator gets them going.
func TestHostileMessagesAreToldFromAnOutageOnlyByProof(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lane := append(keysOf("bad", 1, 4), keysOf("good", 5, 8)...)
		policy := deadLetter()
		policy.Group = "billing"
		r := newHealthRig(t, policy, hostileAfter(time.Second), lane, lane, lane, lane)
		time.Sleep(time.Hour)
		if n := r.box.count(); n != tripThreshold {
			t.Errorf("%d dead letters: %s", n, r.box.text())
		}
		for p, l := range r.lanes {
			st := l.Status()
			resume := fmt.Sprintf("leasehold resume billing --partition %d", p)
			seek := fmt.Sprintf("leasehold seek billing --partition %d --to seq:%d", p, st.Checkpoint+2)
			if st.State != StateUnavailable || !strings.Contains(st.Error, resume) || !strings.Contains(st.Error, seek) {
				t.Errorf("status %+v", st)
			}
		}
	})
}

// TestOutagesSetAsideNoMoreThanThreeEach: a service that comes and goes, at intervals that have nothing, or
// everything, to do with the backoff. No message is to blame, so none may be taken for proven.
func TestOutagesSetAsideNoMoreThanThreeEach(t *testing.T) {
	for _, c := range []struct{ up, down time.Duration }{
		{2 * time.Second, 20 * time.Second}, {100 * time.Millisecond, 500 * time.Millisecond}, {time.Second, time.Minute},
		{time.Minute, 10 * time.Minute},
	} {
		t.Run(fmt.Sprint(c.up, c.down), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var up atomic.Bool
				h := handler.Func(func(context.Context, *handler.Message) handler.Result {
					time.Sleep(20 * time.Millisecond)
					if up.Load() {
						return handler.Result{Status: handler.OK}
					}
					return fails
				})
				lanes := make([][]stream.Entry, 16)
				for p := range lanes {
					lanes[p] = keysOf("k", 1, 5000)
				}
				r := newHealthRig(t, Policy{MaxAttempts: 4, Backoff: Backoff{Initial: 500 * time.Millisecond, Max: 10 * time.Second,
					Factor: 2}}, h, lanes...)
				const outages = 10
				for range outages {
					up.Store(true)
					time.Sleep(c.up)
					up.Store(false)
					time.Sleep(c.down)
				}
				if n := r.box.count(); n > outages*tripThreshold {
					t.Errorf("%d dead letters in %d outages", n, outages)
				}
			})
		})
	}
}

func TestEvidenceNeedsProofUpToTheLastFailure(t *testing.T) {
	for name, c := range map[string]struct {
		successes []uint64 // At each failure.
		attempts  int
		want      bool
	}{
		"one failure":              {[]uint64{7}, 1, false},
		"two, proof between":       {[]uint64{7, 8}, 2, false},
		"three, proof between":     {[]uint64{7, 8, 9}, 3, true},
		"eight, proof everywhere":  {[]uint64{0, 1, 2, 3, 4, 5, 6, 7}, 8, true},
		"eight, proof of late":     {[]uint64{0, 0, 0, 0, 1, 2, 3, 4}, 8, true},
		"eight, too little proof":  {[]uint64{0, 0, 0, 0, 0, 1, 2, 3}, 8, false},
		"an outage in the end":     {[]uint64{0, 1, 2, 3, 4, 5, 6, 6}, 8, false},
		"an outage from the start": {[]uint64{5, 5, 5, 5, 5, 5, 5, 5}, 8, false},
	} {
		var e evidence
		for _, n := range c.successes {
			e.failed(n)
		}
		if got := e.against(c.attempts); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

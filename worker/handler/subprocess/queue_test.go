package subprocess

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"leasehold/internal/ownership"
	"leasehold/worker/handler"
	"leasehold/worker/lane"
	"leasehold/worker/stream"
	"leasehold/worker/workertest"

	"github.com/hashicorp/go-hclog"
)

// waiting waits until so many messages wait for the child's attention.
func (s *testSub) waiting(t *testing.T, n int) {
	t.Helper()
	workertest.Soon(t, func() error {
		c := s.supervisors[0].current()
		if c == nil {
			return errors.New("no child")
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.waiting) != n {
			return fmt.Errorf("%d messages wait, want %d", len(c.waiting), n)
		}
		return nil
	})
}

func (s *testSub) messages(t *testing.T) int {
	t.Helper()
	return strings.Count(s.awaitTrace(t, "init"), `"type":"message"`) +
		strings.Count(s.awaitTrace(t, "init"), `"type":"batch"`)
}

// assign has the child know the partitions below n, as their lanes see to.
func (s *testSub) assign(t *testing.T, n int) {
	t.Helper()
	for p := range n {
		if err := s.Assign(t.Context(), handler.Assignment{Partition: p, Epoch: 7, NextSeq: 1}); err != nil {
			t.Fatal(err)
		}
	}
}

// laneOf starts a lane of a partition that calls the handler with one message. mayStart may be nil.
func (s *testSub) laneOf(t *testing.T, partition int, mayStart func() bool, data string) *lane.Lane {
	t.Helper()
	policy := lane.DefaultPolicy()
	var l *lane.Lane
	l = lane.New(lane.Options{
		Policy: policy, Node: "n1", Logger: hclog.NewNullLogger(), MaxEntries: 4, MaxBytes: 1 << 20,
		Handler: handler.Func(func(ctx context.Context, m *handler.Message) handler.Result { return s.Handle(ctx, m) }),
		NewMessage: func(g ownership.Grant, e *stream.Entry) (handler.Message, error) {
			return handler.Message{
				ID: fmt.Sprintf("orders/%d/%d", partition, e.Seq), Topic: "orders", Group: "billing", Node: "n1",
				Partition: partition,
				Seq:       e.Seq, Epoch: g.Epoch, Timeout: policy.Timeout, MaxAttempts: policy.MaxAttempts, Data: e.Data,
			}, nil
		},
	}, ownership.Grant{Partition: partition, Epoch: 7, MayStart: mayStart, Wake: func() {
		p, _ := l.Progress()
		l.Committed(p)
	}})
	go l.Run()
	t.Cleanup(func() {
		l.Cancel(errors.New("end of test"))
		<-l.Stopped()
	})
	if ok, wake := l.Push(&stream.Entry{Seq: 1, Data: []byte(data)}); ok && wake {
		l.Signal()
	}
	return l
}

// TestDrainWithdrawsWhatWaitsForASequentialChild: the time of all calls together exceeds any hand-over's. Only the
// message that the child works on is finished, and no child is killed for another partition's call.
func TestDrainWithdrawsWhatWaitsForASequentialChild(t *testing.T) {
	for _, behaviour := range []string{"plain", "no-batches"} {
		t.Run(behaviour, func(t *testing.T) {
			const partitions = 16
			s := startSub(t, behaviour, nil)
			s.assign(t, partitions)
			var lanes []*lane.Lane
			for p := range partitions {
				lanes = append(lanes, s.laneOf(t, p, nil, "sleep 2s"))
			}
			s.waiting(t, partitions-1)
			pid := s.pid(t)
			for _, l := range lanes {
				l.Drain()
			}
			finished := 0
			for _, l := range lanes {
				<-l.Stopped()
				if p, _ := l.Progress(); p.Checkpoint == 1 {
					finished++
				}
			}
			if got := s.messages(t); got != 1 || finished != 1 {
				t.Errorf("the child got %d messages, %d of them finished; want one", got, finished)
			}
			if s.pid(t) != pid {
				t.Error("the child was killed")
			}
		})
	}
}

// TestLostPartitionDoesNotKillTheChildOfAnothersCall: what has not been written is withdrawn.
func TestLostPartitionDoesNotKillTheChildOfAnothersCall(t *testing.T) {
	s := startSub(t, "plain", nil)
	s.assign(t, 2)
	busy := s.laneOf(t, 0, nil, "sleep 1s")
	s.awaitTrace(t, "orders/0/1")
	lost := s.laneOf(t, 1, nil, "ok")
	s.waiting(t, 1)
	lost.Cancel(errors.New("lease lost"))
	<-lost.Stopped()
	workertest.Eventually(t, workertest.WaitLimit, func() error {
		if p, _ := busy.Progress(); p.Checkpoint != 1 || p.Attempt != 0 {
			return fmt.Errorf("progress of the other partition: %+v", p)
		}
		return nil
	})
	if starts := s.children()[0].Starts; starts != 1 || s.messages(t) != 1 {
		t.Errorf("%d children, %d messages", starts, s.messages(t))
	}
}

// TestDrainedPartitionDoesNotWaitForAChildToStart: no call of it has begun.
func TestDrainedPartitionDoesNotWaitForAChildToStart(t *testing.T) {
	s := startSub(t, "never-ready", func(c *Config, _ *handler.Env) { c.StartTimeout = time.Hour })
	l := s.laneOf(t, 0, nil, "ok")
	s.awaitTrace(t, "init")
	l.Drain()
	<-l.Stopped()
}

// TestDrainedPartitionDoesNotWaitForABusyChildToTakeIt: its child has not even acknowledged that it has the partition.
func TestDrainedPartitionDoesNotWaitForABusyChildToTakeIt(t *testing.T) {
	s := startSub(t, "plain", nil)
	s.assign(t, 1)
	s.laneOf(t, 0, nil, "hang")
	s.awaitTrace(t, "orders/0/1")
	l := s.laneOf(t, 1, nil, "ok")
	workertest.Soon(t, func() error {
		c := s.supervisors[0].current()
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.pending) != 2 {
			return fmt.Errorf("%d lines are out", len(c.pending))
		}
		return nil
	})
	l.Drain()
	<-l.Stopped()
}

// TestMessageThatWaitedIsNotWrittenBehindTheFence: a process that was stopped while the message waited finds the
// answer of the child before its watchdog cancels anything.
func TestMessageThatWaitedIsNotWrittenBehindTheFence(t *testing.T) {
	s := startSub(t, "plain", nil)
	s.assign(t, 2)
	first := make(chan handler.Result, 1)
	m := workertest.Message(0, 1, "sleep 1s")
	m.Epoch = 7
	go func() { first <- s.Handle(t.Context(), m) }()
	s.awaitTrace(t, "orders/0/1")
	var passed atomic.Bool
	l := s.laneOf(t, 1, func() bool { return !passed.Load() }, "ok")
	s.waiting(t, 1)
	passed.Store(true)
	workertest.WantStatus(t, <-first, handler.OK, "")
	workertest.Eventually(t, workertest.WaitLimit, func() error {
		if st := l.Status(); st.State != lane.StateFenced {
			return fmt.Errorf("lane is %+v", st)
		}
		return nil
	})
	if got := s.messages(t); got != 1 {
		t.Errorf("the child got %d messages", got)
	}
}

// TestCallThatWaitsForTheChildIsNotOverdue: its time has not begun.
func TestCallThatWaitsForTheChildIsNotOverdue(t *testing.T) {
	s := startSub(t, "plain", nil)
	s.assign(t, 2)
	busy := s.laneOf(t, 0, nil, "hang")
	s.awaitTrace(t, "orders/0/1")
	l := s.laneOf(t, 1, nil, "ok")
	s.waiting(t, 1)
	late := time.Now().Add(time.Hour)
	busy.CheckOverdue(late)
	l.CheckOverdue(late)
	if st := l.Status(); st.State != lane.StateHeld {
		t.Errorf("lane that waits is %+v", st)
	}
	if st := busy.Status(); st.State != lane.StateOverdue {
		t.Errorf("lane whose call hangs is %+v", st)
	}
	busy.Cancel(errors.New("lease lost"))
	workertest.Eventually(t, workertest.WaitLimit, func() error {
		if p, _ := l.Progress(); p.Checkpoint != 1 {
			return fmt.Errorf("progress %+v", p)
		}
		return nil
	})
}

// TestSequentialChildServesPartitionsInTurn: each message gets its answer, whatever comes to an end in between.
func TestSequentialChildServesPartitionsInTurn(t *testing.T) {
	s := startSub(t, "plain", nil)
	var all sync.WaitGroup
	for p := range 8 {
		all.Go(func() {
			for seq := uint64(1); seq <= 50; seq++ {
				ctx, cancel := context.WithCancel(t.Context())
				if seq%7 == uint64(p) { // Some are given up before or while they wait.
					cancel()
				}
				r := callUntilReady(ctx, s, workertest.Message(p, seq, "ok"))
				if r.Status != handler.OK && ctx.Err() == nil && !r.NotCalled() {
					t.Errorf("partition %d message %d: %+v", p, seq, r)
				}
				cancel()
			}
		})
	}
	all.Wait()
	s.waiting(t, 0)
}

package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// waiting waits until so many messages wait for the child's attention.
func (s *testSub) waiting(t *testing.T, n int) {
	t.Helper()
	soon(t, func() error {
		c := s.slots[0].current()
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
	return strings.Count(s.awaitTrace(t, "init"), `"type":"message"`) + strings.Count(s.awaitTrace(t, "init"), `"type":"batch"`)
}

// assign has the child know the partitions below n, as their lanes see to.
func (s *testSub) assign(t *testing.T, n int) {
	t.Helper()
	for p := range n {
		if err := s.Assign(t.Context(), Assignment{Partition: p, Epoch: 7, NextSeq: 1}); err != nil {
			t.Fatal(err)
		}
	}
}

// laneOf starts a lane of a partition that calls the handler with one message.
func (s *testSub) laneOf(t *testing.T, partition int, o standOptions, data string) *stand {
	t.Helper()
	o.grant.Partition = partition
	l := newStand(t, HandlerFunc(func(ctx context.Context, m *Message) Result {
		m.ID, m.Partition = fmt.Sprintf("orders/%d/%d", partition, m.Seq), partition
		return s.Handle(ctx, m)
	}), o)
	if ok, wake := l.Push(&entry{seq: 1, data: []byte(data)}); ok && wake {
		l.Signal()
	}
	return l
}

// TestDrainWithdrawsWhatWaitsForASequentialChild: the time of all calls together exceeds any hand-over's. Only the message
// that the child works on is finished, and no child is killed for another partition's call.
func TestDrainWithdrawsWhatWaitsForASequentialChild(t *testing.T) {
	for _, behaviour := range []string{"plain", "no-batches"} {
		t.Run(behaviour, func(t *testing.T) {
			const partitions = 16
			s := startSub(t, behaviour, nil)
			s.assign(t, partitions)
			var lanes []*stand
			for p := range partitions {
				lanes = append(lanes, s.laneOf(t, p, standOptions{}, "sleep 2s"))
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
	busy := s.laneOf(t, 0, standOptions{}, "sleep 1s")
	s.awaitTrace(t, "orders/0/1")
	lost := s.laneOf(t, 1, standOptions{}, "ok")
	s.waiting(t, 1)
	lost.Cancel(errors.New("lease lost"))
	<-lost.Stopped()
	eventually(t, waitLimit, func() error {
		if p, _ := busy.Progress(); p.Checkpoint != 1 || p.Attempt != 0 {
			return fmt.Errorf("progress of the other partition: %+v", p)
		}
		return nil
	})
	if starts := s.Children()[0].Starts; starts != 1 || s.messages(t) != 1 {
		t.Errorf("%d children, %d messages", starts, s.messages(t))
	}
}

// TestDrainedPartitionDoesNotWaitForAChildToStart: no call of it has begun.
func TestDrainedPartitionDoesNotWaitForAChildToStart(t *testing.T) {
	s := startSub(t, "never-ready", func(c *SubprocessConfig, _ *HandlerEnv) { c.StartTimeout = time.Hour })
	l := s.laneOf(t, 0, standOptions{}, "ok")
	s.awaitTrace(t, "init")
	l.Drain()
	<-l.Stopped()
}

// TestDrainedPartitionDoesNotWaitForABusyChildToTakeIt: its child has not even acknowledged that it has the partition.
func TestDrainedPartitionDoesNotWaitForABusyChildToTakeIt(t *testing.T) {
	s := startSub(t, "plain", nil)
	s.assign(t, 1)
	s.laneOf(t, 0, standOptions{}, "hang")
	s.awaitTrace(t, "orders/0/1")
	l := s.laneOf(t, 1, standOptions{}, "ok")
	soon(t, func() error {
		c := s.slots[0].current()
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

// TestMessageThatWaitedIsNotWrittenBehindTheFence: a process that was stopped while the message waited finds the answer of
// the child before its watchdog cancels anything.
func TestMessageThatWaitedIsNotWrittenBehindTheFence(t *testing.T) {
	s := startSub(t, "plain", nil)
	s.assign(t, 2)
	first := make(chan Result, 1)
	m := testMessage(0, 1, "sleep 1s")
	m.Epoch = 7
	go func() { first <- s.Handle(t.Context(), m) }()
	s.awaitTrace(t, "orders/0/1")
	var passed atomic.Bool
	o := standOptions{}
	o.grant.MayStart = func() bool { return !passed.Load() }
	l := s.laneOf(t, 1, o, "ok")
	s.waiting(t, 1)
	passed.Store(true)
	wantStatus(t, <-first, OK, "")
	eventually(t, waitLimit, func() error {
		if st := l.status(); st.State != StateFenced {
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
	busy := s.laneOf(t, 0, standOptions{}, "hang")
	s.awaitTrace(t, "orders/0/1")
	l := s.laneOf(t, 1, standOptions{}, "ok")
	s.waiting(t, 1)
	late := time.Now().Add(time.Hour)
	busy.checkOverdue(late)
	l.checkOverdue(late)
	if st := l.status(); st.State != StateHeld {
		t.Errorf("lane that waits is %+v", st)
	}
	if st := busy.status(); st.State != StateOverdue {
		t.Errorf("lane whose call hangs is %+v", st)
	}
	busy.Cancel(errors.New("lease lost"))
	eventually(t, waitLimit, func() error {
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
				r := callUntilReady(ctx, s, testMessage(p, seq, "ok"))
				if r.Status != OK && ctx.Err() == nil && !r.notCalled() {
					t.Errorf("partition %d message %d: %+v", p, seq, r)
				}
				cancel()
			}
		})
	}
	all.Wait()
	s.waiting(t, 0)
}

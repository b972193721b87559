// Package subprocess is the handler kind "subprocess": long-lived child processes that read and write JSON lines.
package subprocess

import (
	"context"
	"errors"
	"sync"
	"time"

	"leasehold/worker/handler"
)

// revokeTime bounds how long a hand-over waits for a child to acknowledge that a partition is gone. A child busy with
// another partition's call replies late, and the hand-over must not wait for that: it does not need the
// acknowledgement, since no call of the partition is under way.
const revokeTime = time.Second

// Handler has messages handled by long-lived child processes over their standard streams: docs/handlers.md holds the
// protocol. Each partition always goes to the same child, so a plain sequential program keeps the order.
type Handler struct {
	cfg         Config
	supervisors []*childSupervisor
}

// New builds the handler; Run starts children as they are needed.
func New(cfg Config, env handler.Env) (*Handler, error) {
	cfg, err := handler.Complete(cfg)
	if err != nil {
		return nil, err
	}
	s := &Handler{cfg: cfg}
	log := env.LoggerFor(kindName)
	for i := range cfg.Processes {
		s.supervisors = append(s.supervisors, newChildSupervisor(cfg, env, log.With("child", i)))
	}
	return s, nil
}

// Run keeps the children alive until ctx ends, and returns when all of them are dead.
func (s *Handler) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, sl := range s.supervisors {
		wg.Go(func() { sl.run(ctx) })
	}
	wg.Wait()
	return nil
}

// OwnsDeadline is true: a message's time runs while its child can work on it, not while a child is being started or is
// busy with another partition's message.
func (s *Handler) OwnsDeadline() bool { return true }

// Handle has the partition's child handle the message. If the child dies, the oldest message that it had is
// charged with an attempt, and the others are repeated at once. Handle returns after the child is dead if
// that is how the call ends.
func (s *Handler) Handle(ctx context.Context, m *handler.Message) handler.Result {
	c, notReady := s.readyChild(handler.TurnOf(ctx).Live, m) //nolint:contextcheck // Of the lane, as ctx is.
	if c == nil {
		return notReady
	}
	return c.call(ctx, m)
}

// BatchSize is 1 until the partition's child has asked for batches.
func (s *Handler) BatchSize(partition int) int {
	if c := s.supervisor(partition).current(); c != nil && c.takesBatches() {
		return s.cfg.Batch
	}
	return 1
}

// HandleBatch is Handle for a batch. If the child dies, it is unknown which of its messages is to blame.
func (s *Handler) HandleBatch(ctx context.Context, ms []*handler.Message) handler.BatchResult {
	c, notReady := s.readyChild(handler.TurnOf(ctx).Live, ms[0]) //nolint:contextcheck // Of the lane, as ctx is.
	switch {
	case c == nil:
		return handler.BatchResult{Result: notReady}
	case !c.takesBatches(): // It has replaced one that did.
		return handler.BatchResult{Result: handler.NewRetryNow(errJustStarted)}
	}
	return c.callBatch(ctx, ms)
}

// readyChild returns the child for a call beginning with m, or nil and why there is none. It waits only as long as the
// lane may start calls: no call has begun that could be lost.
//
// The caller has just made sure that the partition is still its own, and that is only worth something for a moment. So
// a call that had to wait, for a child to start or to take the partition over, is not made but asked for again.
func (s *Handler) readyChild(ctx context.Context, m *handler.Message) (*child, handler.Result) {
	c, waited, down := s.supervisor(m.Partition).ready(ctx)
	if c == nil {
		return nil, down
	}
	// A child that was started since then does not know of the partition.
	a := handler.Assignment{Partition: m.Partition, Epoch: m.Epoch, NextSeq: m.Seq}
	sent, err := c.assign(ctx, a, s.cfg.StartTimeout)
	switch {
	case err != nil:
		return nil, notAssigned(ctx, err)
	case waited || sent:
		return nil, handler.NewRetryNow(errJustStarted)
	}
	return c, handler.Result{}
}

// notAssigned is the result of a call whose child could not be told of the partition.
func notAssigned(ctx context.Context, err error) handler.Result {
	switch {
	case ctx.Err() != nil:
		return handler.ContextEnded(ctx)
	case errors.Is(err, errOtherPartition):
		return handler.NewRetryNow(errOtherPartition)
	}
	return handler.NewUnavailable("%w", err)
}

// Assign tells the partition's child and waits until it is ready for the partition.
func (s *Handler) Assign(ctx context.Context, a handler.Assignment) error {
	for {
		c, _, down := s.supervisor(a.Partition).ready(ctx)
		if c == nil {
			return down.Err
		}
		_, err := c.assign(ctx, a, s.cfg.StartTimeout)
		if !errors.Is(err, errOtherPartition) {
			return err
		}
	}
}

// Revoke tells the partition's child, if it knows of the partition, and gives it a moment to acknowledge.
func (s *Handler) Revoke(ctx context.Context, a handler.Assignment, reason string) {
	c := s.supervisor(a.Partition).current()
	if c == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, revokeTime)
	defer cancel()
	if err := c.revoke(ctx, a, reason); err != nil {
		c.log.Debug("revoke not acknowledged", "partition", a.Partition, "epoch", a.Epoch, "error", err)
	}
}

// supervisor returns the place of the partition's child.
func (s *Handler) supervisor(partition int) *childSupervisor {
	return s.supervisors[partition%len(s.supervisors)]
}

// childStatus describes a child.
type childStatus struct {
	PID     int    // 0 if there is none.
	Starts  int    // How often it has been started.
	Ignored int    // Replies of this child that no call waited for.
	Error   string // Why there is none, if it does not start.
}

// children returns the state of each child, in their order.
func (s *Handler) children() []childStatus {
	var all []childStatus
	for _, sl := range s.supervisors {
		all = append(all, sl.status())
	}
	return all
}

func (s *childSupervisor) status() childStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := childStatus{Starts: s.starts}
	if s.failure != nil {
		st.Error = s.failure.Error()
	}
	if s.child != nil {
		s.child.mu.Lock()
		defer s.child.mu.Unlock()
		st.PID, st.Ignored = s.child.Pid, s.child.ignored
	}
	return st
}

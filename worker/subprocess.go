package worker

import (
	"context"
	"errors"
	"sync"
	"time"
)

// revokeTime bounds how long a hand-over waits for a child to acknowledge that a partition is gone. A child busy with
// another partition's call answers late, and the hand-over must not wait for that: the acknowledgement is a courtesy,
// no call of the partition is under way.
const revokeTime = time.Second

// Subprocess has messages handled by long-lived child processes over their standard streams: docs/handlers.md holds the
// protocol. Each partition always goes to the same child, so a plain sequential program keeps the order.
type Subprocess struct {
	cfg   SubprocessConfig
	slots []*slot
}

// NewSubprocess builds the handler; Run starts children as they are needed.
func NewSubprocess(cfg SubprocessConfig, env HandlerEnv) (*Subprocess, error) {
	cfg, err := completed(cfg)
	if err != nil {
		return nil, err
	}
	s := &Subprocess{cfg: cfg}
	log := env.logger(kindSubprocess)
	for i := range cfg.Processes {
		s.slots = append(s.slots, newSlot(cfg, env, log.With("child", i)))
	}
	return s, nil
}

// Run keeps the children alive until ctx ends, and returns when all of them are dead.
func (s *Subprocess) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, sl := range s.slots {
		wg.Go(func() { sl.run(ctx) })
	}
	wg.Wait()
	return nil
}

// KeepsTime is true: a message's time runs while its child can work on it, not while a child is being started or is
// busy with another partition's message.
func (s *Subprocess) KeepsTime() bool { return true }

// Handle has the partition's child handle the message. If the child dies with it, the oldest message that it had is
// charged with an attempt, and the others are to be called again at once. Handle returns after the child is dead if
// that is how the call ends.
func (s *Subprocess) Handle(ctx context.Context, m *Message) Result {
	c, notReady := s.readyChild(turnOf(ctx).live, m)
	if c == nil {
		return notReady
	}
	return c.call(ctx, m)
}

// BatchSize is 1 until the partition's child has asked for batches.
func (s *Subprocess) BatchSize(partition int) int {
	if c := s.slot(partition).current(); c != nil && c.takesBatches() {
		return s.cfg.Batch
	}
	return 1
}

// HandleBatch is Handle for a batch. If the child dies with it, nobody knows which of its messages is to blame.
func (s *Subprocess) HandleBatch(ctx context.Context, ms []*Message) BatchResult {
	c, notReady := s.readyChild(turnOf(ctx).live, ms[0])
	switch {
	case c == nil:
		return BatchResult{Result: notReady}
	case !c.takesBatches(): // It has replaced one that did.
		return BatchResult{Result: again(errNotReady)}
	}
	return c.callBatch(ctx, ms)
}

// readyChild returns the child that is to handle a call beginning with m, or nil and why there is none. It waits no longer
// than the lane may start calls: nothing that is lost if it gives up has begun.
//
// The caller has just made sure that the partition is still its own, and that is only worth something for a moment. So
// a call that had to wait, for a child to start or to take the partition over, is not made but asked for again.
func (s *Subprocess) readyChild(ctx context.Context, m *Message) (*child, Result) {
	c, waited, down := s.slot(m.Partition).ready(ctx)
	if c == nil {
		return nil, down
	}
	// A child that was started since the partition was assigned has not heard of it.
	a := Assignment{Partition: m.Partition, Epoch: m.Epoch, NextSeq: m.Seq}
	sent, err := c.assign(ctx, a, s.cfg.StartTimeout)
	switch {
	case err != nil:
		return nil, notAssigned(ctx, err)
	case waited || sent:
		return nil, again(errNotReady)
	}
	return c, Result{}
}

// notAssigned is the result of a call whose child could not be told of the partition.
func notAssigned(ctx context.Context, err error) Result {
	switch {
	case ctx.Err() != nil:
		return ended(ctx)
	case errors.Is(err, errInnocent):
		return again(errInnocent)
	}
	return unavailable("%w", err)
}

// Assign tells the partition's child and waits until it is ready for the partition.
func (s *Subprocess) Assign(ctx context.Context, a Assignment) error {
	for {
		c, _, down := s.slot(a.Partition).ready(ctx)
		if c == nil {
			return down.Err
		}
		_, err := c.assign(ctx, a, s.cfg.StartTimeout)
		if !errors.Is(err, errInnocent) {
			return err
		}
	}
}

// Revoke tells the partition's child, if it knows of the partition, and gives it a moment to acknowledge.
func (s *Subprocess) Revoke(ctx context.Context, a Assignment, reason string) {
	c := s.slot(a.Partition).current()
	if c == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, revokeTime)
	defer cancel()
	if err := c.revoke(ctx, a, reason); err != nil {
		c.log.Debug("revoke not acknowledged", "partition", a.Partition, "epoch", a.Epoch, "error", err)
	}
}

// slot returns the place of the partition's child.
func (s *Subprocess) slot(partition int) *slot { return s.slots[partition%len(s.slots)] }

// ChildStatus is what there is to know about a child.
type ChildStatus struct {
	PID     int    // 0 if there is none.
	Starts  int    // How often it has been started.
	Ignored int    // Answers of this child that nobody waited for.
	Error   string // Why there is none, if it does not start.
}

// Children returns the state of each child, in their order.
func (s *Subprocess) Children() []ChildStatus {
	var all []ChildStatus
	for _, sl := range s.slots {
		all = append(all, sl.status())
	}
	return all
}

func (s *slot) status() ChildStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := ChildStatus{Starts: s.starts}
	if s.down != nil {
		st.Error = s.down.Error()
	}
	if s.child != nil {
		s.child.mu.Lock()
		defer s.child.mu.Unlock()
		st.PID, st.Ignored = s.child.pid, s.child.ignored
	}
	return st
}

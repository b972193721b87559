// Package worker does one group's work on one node: it runs the group's handler and the lanes of the partitions that
// the node holds. DESIGN.md describes the packages below it and a message's way through them.
package worker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"leasehold/internal/memory"
	"leasehold/internal/ownership"
	"leasehold/partitioner"
	"leasehold/worker/deadletter"
	"leasehold/worker/handler"
	"leasehold/worker/lane"
	"leasehold/worker/reader"
	"leasehold/worker/stream"
)

// Bounds of a lane's queue. All lanes of a group together hold at most queueBytes, or a part of the memory limit
// where that is less, unless each has its least.
const (
	queueEntries = handler.MaxBatch
	queueBytes   = 64 << 20
	queuePart    = 8
	laneBytesMin = 64 << 10
	laneBytesMax = 1 << 20
)

// GroupOptions are what a Group needs.
type GroupOptions struct {
	Config      Config // With its defaults filled in or not.
	Topic       partitioner.Topic
	Node        string
	Handler     handler.Handler
	Reader      *reader.Reader // Of the same topic; runs by itself.
	Logger      hclog.Logger
	DeadLetters *deadletter.Store
}

// Group is one group's work on this node: its handler and the lanes of the partitions that the node holds.
type Group struct {
	o       GroupOptions
	log     hclog.Logger
	breaker *lane.Breaker
	ready   chan struct{} // Closed by Run: the handler may be called.

	mu      sync.Mutex
	running map[*reader.Cursor]*lane.Lane // Lanes that have not stopped, by their cursor.
	applied map[int]uint64                // By partition: the last operator command that a lane began with.
	ended   bool                          // Run is stopping: no lane starts any more.
	lanes   sync.WaitGroup
}

// NewGroup builds a group. Its lanes do nothing before Run.
func NewGroup(o GroupOptions) (*Group, error) {
	o.Config = o.Config.WithDefaults()
	switch {
	case o.Handler == nil:
		return nil, fmt.Errorf("group %s: no handler", o.Config.Name)
	case o.Reader == nil || o.Reader.Topic.Name != o.Topic.Name:
		return nil, fmt.Errorf("group %s: no reader of topic %s", o.Config.Name, o.Topic.Name)
	}
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	log := o.Logger.Named("worker").With("group", o.Config.Name)
	return &Group{
		o: o, log: log, breaker: lane.NewBreaker(log), ready: make(chan struct{}), running: map[*reader.Cursor]*lane.Lane{},
		applied: map[int]uint64{},
	}, nil
}

// laneBytes is what the queue of one lane may hold.
func laneBytes(partitions int) int {
	return min(max(int(memory.Share(queueBytes, queuePart))/partitions, laneBytesMin), laneBytesMax)
}

// Run runs the handler and the lanes, until ctx ends or the handler fails. It returns when all of them have stopped.
// The lanes' owner has drained them by then; what is left is cancelled.
func (g *Group) Run(ctx context.Context) error {
	handling, endHandler := context.WithCancel(context.WithoutCancel(ctx))
	defer endHandler()
	failed := g.runHandler(handling)
	close(g.ready)
	err := g.watch(ctx, failed)
	g.stopLanes()
	endHandler() // Only now: calls need what the handler runs.
	if last, ok := <-failed; ok && err == nil {
		err = last
	}
	return err
}

// runHandler runs the handler if it is a Runner. The channel gets the error with which it ends, then it is closed.
func (g *Group) runHandler(ctx context.Context) <-chan error {
	ended := make(chan error, 1)
	runner, ok := g.o.Handler.(handler.Runner)
	if !ok {
		close(ended)
		return ended
	}
	go func() {
		defer close(ended)
		err := handler.Guard(func() error { return runner.Run(ctx) })
		switch {
		case err != nil && (ctx.Err() == nil || !errors.Is(err, ctx.Err())):
			ended <- fmt.Errorf("handler of group %s: %w", g.o.Config.Name, err)
		case err == nil && ctx.Err() == nil:
			ended <- fmt.Errorf("handler of group %s ended by itself", g.o.Config.Name)
		}
	}()
	return ended
}

// watch waits until ctx ends or the handler fails, and reports overdue calls meanwhile.
func (g *Group) watch(ctx context.Context, failed <-chan error) error {
	if _, ok := g.o.Handler.(handler.Runner); !ok {
		failed = nil
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case now := <-tick.C:
			for _, l := range g.all() {
				l.CheckOverdue(now)
			}
		}
	}
}

// stopLanes cancels and joins all lanes, and prevents later ones from starting.
func (g *Group) stopLanes() {
	g.mu.Lock()
	g.ended = true
	g.mu.Unlock()
	for _, l := range g.all() {
		l.Cancel(handler.ErrShutdown)
	}
	g.lanes.Wait()
}

func (g *Group) all() []*lane.Lane {
	g.mu.Lock()
	defer g.mu.Unlock()
	lanes := make([]*lane.Lane, 0, len(g.running))
	for _, l := range g.running {
		lanes = append(lanes, l)
	}
	return lanes
}

// Start starts the lane of a partition that this node has just claimed. Its goroutine is joined by Run. A lane that is
// started after Run has ended has stopped already.
func (g *Group) Start(grant ownership.Grant) *lane.Lane {
	cursor := g.o.Reader.NewCursor(grant.Partition, grant.Checkpoint)
	l := lane.New(lane.Options{
		Policy: g.o.Config.Policy(), Handler: g.o.Handler, NewMessage: g.message, Ready: g.ready, Reason: g.reason,
		Node: g.o.Node, DeadLetters: g.deadLetters(), Breaker: g.breaker, Logger: g.log, MaxEntries: queueEntries,
		MaxBytes:   laneBytes(g.o.Topic.Partitions),
		OnCapacity: cursor.HasCapacity, OnStop: func() { g.remove(cursor) },
	}, grant)
	if !g.admit(l, cursor, grant) {
		l.Cancel(handler.ErrShutdown)
		l.Run() // It only notes that it has stopped.
	}
	return l
}

// admit runs a lane and feeds it, unless Run has ended.
func (g *Group) admit(l *lane.Lane, cursor *reader.Cursor, grant ownership.Grant) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended {
		return false
	}
	if before, held := g.applied[grant.Partition]; held && grant.Applied > before {
		g.breaker.Reset("circuit breaker closed: an operator intervened")
	}
	g.applied[grant.Partition] = grant.Applied
	cursor.Start(l)
	g.running[cursor] = l
	g.lanes.Go(l.Run)
	return true
}

// deadLetters returns a nil interface if the group has no dead letters.
func (g *Group) deadLetters() lane.DeadLetters {
	if g.o.DeadLetters == nil {
		return nil
	}
	return g.o.DeadLetters
}

func (g *Group) remove(cursor *reader.Cursor) {
	cursor.Stop()
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.running, cursor)
}

// reason returns why a drained partition is revoked.
func (g *Group) reason() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended {
		return handler.ReasonShutdown
	}
	return handler.ReasonRebalance
}

// Status returns the lanes that have not stopped, by partition.
func (g *Group) Status() []lane.Status {
	g.mu.Lock()
	held := maps.Clone(g.running)
	g.mu.Unlock()
	now := time.Now()
	statuses := make([]lane.Status, 0, len(held))
	for f, l := range held {
		lag, passed := f.Lag(now) // Before the checkpoint: a message finished between the two is in one of them.
		s := l.Status()
		s.Lag, s.Passed = lag, passed
		statuses = append(statuses, s)
	}
	slices.SortFunc(statuses, func(a, b lane.Status) int { return a.Partition - b.Partition })
	return statuses
}

// message builds the envelope of a stored message. The lane fills in the attempt.
func (g *Group) message(grant ownership.Grant, e *stream.Entry) (handler.Message, error) {
	m, err := stream.Message(&g.o.Topic, e)
	if err != nil {
		return handler.Message{}, err
	}
	m.Group, m.Node, m.Epoch = g.o.Config.Name, g.o.Node, grant.Epoch
	m.MaxAttempts, m.Timeout = g.o.Config.MaxAttempts, g.o.Config.Timeout
	return m, nil
}

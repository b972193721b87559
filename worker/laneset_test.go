package worker

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"leasehold/internal/ownership"
)

// laneSet runs lanes on a reader, as a group does.
type laneSet struct {
	reader  *Reader
	options laneOptions
	running sync.WaitGroup

	mu  sync.Mutex
	all map[*feed]*Lane
}

func newLaneSet(r *Reader, h Handler, queueEntries int) *laneSet {
	policy := DefaultPolicy()
	policy.Group = "billing"
	return &laneSet{reader: r, all: map[*feed]*Lane{}, options: laneOptions{
		policy: policy, handler: h, node: "n1", logger: r.Logger, maxEntries: cmp.Or(queueEntries, maxBatch), maxBytes: 1 << 20,
		message: func(g ownership.Grant, e *entry) (Message, error) {
			m, err := storedMessage(&r.Topic, e)
			m.Epoch, m.MaxAttempts, m.Timeout = g.Epoch, policy.MaxAttempts, policy.Timeout
			return m, err
		},
	}}
}

// Start starts a lane.
func (s *laneSet) Start(g ownership.Grant) *Lane {
	cursor := s.reader.NewCursor(g.Partition, g.Checkpoint)
	o := s.options
	o.onCapacity = cursor.HasCapacity
	o.onStop = func() {
		cursor.Stop()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.all, cursor)
	}
	l := newLane(o, g)
	s.mu.Lock()
	s.all[cursor] = l
	s.mu.Unlock()
	cursor.Start(l)
	s.running.Go(l.run)
	return l
}

// Status returns the lanes that have not stopped, by partition.
func (s *laneSet) Status() (all []LaneStatus) {
	s.mu.Lock()
	lanes := maps.Clone(s.all)
	s.mu.Unlock()
	for cursor, l := range lanes {
		lag, passed := cursor.Lag(time.Now())
		st := l.status()
		st.Lag, st.Passed = lag, passed
		all = append(all, st)
	}
	slices.SortFunc(all, func(a, b LaneStatus) int { return a.Partition - b.Partition })
	return all
}

// stop ends all lanes and joins them.
func (s *laneSet) stop() {
	s.mu.Lock()
	lanes := maps.Clone(s.all)
	s.mu.Unlock()
	for _, l := range lanes {
		l.Cancel(ErrShutdown)
	}
	s.running.Wait()
}

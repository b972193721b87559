package reader

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"leasehold/internal/ownership"
	"leasehold/worker/handler"
	"leasehold/worker/lane"
	"leasehold/worker/stream"
)

// laneSet runs lanes on a reader, as a group does.
type laneSet struct {
	reader  *Reader
	options lane.Options
	running sync.WaitGroup

	mu  sync.Mutex
	all map[*Cursor]*lane.Lane
}

func newLaneSet(r *Reader, h handler.Handler, queueEntries int) *laneSet {
	policy := lane.DefaultPolicy()
	policy.Group = "billing"
	return &laneSet{reader: r, all: map[*Cursor]*lane.Lane{}, options: lane.Options{
		Policy: policy, Handler: h, Node: "n1", Logger: r.Logger, MaxEntries: cmp.Or(queueEntries, handler.MaxBatch),
		MaxBytes: 1 << 20,
		NewMessage: func(g ownership.Grant, e *stream.Entry) (handler.Message, error) {
			m, err := stream.Message(&r.Topic, e)
			m.Epoch, m.MaxAttempts, m.Timeout = g.Epoch, policy.MaxAttempts, policy.Timeout
			return m, err
		},
	}}
}

// Start starts a lane.
func (s *laneSet) Start(g ownership.Grant) *lane.Lane {
	cursor := s.reader.NewCursor(g.Partition, g.Checkpoint)
	o := s.options
	o.OnCapacity = cursor.HasCapacity
	o.OnStop = func() {
		cursor.Stop()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.all, cursor)
	}
	l := lane.New(o, g)
	s.mu.Lock()
	s.all[cursor] = l
	s.mu.Unlock()
	cursor.Start(l)
	s.running.Go(l.Run)
	return l
}

// Status returns the lanes that have not stopped, by partition.
func (s *laneSet) Status() (all []lane.Status) {
	s.mu.Lock()
	lanes := maps.Clone(s.all)
	s.mu.Unlock()
	for cursor, l := range lanes {
		lag, passed := cursor.Lag(time.Now())
		st := l.Status()
		st.Lag, st.Passed = lag, passed
		all = append(all, st)
	}
	slices.SortFunc(all, func(a, b lane.Status) int { return a.Partition - b.Partition })
	return all
}

// stop ends all lanes and joins them.
func (s *laneSet) stop() {
	s.mu.Lock()
	lanes := maps.Clone(s.all)
	s.mu.Unlock()
	for _, l := range lanes {
		l.Cancel(handler.ErrShutdown)
	}
	s.running.Wait()
}

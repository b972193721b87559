package cluster

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"leasehold/cluster/lease"
	"leasehold/internal/every"
)

// memory is a bucket in memory. Stores on it share the records as connections to one cluster would.
type memory struct {
	mu      sync.Mutex
	rev     uint64
	keys    map[lease.Key][]lease.Observed // Every revision, oldest first. No record at a revision is a deletion's marker.
	hearers map[int]hearer
	next    int
}

type hearer struct {
	store *fakeStore
	f     func(lease.Observed)
}

func newMemory() *memory {
	return &memory{keys: map[lease.Key][]lease.Observed{}, hearers: map[int]hearer{}}
}

// put applies a compare-and-set.
func (m *memory) put(w lease.Write) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if have := m.last(w.Key, 0).Revision; have != w.Revision {
		return 0, fmt.Errorf("write %v on revision %d, which is %d: %w", w.Key, w.Revision, have, ErrConflict)
	}
	m.rev++
	m.keys[w.Key] = append(m.keys[w.Key], lease.Observed{Key: w.Key, Revision: m.rev, Session: w.Session, Lease: w.Lease,
		Commands: w.Commands})
	return m.rev, nil
}

// last returns a key's record as it was some revisions ago. The caller holds mu.
func (m *memory) last(k lease.Key, back int) lease.Observed {
	if i := len(m.keys[k]) - 1 - back; i >= 0 {
		return m.keys[k][i]
	}
	return lease.Observed{Key: k}
}

// delete leaves a marker in place of a record.
func (m *memory) delete(k lease.Key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rev++
	m.keys[k] = append(m.keys[k], lease.Observed{Key: k, Revision: m.rev})
}

// history returns every revision of a key, oldest first.
func (m *memory) history(k lease.Key) []lease.Observed {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.keys[k])
}

func (m *memory) lease(group string, p int) lease.Lease {
	m.mu.Lock()
	defer m.mu.Unlock()
	if obs := m.last(lease.Key{Group: group, Partition: p}, 0); obs.Lease != nil {
		return *obs.Lease
	}
	return lease.Lease{}
}

func (m *memory) session(node string) lease.Session {
	m.mu.Lock()
	defer m.mu.Unlock()
	if obs := m.last(lease.SessionKey(node), 0); obs.Session != nil {
		return *obs.Session
	}
	return lease.Session{}
}

// fakeStore is one node's way to the memory, with everything on it that can go wrong.
type fakeStore struct {
	*memory

	fault   sync.Mutex
	down    chan struct{}                // Not nil: reads and writes hang until it is closed or their ctx ends.
	held    chan struct{}                // Not nil: the replies to writes wait until it is closed.
	delay   time.Duration                // From landing to the reply.
	stale   int                          // Reads are so many revisions behind.
	loseOne func(lease.Write) bool       // The reply to such a write is lost.
	late    func(lease.Write) bool       // Such a write lands only after its sender gave up.
	lands   sync.WaitGroup               // Writes that are to land late.
	wrote   func(lease.Write, time.Time) // Called with each write that was acknowledged, and when it was sent.
}

func newFakeStore(m *memory) *fakeStore { return &fakeStore{memory: m} }

// set changes the faults.
func (s *fakeStore) set(change func(*fakeStore)) {
	s.fault.Lock()
	defer s.fault.Unlock()
	change(s)
}

// hang stops replying; heal ends that.
func (s *fakeStore) hang() { s.set(func(s *fakeStore) { s.down = make(chan struct{}) }) }

func (s *fakeStore) heal() {
	s.set(func(s *fakeStore) { close(s.down); s.down = nil })
}

// pass waits until the store replies, or until ctx ends.
func (s *fakeStore) pass(ctx context.Context) error {
	for ctx.Err() == nil {
		s.fault.Lock()
		down := s.down
		s.fault.Unlock()
		if down == nil {
			return nil
		}
		select {
		case <-ctx.Done():
		case <-down:
		}
	}
	return ctx.Err()
}

func (s *fakeStore) Write(ctx context.Context, w lease.Write) (uint64, error) {
	sent := time.Now()
	if err := s.pass(ctx); err != nil {
		return 0, err
	}
	s.fault.Lock()
	held := s.held
	lose, late, delay, wrote := s.loseOne != nil && s.loseOne(w), s.late != nil && s.late(w), s.delay, s.wrote
	s.fault.Unlock()
	if late {
		<-ctx.Done()
		s.lands.Go(func() {
			time.Sleep(time.Millisecond)
			_, _ = s.put(w) // its outcome is lost
		})
		return 0, ctx.Err()
	}
	rev, err := s.put(w)
	if lose {
		<-ctx.Done()
		return 0, ctx.Err()
	}
	if held != nil {
		select {
		case <-held:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	if delay > 0 && !every.Sleep(ctx, delay) {
		return 0, ctx.Err()
	}
	if err == nil && wrote != nil {
		wrote(w, sent)
	}
	return rev, err
}

func (s *fakeStore) Read(ctx context.Context, k lease.Key) (lease.Observed, error) {
	if err := s.pass(ctx); err != nil {
		return lease.Observed{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last(k, s.behind()), nil
}

func (s *fakeStore) behind() int {
	s.fault.Lock()
	defer s.fault.Unlock()
	return s.stale
}

func (s *fakeStore) Sessions(ctx context.Context) ([]lease.Observed, error) {
	return s.all(ctx, func(k lease.Key) bool { return k.Node != "" || k == lease.CommandsKey(k.Group) })
}

func (s *fakeStore) Leases(ctx context.Context, group string, partitions int) ([]lease.Observed, error) {
	return s.all(ctx, func(k lease.Key) bool {
		return k.Node == "" && k.Group == group && k.Partition >= 0 && k.Partition < partitions
	})
}

func (s *fakeStore) all(ctx context.Context, want func(lease.Key) bool) ([]lease.Observed, error) {
	if err := s.pass(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var observed []lease.Observed
	for k := range s.keys {
		if obs := s.last(k, s.behind()); want(k) && obs.Revision > 0 {
			observed = append(observed, obs)
		}
	}
	return observed, nil
}

func (s *fakeStore) Announce(obs lease.Observed) {
	s.mu.Lock()
	var to []func(lease.Observed)
	for _, h := range s.hearers {
		if h.store != s && h.store.up() {
			to = append(to, h.f)
		}
	}
	s.mu.Unlock()
	if s.up() {
		for _, f := range to {
			f(obs)
		}
	}
}

func (s *fakeStore) up() bool {
	s.fault.Lock()
	defer s.fault.Unlock()
	return s.down == nil
}

func (s *fakeStore) Listen(ctx context.Context, f func(lease.Observed)) error {
	s.mu.Lock()
	id := s.next
	s.next++
	s.hearers[id] = hearer{store: s, f: f}
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock()
	delete(s.hearers, id)
	s.mu.Unlock()
	return nil
}

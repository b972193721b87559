package node

import (
	"errors"
	"sync"

	"leasehold/cluster"
	"leasehold/internal/status"
)

// stage is how far a run has come, for those who ask at any time: each of its values is nil until the run has reached
// it, and stays the same from then on.
type stage struct {
	mu      sync.Mutex
	closing bool          // The broker closes its listeners by itself: no lane may start any more.
	store   *status.Store // nil until the bucket is open.
	serving *status.Serving
	driver  *cluster.Driver
}

func (s *stage) opened() *status.Store {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.store
}

func (s *stage) serves() *status.Serving {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.serving
}

// leases is the lease driver, nil until the node serves.
func (s *stage) leases() *cluster.Driver {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.driver
}

// open shows that the bucket is open.
func (s *stage) open(store *status.Store) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store = store
}

// serve shows that the node serves. It fails once the broker closes.
func (s *stage) serve(driver *cluster.Driver, serving *status.Serving) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return errors.New("the broker is giving up")
	}
	s.driver, s.serving = driver, serving
	return nil
}

// close keeps the node from serving if it does not yet. It returns the lease driver if it does.
func (s *stage) close() *cluster.Driver {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = true
	return s.driver
}

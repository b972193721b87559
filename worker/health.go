package worker

import (
	"sync"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
)

// buriedInARow is how many messages a group may set aside on a node, by retry or timeout, with none succeeding between.
// Then it is taken for an outage of the handler, which must not empty a topic into the dead letters.
const buriedInARow = 3

// health is what the lanes of a group on this node have in common about their handler.
type health struct {
	log      hclog.Logger
	troubled atomic.Bool // Something has failed since the last success: there is something for ok to do.

	mu        sync.Mutex
	buried    int           // Messages set aside in a row.
	recovered chan struct{} // Closed, and made anew, at a success after trouble.
}

func newHealth(log hclog.Logger) *health {
	return &health{log: log, recovered: make(chan struct{})}
}

// ok notes a success. Lanes that wait for the handler try again at once: waiting out a long backoff each, they would all
// lag long after its return.
func (h *health) ok() {
	if h.troubled.Load() {
		h.reset("handler is available again")
	}
}

// reset forgets all trouble, because of a success or because a person acted.
func (h *health) reset(why string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.buried >= buriedInARow {
		h.log.Info(why)
	}
	h.buried = 0
	h.troubled.Store(false)
	close(h.recovered)
	h.recovered = make(chan struct{})
}

// mayBury allows one more message to be set aside.
func (h *health) mayBury() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.buried >= buriedInARow {
		return false
	}
	h.buried++
	h.troubled.Store(true)
	if h.buried == buriedInARow {
		h.log.Error("handler is taken for broken: the last messages all ended as dead letters; no more are set aside until one succeeds or a person acts",
			"messages", buriedInARow)
	}
	return true
}

// down notes that the handler cannot work, and returns what is closed when it can again.
func (h *health) down() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.troubled.Store(true)
	return h.recovered
}

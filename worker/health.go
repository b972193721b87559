package worker

import (
	"sync"
	"sync/atomic"
	"time"

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
	mended    time.Time     // When the handler was last no longer taken for broken; zero if it never was.
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
		h.mended = time.Now()
		h.log.Info(why)
	}
	h.buried = 0
	h.troubled.Store(false)
	close(h.recovered)
	h.recovered = make(chan struct{})
}

// verdict is whose fault it is that a message used up its attempts.
type verdict int

const (
	messageAtFault verdict = iota // It is to be set aside.
	handlerAtFault                // The handler is taken for broken.
	nobodyAtFault                 // The last call belongs to an outage that is over: the message is to be tried again.
)

// judge says whose fault the failure is of a call that began then, and counts a message that is to be set aside.
//
// An outage ends for all lanes with the first success of one of them. A call of another lane that began before may still
// time out after that, and its message would pay for the outage if that counted.
func (h *health) judge(began time.Time) verdict {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.buried >= buriedInARow:
		return handlerAtFault
	case began.Before(h.mended):
		return nobodyAtFault
	}
	h.buried++
	h.troubled.Store(true)
	if h.buried == buriedInARow {
		h.log.Error("handler is taken for broken: the last messages all ended as dead letters; no more are set aside until one succeeds or a person acts",
			"messages", buriedInARow)
	}
	return messageAtFault
}

// down notes that the handler cannot work, and returns what is closed when it can again.
func (h *health) down() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.troubled.Store(true)
	return h.recovered
}

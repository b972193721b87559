package lane

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
)

// tripThreshold is how many messages a group may dead-letter on a node, by retry or timeout, with none succeeding
// between. Then it is taken for an outage of the handler, which must not empty a topic into the dead letters.
const tripThreshold = 3

// evidence is what a lane knows of whether its head message is to blame for its failures, or the handler is.
//
// While the head message waits for its next attempt, calls of other partitions are the only proof that the handler
// works. Proof between one failure and the next says little: an outage may have begun in between. So it must be there
// again and again, up to the last failure. In an outage there is none, so the breaker does not rest on how it began.
type evidence struct {
	fails     bool   // There was a failure.
	successes uint64 // Of the group on this node, at the latest failure.
	proofs    int    // So many failures in a row, the latest included, had a success between them and the one before.
}

// failed notes a failure, with the number of successes so far.
func (e *evidence) failed(successes uint64) {
	if e.fails && successes != e.successes {
		e.proofs++
	} else {
		e.proofs = 0
	}
	e.fails, e.successes = true, successes
}

// against reports whether the message has failed so often beside others that succeeded that it is to blame.
func (e *evidence) against(maxAttempts int) bool { return e.proofs >= max(2, maxAttempts/2) }

// Breaker is what the lanes of a group on this node have in common about their handler.
type Breaker struct {
	log       hclog.Logger
	dirty     atomic.Bool   // Something has failed since the last success: there is something for ok to do.
	successes atomic.Uint64 // Calls that succeeded, a batch being one.

	mu           sync.Mutex
	deadLettered int           // Messages dead-lettered in a row.
	closedAt     time.Time     // When the handler breaker last closed; zero if it never was.
	recovered    chan struct{} // Closed and replaced at a success after trouble.
}

// NewBreaker returns a closed breaker.
func NewBreaker(log hclog.Logger) *Breaker {
	return &Breaker{log: log, recovered: make(chan struct{})}
}

// ok notes a success. Lanes that wait for the handler try again at once: waiting out a long backoff each, they would
// all lag long after its return.
func (h *Breaker) succeeded() {
	h.successes.Add(1)
	if h.dirty.Load() {
		h.Reset("handler recovered")
	}
}

// Reset forgets all trouble, because of a success or because an operator acted.
func (h *Breaker) Reset(why string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.deadLettered >= tripThreshold {
		h.closedAt = time.Now()
		h.log.Info(why)
	}
	h.deadLettered = 0
	h.dirty.Store(false)
	close(h.recovered)
	h.recovered = make(chan struct{})
}

// verdict is whose fault it is that a message used up its attempts.
type verdict int

const (
	messageAtFault verdict = iota // It is to be dead-lettered.
	handlerAtFault                // the breaker is open.
	nobodyAtFault                 // The last call belongs to an outage that is over: the message is to be tried again.
)

// classify says whose fault the failure is of a call that began then, and counts a message that is to be
// dead-lettered. One that is proven to be to blame says nothing about the handler: it does not count, and is
// dead-lettered even while the handler is taken for broken.
//
// An outage ends for all lanes with the first success of one of them. A call of another lane that began before may
// still time out after that, and its message would pay for the outage if that counted.
func (h *Breaker) classify(began time.Time, proven bool) verdict {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.deadLettered >= tripThreshold && !proven:
		return handlerAtFault
	case began.Before(h.closedAt):
		return nobodyAtFault
	case proven:
		return messageAtFault
	}
	h.deadLettered++
	h.dirty.Store(true)
	if h.deadLettered == tripThreshold {
		h.log.Error("circuit breaker open: the last messages were all dead-lettered; retrying the head message until it "+
			"succeeds or an operator intervenes (leasehold resume, or leasehold seek past a message)",
			"messages", tripThreshold)
	}
	return messageAtFault
}

// down notes that the handler cannot work, and returns what is closed when it can again.
func (h *Breaker) unavailable() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dirty.Store(true)
	return h.recovered
}

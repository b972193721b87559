package lane

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
)

// tripThreshold is how many messages in a row a group dead-letters on a node, by retry or timeout, before the breaker
// opens: that is taken for an outage of the handler, which must not empty a topic into the dead letters.
const tripThreshold = 3

// evidence is what a lane knows about whether its head message or the handler is to blame for the message's failures.
//
// While the head message waits for its next attempt, calls of other partitions are the only proof that the handler
// works. Proof between one failure and the next says little: an outage may have begun in between. So it must
// repeat, up to the last failure. In an outage there is none, so the breaker works however the outage began.
type evidence struct {
	fails     bool   // There was a failure.
	successes uint64 // Of the group on this node, at the latest failure.
	proofs    int    // How many failures in a row, up to the latest, came after a success of another message.
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

// Breaker is what the lanes of a group on this node share about their handler. It is open while calls fail because the
// handler seems to be down.
type Breaker struct {
	log       hclog.Logger
	dirty     atomic.Bool   // Something has failed since the last success: there is something for succeeded to do.
	successes atomic.Uint64 // Calls that succeeded, a batch being one.

	mu           sync.Mutex
	deadLettered int           // Messages dead-lettered in a row.
	closedAt     time.Time     // When the breaker last closed; zero if it was never open.
	recovered    chan struct{} // Closed and replaced at the first success after a failure.
}

// NewBreaker returns a closed breaker.
func NewBreaker(log hclog.Logger) *Breaker {
	return &Breaker{log: log, recovered: make(chan struct{})}
}

// succeeded notes a success. Lanes that wait for the handler try again at once: if each waited out a long backoff, they
// would lag long after the handler is back.
func (h *Breaker) succeeded() {
	h.successes.Add(1)
	if h.dirty.Load() {
		h.Reset("handler recovered")
	}
}

// Reset closes the breaker, because of a success or because an operator intervened; it logs why if it was open.
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
	handlerAtFault                // The breaker is open.
	nobodyAtFault                 // The last call belongs to an outage that is over: the message is to be tried again.
)

// classify says whose fault it is that a message used up its attempts, the last with a call that began at began, and
// counts a message that is to be dead-lettered. A message that is proven to be at fault says nothing about the handler:
// it does not count, and is dead-lettered even while the breaker is open.
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

// unavailable notes that the handler cannot work, and returns a channel that is closed when it can again.
func (h *Breaker) unavailable() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dirty.Store(true)
	return h.recovered
}

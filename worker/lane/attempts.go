package lane

import (
	"time"

	"github.com/hashicorp/go-hclog"

	"leasehold/internal/ownership"
	"leasehold/worker/handler"
)

// attempts counts what has failed since the last success, and makes the lane wait before the next call: after a failed
// attempt, or while the handler is unavailable. Only the lane's goroutine uses it; the count that must outlast the lane
// is in the ledger.
type attempts struct {
	policy  *Policy
	breaker *Breaker
	grant   *ownership.Grant
	ledger  *ledger
	life    *lifetime
	log     hclog.Logger

	lastDown int // Times in a row that the handler was unavailable.
	// Of the head message, as far as this lane knows; zero if it has not failed here.
	firstFail time.Time
	evidence  evidence // Against the head message.
}

// nextMessage forgets the head message.
func (a *attempts) nextMessage() { a.firstFail, a.evidence = time.Time{}, evidence{} }

// succeeded notes a call that succeeded.
func (a *attempts) succeeded() {
	a.breaker.succeeded()
	if a.lastDown > 0 {
		a.lastDown = 0
		a.log.Info("handler recovered")
	}
}

// noteFailure notes when the head message first failed.
func (a *attempts) noteFailure(now time.Time) {
	if a.firstFail.IsZero() {
		a.firstFail = now
	}
}

// raise counts a failure, up to the limit. It returns false if the lane is cancelled.
func (a *attempts) raise(r handler.Result) (attempt int, ok bool) {
	a.noteFailure(time.Now())
	a.evidence.failed(a.breaker.successes.Load())
	return a.ledger.raiseAttempt(a.policy.MaxAttempts, r.Text())
}

// again waits until the head message may be called again after a failed attempt. The attempt must be stored before the
// retry starts: otherwise a node that dies in every call would hand the message on with a fresh count each time,
// forever.
func (a *attempts) again(seq uint64, attempt int, r handler.Result) step {
	a.lastDown = 0
	if attempt == 1 {
		a.log.Warn("message failed, trying again", "seq", seq, "status", string(r.Status), "reason", r.Text())
	} else {
		a.log.Debug("message failed again", "seq", seq, "attempt", attempt, "status", string(r.Status), "reason",
			r.Text())
	}
	a.grant.Wake()
	if !a.life.sleep(a.delay(r, attempt)) || !a.life.awaitCommit() {
		return stepEnd
	}
	return stepAgain
}

// blame says whose fault it is that the head message has used up its attempts.
func (a *attempts) blame() verdict {
	return a.breaker.classify(a.ledger.callBegan(), a.evidence.against(a.policy.MaxAttempts))
}

// unavailable waits for a handler that cannot work. No attempt is counted: it is not the message's fault.
func (a *attempts) unavailable(seq uint64, r handler.Result) step {
	if r.NotCalled() {
		if !a.life.sleep(r.After) {
			return stepEnd
		}
		return stepAgain
	}
	return a.stall(seq, r)
}

// stall waits until the handler may work again: as long as it or the backoff says, or until it works for another
// partition. It logs only the first of several stalls in a row.
func (a *attempts) stall(seq uint64, r handler.Result) step {
	if a.lastDown == 0 {
		a.log.Warn("handler is unavailable, the partition waits", "seq", seq, "reason", r.Text())
	}
	a.lastDown++
	a.ledger.setState(StateUnavailable, r.Text())
	recovered := a.breaker.unavailable()
	first := a.delay(r, a.lastDown)
	later := time.Duration(0)
	if r.After == 0 { // What works for others may not work here: the first wait is not cut short.
		first, later = min(first, a.policy.Backoff.Initial), max(0, first-a.policy.Backoff.Initial)
	}
	if !a.life.sleep(first) || later > 0 && !a.life.sleepUntil(later, recovered) {
		return stepEnd
	}
	return stepAgain
}

// delay returns how long to wait after the n-th failure in a row: as the handler says, or as configured.
func (a *attempts) delay(r handler.Result, n int) time.Duration {
	if r.After > 0 {
		return r.After
	}
	return a.policy.Backoff.wait(n)
}

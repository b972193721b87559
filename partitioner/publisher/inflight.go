package publisher

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"leasehold/internal/plural"
)

const (
	retryMinPause = 50 * time.Millisecond // after a refusal that may pass
	retryMaxPause = 2 * time.Second

	// confirmLimit is how long a stream limit must have been the answer before it becomes the result. A node that no
	// longer leads the stream and is too slow to notice still receives each publish, beside the leader, and answers from
	// limits and counts of its own: refused here, stored there (seen while its disk was slow and publishing had just been
	// resumed). The leader's answer arrives meanwhile, or the next attempt is reported as a duplicate.
	confirmLimit = time.Second
)

// advance sends a message that has just become the head of its key. If it ends unsent, the next one of the key follows.
func (p *Publisher) advance(e *pending) {
	for e != nil {
		err := e.refusal
		if err == nil {
			attempt, begun := p.begin(e)
			if begun {
				p.send(e, attempt)
				return
			}
			err = ErrClosed
		}
		e = p.complete(e, e.failed(err))
	}
}

// begin puts a message in flight, with its first attempt; false if the publisher is closed.
func (p *Publisher) begin(e *pending) (attempt int, begun bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return 0, false
	}
	p.lastNum++
	e.num, e.first = p.lastNum, time.Now()
	p.inFlight[e.num] = e
	return p.attemptLocked(e), true
}

// beginRetry starts another attempt; 0 if there is none to send, because the message has its result.
func (p *Publisher) beginRetry(e *pending) (attempt int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.inFlight[e.num] != e {
		return 0
	}
	return p.attemptLocked(e)
}

// attemptLocked counts an attempt and sets its timeout; 0 if there is no connection to send it on. The client library
// would buffer it then, and send it even after the message has its result.
func (p *Publisher) attemptLocked(e *pending) (attempt int) {
	e.attempts++
	now := time.Now()
	if !p.nc.IsConnected() && !p.nc.IsClosed() {
		e.last = ErrNotConnected
		p.scheduleLocked(e, now.Add(pause(e.attempts)))
		return 0
	}
	e.unanswered = append(e.unanswered, e.attempts)
	p.scheduleLocked(e, now.Add(p.opt.AckTimeout<<min(e.attempts-1, 2)))
	return e.attempts
}

// send sends an attempt that has begun; attempt 0 is none.
func (p *Publisher) send(e *pending, attempt int) {
	if attempt == 0 {
		return
	}
	m := &nats.Msg{Subject: e.place.Subject, Reply: p.reply(e.num, attempt), Header: e.header, Data: e.data}
	if err := p.nc.PublishMsg(m); err != nil {
		p.handleAck(e.num, attempt, sendError(err))
	}
}

// pause is the time before the attempt that follows this one.
func pause(attempt int) time.Duration {
	return min(retryMinPause<<min(attempt-1, 10), retryMaxPause)
}

// scheduleLocked has the watch act on a message then, or when RetryFor is over if that is sooner.
func (p *Publisher) scheduleLocked(e *pending, then time.Time) {
	if over := e.first.Add(p.opt.RetryFor); then.After(over) {
		then = over
	}
	e.due = then
	if p.nextCheck.IsZero() || then.Before(p.nextCheck) {
		p.nextCheck = then
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
}

// reply is the reply subject of one attempt. It names message and attempt, so that a late acknowledgement is not taken
// for one of a later attempt.
func (p *Publisher) reply(num uint64, attempt int) string {
	var buf [96]byte
	b := append(buf[:0], p.inbox...)
	b = strconv.AppendUint(b, num, 36)
	b = append(b, '-')
	b = strconv.AppendInt(b, int64(attempt), 36)
	return string(b)
}

func (p *Publisher) parseReply(subject string) (num uint64, attempt int, ok bool) {
	token, ok := strings.CutPrefix(subject, p.inbox)
	first, second, dash := strings.Cut(token, "-")
	num, err1 := strconv.ParseUint(first, 36, 64)
	n, err2 := strconv.ParseInt(second, 36, 32)
	return num, int(n), ok && dash && err1 == nil && err2 == nil
}

// onReply handles an acknowledgement, on the subscription's goroutine.
func (p *Publisher) onReply(m *nats.Msg) {
	if num, attempt, ok := p.parseReply(m.Subject); ok {
		p.handleAck(num, attempt, readAck(p.topic.Name, m))
	}
}

// handleAck acts on the acknowledgement of one attempt. One that arrives after the result changes nothing.
func (p *Publisher) handleAck(num uint64, attempt int, a ack) {
	p.mu.Lock()
	if a.verdict != retryable { // a node that has been cut off for a while says only this
		p.lastAck = time.Now()
	}
	e := p.inFlight[num]
	if e == nil {
		p.mu.Unlock()
		return
	}
	if a.verdict == rejected || a.verdict == retryable || a.verdict == overLimit {
		e.unanswered = slices.DeleteFunc(e.unanswered, func(n int) bool { return n == attempt })
	}
	if next, again := e.retryAt(a, attempt, time.Now()); again {
		e.last = a.err
		if attempt == e.attempts { // else a later attempt is in flight and has a schedule of its own
			p.scheduleLocked(e, next)
		}
		p.mu.Unlock()
		return
	}
	delete(p.inFlight, num)
	p.mu.Unlock()
	p.advance(p.complete(e, e.result(a)))
}

// retryAt is when to try again after an acknowledgement that is not final.
func (e *pending) retryAt(a ack, attempt int, now time.Time) (at time.Time, again bool) {
	switch a.verdict {
	case retryable, undecided:
		return now.Add(pause(attempt)), true
	case overLimit:
		if e.overLimitSince.IsZero() {
			e.overLimitSince = now
		}
		at = e.overLimitSince.Add(confirmLimit)
		return at, now.Before(at)
	}
	return time.Time{}, false
}

// result is the result of a final acknowledgement. A refusal of one attempt says nothing of another without an answer:
// that one may still be on its way to the broker.
func (e *pending) result(a ack) Result {
	if a.verdict != acked {
		return e.failed(a.err)
	}
	r := Result{Outcome: Stored, Sequence: a.sequence, Partition: e.place.Partition, Key: e.place.Key, ID: e.id}
	if a.duplicate && !e.generated {
		r.Outcome = Duplicate
	}
	return r
}

// failed is the result of a message that was not acknowledged as stored: Refused if no attempt can have stored it.
func (e *pending) failed(err error) Result {
	r := Result{Outcome: Refused, Partition: e.place.Partition, Key: e.place.Key, ID: e.id, Err: err}
	if len(e.unanswered) > 0 {
		r.Outcome = Unknown
		r.Err = fmt.Errorf("not acknowledged in %s, so it may be stored, now or later: %w", plural.Of(e.attempts, "attempt"),
			err)
	}
	return r
}

// complete passes a message its result and returns the next one of its key. The caller has removed it from inFlight, or
// it never was in it, so this happens once. The head stays in place until the callback returns, which keeps the
// callbacks of a key in order.
func (p *Publisher) complete(e *pending, r Result) *pending {
	p.mu.Lock()
	q := p.keys[e.place.Key]
	if r.Outcome == Unknown && !p.closed {
		q.blocked = true // before the callback, which may resolve it
		p.blocked += len(q.waiting)
	}
	p.mu.Unlock()
	e.callback(r)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.releaseLocked(e)
	return p.nextLocked(e.place.Key, q)
}

// watch retries what was not acknowledged in time, and ends what has exceeded RetryFor.
func (p *Publisher) watch() {
	defer close(p.done)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	status := p.status
	for {
		select {
		case <-p.stop:
			return
		case <-p.wake:
		case <-timer.C:
		case _, open := <-status:
			if !open {
				status = nil
			}
			p.retryNow()
		}
		if wait, more := p.check(); more {
			timer.Reset(wait)
		} else {
			timer.Stop()
		}
	}
}

// retryNow makes everything due: no acknowledgement arrives on a connection that has been replaced.
func (p *Publisher) retryNow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.nextCheck = now
	for _, e := range p.inFlight {
		e.due = now
	}
}

// check handles everything that is due. It returns the time until the next check, if anything is in flight.
func (p *Publisher) check() (wait time.Duration, more bool) {
	late, over := p.due(time.Now())
	for _, e := range over {
		p.advance(p.complete(e, e.failed(e.overdue())))
	}
	for _, e := range late {
		p.send(e, p.beginRetry(e))
	}
	if p.opt.Failover && p.unresponsive(time.Now()) {
		_ = p.nc.ForceReconnect() // it fails when the connection is closed, which shows elsewhere
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.nextCheck = time.Time{}
	for _, e := range p.inFlight {
		if p.nextCheck.IsZero() || e.due.Before(p.nextCheck) {
			p.nextCheck = e.due
		}
	}
	return time.Until(p.nextCheck), len(p.inFlight) > 0
}

// unresponsive reports whether nothing has been acknowledged for so long that another server may do better. It is true
// at most once in that time.
func (p *Publisher) unresponsive(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	limit := now.Add(-unresponsiveAfter * p.opt.AckTimeout)
	if p.lastAck.After(limit) || !p.nc.IsConnected() {
		return false
	}
	for _, e := range p.inFlight {
		if e.first.Before(limit) {
			p.lastAck = now
			return true
		}
	}
	return false
}

// due lists what must be sent again, in the order first sent, and removes what has exceeded RetryFor.
func (p *Publisher) due(now time.Time) (late, over []*pending) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.nextCheck.After(now) {
		return nil, nil
	}
	for num, e := range p.inFlight {
		switch {
		case e.due.After(now):
		case elapsed(now, e.first) >= p.opt.RetryFor:
			delete(p.inFlight, num)
			over = append(over, e)
		default:
			late = append(late, e)
		}
	}
	slices.SortFunc(late, func(a, b *pending) int { return cmp.Compare(a.num, b.num) })
	return late, over
}

func (e *pending) overdue() error {
	if e.last == nil {
		return ErrNoAnswer
	}
	return e.last
}

// elapsed is the time since a moment by the clock that has seen more of it: the monotonic clock stands still while the
// machine is suspended, and the broker's dedup window does not.
func elapsed(now, since time.Time) time.Duration {
	return max(now.Sub(since), now.Round(0).Sub(since.Round(0)))
}

// wrapErrorHandler listens for refused publishes, which the broker reports on the connection instead of the inbox.
func (p *Publisher) wrapErrorHandler() {
	before := p.nc.ErrorHandler()
	p.nc.SetErrorHandler(func(nc *nats.Conn, sub *nats.Subscription, err error) {
		if errors.Is(err, nats.ErrPermissionViolation) {
			p.onViolation(err)
		}
		if before != nil {
			before(nc, sub, err)
		}
	})
}

// onViolation finds the message that a permission error is about, by its subject or, if the reply subject was refused,
// by its number. The broker has dropped that attempt.
func (p *Publisher) onViolation(err error) {
	refused := ack{verdict: rejected, err: fmt.Errorf("%w: %w", ErrNotPermitted, err)}
	if reply, ok := quotedAfter(err.Error(), "Publish with Reply of "); ok {
		if num, attempt, ok := p.parseReply(reply); ok {
			p.handleAck(num, attempt, refused)
		}
		return
	}
	subject, ok := quotedAfter(err.Error(), "Publish to ")
	if !ok {
		return
	}
	place, err := p.topic.Placement(subject)
	if err != nil {
		return
	}
	p.mu.Lock()
	var num uint64
	attempt := 0
	if q := p.keys[place.Key]; q != nil && q.head != nil && q.head.place.Subject == subject && len(q.head.unanswered) > 0 {
		num, attempt = q.head.num, q.head.unanswered[0]
	}
	p.mu.Unlock()
	if attempt > 0 {
		p.handleAck(num, attempt, refused)
	}
}

// quotedAfter is the quoted string that follows a phrase.
func quotedAfter(text, phrase string) (string, bool) {
	_, rest, ok := strings.Cut(text, phrase)
	quoted, err := strconv.QuotedPrefix(rest)
	if !ok || err != nil {
		return "", false
	}
	s, err := strconv.Unquote(quoted)
	return s, err == nil
}

package worker

import (
	"time"
)

// batchBytes bounds the payload of a batch. A batch always takes its first message, however large.
const batchBytes = 1 << 20

// job is a message at hand, with its envelope.
type job struct {
	m   *Message
	err error // Why there is no envelope; then m has a sequence only.
}

func (l *Lane) newJob(e *entry) job {
	m, err := l.message(l.grant, e)
	if err != nil {
		m.Seq = e.seq
	}
	return job{m: &m, err: err} // A handler may keep its message, so none is used twice.
}

// gather makes jobs of a message and, for a handler that takes batches, of those that wait behind it. It waits for none.
func (l *Lane) gather(e *entry) []job {
	l.jobs = append(l.jobs[:0], l.newJob(e))
	b, ok := l.handler.(Batcher)
	if !ok || l.singly > 0 {
		return l.jobs
	}
	most, bytes := b.BatchSize(l.grant.Partition), e.size()
	for len(l.jobs) < most {
		next, ok := l.popWithin(batchBytes - bytes)
		if !ok {
			break
		}
		bytes += next.size()
		l.jobs = append(l.jobs, l.newJob(&next))
	}
	return l.jobs
}

// popWithin takes the next message if there is one of at most so many bytes.
func (l *Lane) popWithin(bytes int) (entry, bool) {
	l.mu.Lock()
	if l.draining || l.cause != nil || !l.queue.fits(bytes) {
		l.mu.Unlock()
		return entry{}, false
	}
	e, ok := l.queue.pop()
	if ok {
		l.current++
	}
	fed := l.fedLocked()
	l.mu.Unlock()
	if fed {
		l.onCapacity()
	}
	return e, ok
}

// batchOf returns how many of the messages the next call takes: those before one that is not called at all.
func (l *Lane) batchOf(jobs []job) int {
	b, ok := l.handler.(Batcher)
	if !ok || l.singly > 0 || len(jobs) == 1 {
		return 1
	}
	n := min(len(jobs), b.BatchSize(l.grant.Partition))
	for i := range n {
		if jobs[i].err != nil || l.isForOthers(jobs[i].m) || l.isParked(jobs[i].m.Key) {
			return i
		}
	}
	return n
}

// callBatch makes one call with several messages and settles it.
func (l *Lane) callBatch(jobs []job) (finished int, ok bool) {
	ms := make([]*Message, len(jobs))
	for i := range jobs {
		jobs[i].m.Attempt = 1
		ms[i] = jobs[i].m
	}
	now := time.Now()
	if !l.begin(ms[0], now) {
		return 0, false
	}
	if !l.grant.MayStart() {
		l.awaitEnd(StateFenced, "")
		return 0, false
	}
	return l.settleBatch(jobs, l.handleBatch(now, ms))
}

func (l *Lane) handleBatch(now time.Time, ms []*Message) (r BatchResult) {
	defer l.caught(ms[0].Seq, func(reason string) { r = BatchResult{Result: Result{Status: Retry, Reason: reason}} })
	ctx, end := l.callContext(now, ms[0].Timeout)
	defer end()
	return l.handler.(Batcher).HandleBatch(ctx, ms)
}

// settleBatch books a batch: its prefix is done, and the message after it is settled as if it had been called alone. A
// failure that is nobody's in particular is nobody's attempt: the messages are called one by one.
func (l *Lane) settleBatch(jobs []job, r BatchResult) (finished int, ok bool) {
	n := min(max(r.OK, 0), len(jobs))
	if n > 0 && l.settleOK(&jobs[n-1], n) == stepEnd {
		return n, false
	}
	if n == len(jobs) || n > 0 && r.Rest {
		return n, true
	}
	if l.cancelled() {
		return n, false
	}
	l.singly = n + 1 // The prefix is taken off again.
	if !r.Named && r.Result.Status != Unavailable && r.Result.Status != Pause {
		l.singly = len(jobs)
		l.log.Debug("batch failed, its messages are called one by one", "from", jobs[n].m.Seq, "messages", len(jobs)-n, "reason", r.Result.text())
		return n, true
	}
	m, ok := one(l.settle(&jobs[n], r.Result))
	return n + m, ok
}

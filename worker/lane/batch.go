package lane

import (
	"time"

	"leasehold/worker/handler"
	"leasehold/worker/stream"
)

// batchBytes bounds the payload of a batch. A batch always takes its first message, however large.
const batchBytes = 1 << 20

// job is a message at hand, with its envelope.
type job struct {
	m   *handler.Message
	err error // Why there is no envelope; then m has a sequence only.
}

func (l *Lane) newJob(e *stream.Entry) job {
	m, err := l.o.NewMessage(l.grant, e)
	if err != nil {
		m.Seq = e.Seq
	}
	return job{m: &m, err: err} // A handler may keep its message, so none is used twice.
}

// gather makes jobs of a message and, for a handler that takes batches, of those that wait behind it. It waits for
// none.
func (l *Lane) gather(e *stream.Entry) []job {
	l.jobs = append(l.jobs[:0], l.newJob(e))
	b, ok := l.o.Handler.(handler.Batcher)
	if !ok || l.singleLeft > 0 {
		return l.jobs
	}
	most, bytes := b.BatchSize(l.grant.Partition), e.Size()
	for len(l.jobs) < most {
		next, ok := l.popWithin(batchBytes - bytes)
		if !ok {
			break
		}
		bytes += next.Size()
		l.jobs = append(l.jobs, l.newJob(&next))
	}
	return l.jobs
}

// popWithin takes the next message if there is one of at most so many bytes.
func (l *Lane) popWithin(bytes int) (stream.Entry, bool) {
	l.mu.Lock()
	if l.draining || l.cause != nil || !l.queue.fits(bytes) {
		l.mu.Unlock()
		return stream.Entry{}, false
	}
	e, ok := l.queue.pop()
	if ok {
		l.current++
	}
	fed := l.capacityFreedLocked()
	l.mu.Unlock()
	if fed {
		l.o.OnCapacity()
	}
	return e, ok
}

// batchOf returns how many of the messages the next call takes: those before one that is not called at all.
func (l *Lane) batchSize(jobs []job) int {
	b, ok := l.o.Handler.(handler.Batcher)
	if !ok || l.singleLeft > 0 || len(jobs) == 1 {
		return 1
	}
	n := min(len(jobs), b.BatchSize(l.grant.Partition))
	for i := range n {
		if jobs[i].err != nil || l.isForOtherGroup(jobs[i].m) || l.isParked(jobs[i].m.Key) {
			return i
		}
	}
	return n
}

// callBatch makes one call with several messages and settles it.
func (l *Lane) callBatch(jobs []job) (finished int, ok bool) {
	ms := make([]*handler.Message, len(jobs))
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
	return l.applyBatch(jobs, l.handleBatch(now, ms))
}

func (l *Lane) handleBatch(now time.Time, ms []*handler.Message) (r handler.BatchResult) {
	defer l.recoverPanic(ms[0].Seq, func(reason string) {
		r = handler.BatchResult{Result: handler.Result{Status: handler.Retry, Reason: reason}}
	})
	ctx, end := l.callContext(now, ms[0].Timeout)
	defer end()
	return l.o.Handler.(handler.Batcher).HandleBatch(ctx, ms)
}

// applyBatch books a batch: its prefix is done, and the message after it is settled as if it had been called alone. A
// failure that is nobody's in particular is nobody's attempt: the messages are called one by one.
func (l *Lane) applyBatch(jobs []job, r handler.BatchResult) (finished int, ok bool) {
	n := min(max(r.OK, 0), len(jobs))
	if n > 0 && l.applyOK(&jobs[n-1], n) == stepEnd {
		return n, false
	}
	if n == len(jobs) || n > 0 && r.Rest {
		return n, true
	}
	if l.cancelled() {
		return n, false
	}
	l.singleLeft = n + 1 // The prefix is taken off again.
	if !r.Named && r.Result.Status != handler.Unavailable && r.Result.Status != handler.Pause {
		l.singleLeft = len(jobs)
		l.log.Debug("batch failed, its messages are called one by one", "from", jobs[n].m.Seq, "messages", len(jobs)-n,
			"reason", r.Result.Text())
		return n, true
	}
	m, ok := outcome(l.applyResult(&jobs[n], r.Result))
	return n + m, ok
}

package lane

import "leasehold/worker/handler"

// batchSize returns how many of the messages the next call takes: those before the first that is not called at all.
func (l *Lane) batchSize(jobs []job) int {
	b, ok := l.o.Handler.(handler.Batcher)
	if !ok || l.singleLeft > 0 || len(jobs) == 1 {
		return 1
	}
	n := min(len(jobs), b.BatchSize(l.grant.Partition))
	for i := range n {
		if jobs[i].err != nil || l.isForOtherGroup(jobs[i].m) || l.parked.has(jobs[i].m.Key) {
			return i
		}
	}
	return n
}

// callBatch makes one call with several messages and applies its result.
func (l *Lane) callBatch(jobs []job) (finished int, ok bool) {
	ms := make([]*handler.Message, len(jobs))
	for i := range jobs {
		jobs[i].m.Attempt = 1
		ms[i] = jobs[i].m
	}
	r, called := l.caller.batch(ms)
	if !called {
		return 0, false
	}
	return l.applyBatch(jobs, r)
}

// applyBatch applies the result of a batch: the messages before the failed one are finished, and the result counts for
// the failed one as if it had been called alone. A failure that names no message raises nobody's attempt: the messages
// are called one by one.
func (l *Lane) applyBatch(jobs []job, r handler.BatchResult) (finished int, ok bool) {
	n := min(max(r.OK, 0), len(jobs))
	if n > 0 && l.applyOK(&jobs[n-1], n) == stepEnd {
		return n, false
	}
	if n == len(jobs) || n > 0 && r.Rest {
		return n, true
	}
	if l.ledger.cancelled() {
		return n, false
	}
	l.singleLeft = n + 1 // finish subtracts the n finished ones.
	if !r.Named && r.Result.Status != handler.Unavailable && r.Result.Status != handler.Pause {
		l.singleLeft = len(jobs)
		l.log.Debug("batch failed, its messages are called one by one", "from", jobs[n].m.Seq, "messages", len(jobs)-n,
			"reason", r.Result.Text())
		return n, true
	}
	m, ok := outcome(l.applyResult(&jobs[n], r.Result))
	return n + m, ok
}

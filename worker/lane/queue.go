package lane

import (
	"leasehold/internal/ownership"
	"leasehold/worker/handler"
	"leasehold/worker/stream"
)

// inbox is what the reader gives a lane: the queue, its capacity, and what each end waits for. The ledger's lock guards
// it.
type inbox struct {
	queue         queue
	last          uint64 // Highest sequence pushed; never below the checkpoint.
	current       int    // Messages that have been taken from the queue and are not finished.
	waiting       bool   // The lane's goroutine waits for a message.
	backpressured bool   // The reader could not push, and waits for OnCapacity.
}

// push adds an entry to the queue, unless it was pushed before. It returns false for ok if the queue is full, and true
// for wake if the lane's goroutine waits for a message.
func (i *inbox) push(e *stream.Entry) (ok, wake bool) {
	if e.Seq <= i.last {
		return true, false // Strictly increasing, whatever a reader does.
	}
	if !i.queue.push(e) {
		i.backpressured = true
		return false, false
	}
	i.last = e.Seq
	wake, i.waiting = i.waiting, false
	return true, wake
}

// take takes the next entry from the queue; it is current until it is finished.
func (i *inbox) take() (stream.Entry, bool) {
	e, ok := i.queue.pop()
	if ok {
		i.current++
	}
	return e, ok
}

// capacityFreed reports, once, that a reader which found the queue full can push again.
func (i *inbox) capacityFreed() bool {
	freed := i.backpressured && i.queue.roomy()
	if freed {
		i.backpressured = false
	}
	return freed
}

// backlog returns how many messages are not finished.
func (i *inbox) backlog() uint64 { return uint64(i.queue.len() + i.current) }

// queue is a bounded first-in-first-out queue of entries. Its owner locks.
type queue struct {
	maxEntries, maxBytes int
	entries              []stream.Entry // Those before head are taken.
	head                 int
	bytes                int
}

func (q *queue) len() int { return len(q.entries) - q.head }

// push adds an entry, or returns false if the queue is full. One entry always fits, however large.
func (q *queue) push(e *stream.Entry) bool {
	if q.len() > 0 && (q.len() >= q.maxEntries || q.bytes+e.Size() > q.maxBytes) {
		return false
	}
	if q.head == len(q.entries) {
		q.entries, q.head = q.entries[:0], 0
	} else if q.head >= q.maxEntries {
		q.entries = append(q.entries[:0], q.entries[q.head:]...)
		q.head = 0
	}
	q.entries = append(q.entries, *e)
	q.bytes += e.Size()
	return true
}

func (q *queue) pop() (stream.Entry, bool) {
	if q.len() == 0 {
		return stream.Entry{}, false
	}
	e := q.entries[q.head]
	q.entries[q.head] = stream.Entry{} // Let go of the payload.
	q.head++
	q.bytes -= e.Size()
	return e, true
}

// roomy reports whether the queue is at most half full, so that it is worth filling again.
func (q *queue) roomy() bool { return q.len() <= q.maxEntries/2 && q.bytes <= q.maxBytes/2 }

// drop empties the queue and releases its memory.
func (q *queue) drop() { q.entries, q.head, q.bytes = nil, 0, 0 }

// fits reports whether there is an entry, of at most that many bytes.
func (q *queue) fits(bytes int) bool { return q.len() > 0 && q.entries[q.head].Size() <= bytes }

// batchBytes bounds the payload of a batch. A batch always takes its first message, however large.
const batchBytes = 1 << 20

// job is a message at hand, with its envelope.
type job struct {
	m   *handler.Message
	err error // Why there is no envelope; then m has a sequence only.
}

// intake takes messages from the queue, which is the ledger's, and makes jobs of them. Only the lane's goroutine uses
// it.
type intake struct {
	o      *Options
	grant  *ownership.Grant
	ledger *ledger
	life   *lifetime
	jobs   []job // Messages at hand.
}

// next takes the next message from the queue, waiting for one. It returns false when the lane ends.
func (t *intake) next() (stream.Entry, bool) {
	for {
		e, ok, ending, freed := t.ledger.next()
		if ending {
			return stream.Entry{}, false
		}
		if freed {
			t.o.OnCapacity()
		}
		if ok {
			return e, true
		}
		t.life.awaitSignal()
	}
}

// gather makes jobs of a message and, for a handler that takes batches, of those that wait behind it. It does not wait
// for more. single gathers no batch.
func (t *intake) gather(e *stream.Entry, single bool) []job {
	t.jobs = append(t.jobs[:0], t.newJob(e))
	b, ok := t.o.Handler.(handler.Batcher)
	if !ok || single {
		return t.jobs
	}
	most, bytes := b.BatchSize(t.grant.Partition), e.Size()
	for len(t.jobs) < most {
		next, ok := t.nextWithin(batchBytes - bytes)
		if !ok {
			break
		}
		bytes += next.Size()
		t.jobs = append(t.jobs, t.newJob(&next))
	}
	return t.jobs
}

// nextWithin takes the next message if there is one of at most that many bytes.
func (t *intake) nextWithin(bytes int) (stream.Entry, bool) {
	e, ok, freed := t.ledger.nextWithin(bytes)
	if freed {
		t.o.OnCapacity()
	}
	return e, ok
}

func (t *intake) newJob(e *stream.Entry) job {
	m, err := t.o.NewMessage(*t.grant, e)
	if err != nil {
		m.Seq = e.Seq
	}
	return job{m: &m, err: err} // A handler may keep its message, so none is used twice.
}

// release lets go of the jobs: an idle lane holds no payloads.
func (t *intake) release() { clear(t.jobs) }

package lane

import "leasehold/worker/stream"

// queue is a bounded first-in-first-out of entries. Its owner locks.
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

// roomy reports whether it is worth filling the queue again.
func (q *queue) roomy() bool { return q.len() <= q.maxEntries/2 && q.bytes <= q.maxBytes/2 }

// drop empties the queue and gives its memory back.
func (q *queue) drop() { q.entries, q.head, q.bytes = nil, 0, 0 }

// fits reports whether there is an entry, and it has at most so many bytes.
func (q *queue) fits(bytes int) bool { return q.len() > 0 && q.entries[q.head].Size() <= bytes }

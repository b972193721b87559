package ingress

// window holds what one connection has sent to the broker and is not answered, in the order of sending. Its owner is the
// client's lock.
type window struct {
	slots []slot // a ring; its length is a power of two
	base  uint64 // number of the oldest
	next  uint64 // number of the next; next - base ≤ maxWindow
	open  int    // slots not settled
	owed  int    // bytes that their answers take, about
}

// maxWindow is how many messages of one connection may be without an answer: more than any client library's own default.
const maxWindow = 4096

// slot is one message. Reply keeps its memory for the next one in the same place.
type slot struct {
	reply   []byte // where the client wants the answer; empty: nowhere
	size    int
	sent    int64 // nanoseconds
	settled bool
}

func (w *window) full() bool { return w.next-w.base >= maxWindow }

// add takes the next number.
func (w *window) add(reply []byte, size int, now int64) uint64 {
	if int(w.next-w.base) == len(w.slots) {
		w.resize(max(firstWindow, 2*len(w.slots)))
	}
	s := &w.slots[w.next&uint64(len(w.slots)-1)]
	s.reply = append(s.reply[:0], reply...)
	s.size, s.sent, s.settled = size, now, false
	w.next++
	w.open++
	w.owed += s.owed()
	return w.next - 1
}

// owed is how many bytes for the client the answer takes, about.
func (s *slot) owed() int {
	if len(s.reply) == 0 {
		return 0
	}
	return answerSize + len(s.reply)
}

// keptReply is how long a reply subject may be whose memory is kept. Those of client libraries are shorter.
const keptReply = 128

// forget lets go of an unusually long reply subject.
func (s *slot) forget() {
	if cap(s.reply) > keptReply {
		s.reply = nil
	}
}

const firstWindow = 8

func (w *window) resize(n int) {
	slots := make([]slot, n)
	for i := w.base; i < w.next; i++ {
		slots[i&uint64(n-1)] = w.slots[i&uint64(len(w.slots)-1)]
	}
	w.slots = slots
}

// shrink gives back memory that little of is used now.
func (w *window) shrink() {
	n := len(w.slots)
	for n > firstWindow && int(w.next-w.base) <= n/4 {
		n /= 2
	}
	if n < len(w.slots) {
		w.resize(n)
	}
}

// settle returns the slot of a number if it is open, which it then is not any more. The slot is valid until the next add.
func (w *window) settle(n uint64) *slot {
	if n < w.base || n >= w.next {
		return nil
	}
	s := &w.slots[n&uint64(len(w.slots)-1)]
	if s.settled {
		return nil
	}
	w.close(s)
	w.advance()
	return s
}

func (w *window) close(s *slot) {
	s.settled = true
	w.open--
	w.owed -= s.owed()
}

func (w *window) advance() {
	for w.base < w.next && w.slots[w.base&uint64(len(w.slots)-1)].settled {
		w.base++
	}
}

// expire settles what was sent before a time and counts it.
func (w *window) expire(before int64) (messages, bytes int) {
	for n := w.base; n < w.next; n++ {
		s := &w.slots[n&uint64(len(w.slots)-1)]
		if s.sent >= before {
			break
		}
		if !s.settled {
			w.close(s)
			s.forget()
			messages++
			bytes += s.size
		}
	}
	w.advance()
	return messages, bytes
}

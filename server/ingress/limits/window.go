package limits

// Window holds the messages that one connection has sent to the broker and that are not answered, in the order of
// sending. Its owner locks.
type Window struct {
	slots []Slot // a ring; its length is a power of two
	base  uint64 // number of the oldest
	next  uint64 // number of the next; next - base ≤ maxWindow
	Open  int    // slots not settled
	Owed  int    // bytes that their answers take, about
}

// maxWindow is how many messages of one connection may be unanswered: more than the default of any client library.
const maxWindow = 4096

// answerSize is about how many bytes an answer takes beside the reply subject.
const answerSize = 128

// Slot is one message. Reply keeps its memory for the next one in the same place.
type Slot struct {
	Reply   []byte // where the client wants the answer; empty: nowhere
	Size    int
	Sent    int64 // nanoseconds
	settled bool
}

func (w *Window) Full() bool { return w.next-w.base >= maxWindow }

// Add adds a message and returns its number.
func (w *Window) Add(reply []byte, size int, now int64) uint64 {
	if int(w.next-w.base) == len(w.slots) {
		w.resize(max(firstWindow, 2*len(w.slots)))
	}
	s := &w.slots[w.next&uint64(len(w.slots)-1)]
	s.Reply = append(s.Reply[:0], reply...)
	s.Size, s.Sent, s.settled = size, now, false
	w.next++
	w.Open++
	w.Owed += s.owed()
	return w.next - 1
}

// owed returns about how many bytes the answer takes for the client.
func (s *Slot) owed() int {
	if len(s.Reply) == 0 {
		return 0
	}
	return answerSize + len(s.Reply)
}

// keptReply is up to which length the memory of a reply subject is kept. Those of client libraries are shorter.
const keptReply = 128

// Forget lets go of an unusually long reply subject.
func (s *Slot) Forget() {
	if cap(s.Reply) > keptReply {
		s.Reply = nil
	}
}

const firstWindow = 8

func (w *Window) resize(n int) {
	slots := make([]Slot, n)
	for i := w.base; i < w.next; i++ {
		slots[i&uint64(n-1)] = w.slots[i&uint64(len(w.slots)-1)]
	}
	w.slots = slots
}

// Shrink releases memory if little of it is used.
func (w *Window) Shrink() {
	n := len(w.slots)
	for n > firstWindow && int(w.next-w.base) <= n/4 {
		n /= 2
	}
	if n < len(w.slots) {
		w.resize(n)
	}
}

// Settle closes the slot of a number and returns it, nil if it is not open. The slot is valid until the next Add.
func (w *Window) Settle(n uint64) *Slot {
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

func (w *Window) close(s *Slot) {
	s.settled = true
	w.Open--
	w.Owed -= s.owed()
}

func (w *Window) advance() {
	for w.base < w.next && w.slots[w.base&uint64(len(w.slots)-1)].settled {
		w.base++
	}
}

// Expire settles the messages that were sent before a time, and returns how many they are.
func (w *Window) Expire(before int64) (messages, bytes int) {
	for n := w.base; n < w.next; n++ {
		s := &w.slots[n&uint64(len(w.slots)-1)]
		if s.Sent >= before {
			break
		}
		if !s.settled {
			w.close(s)
			s.Forget()
			messages++
			bytes += s.Size
		}
	}
	w.advance()
	return messages, bytes
}

// Small reports whether the window holds no more memory than an unused one.
func (w *Window) Small() bool { return len(w.slots) <= firstWindow }

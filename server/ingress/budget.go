package ingress

import (
	"sync"
	"time"
)

// budget is what all clients of a node may use of something, in messages and bytes. A user may take as much as is left for
// others (dynamic threshold, Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet switches", 1998): one
// that floods takes half, two take a third each, and there is always as much room for one who comes new. What does
// not fit waits, and with it the connection's socket.
type budget struct {
	messages int
	bytes    int64

	mu      sync.Mutex
	freed   *sync.Cond
	waiting int
	usedBy  map[*user]*use // users that use something
	used    use
}

type use struct {
	messages int
	bytes    int64
}

func newBudget(messages int, bytes int64) *budget {
	b := &budget{messages: messages, bytes: bytes, usedBy: map[*user]*use{}}
	b.freed = sync.NewCond(&b.mu)
	return b
}

// try takes room for one message of n bytes, if there is.
func (b *budget) try(u *user, n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.take(u, n)
}

// wait takes room for one message of n bytes as soon as there is, or until ended says so; wake has it look.
func (b *budget) wait(u *user, n int, ended func() bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting++
	defer func() { b.waiting-- }()
	for !b.take(u, n) {
		if ended() {
			return false
		}
		b.freed.Wait()
	}
	return true
}

// take admits a user's only message whatever its size: it must get through in the end.
func (b *budget) take(u *user, n int) bool {
	mine := b.usedBy[u]
	if mine == nil {
		mine = &use{}
		b.usedBy[u] = mine
	}
	fits := mine.bytes+int64(n) <= b.bytes-b.used.bytes && mine.messages < b.messages-b.used.messages
	if !fits && mine.messages > 0 {
		return false
	}
	mine.messages++
	mine.bytes += int64(n)
	b.used.messages++
	b.used.bytes += int64(n)
	return true
}

// give gives back room for some messages of n bytes together.
func (b *budget) give(u *user, messages, n int) {
	if messages == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	mine := b.usedBy[u]
	mine.messages -= messages
	mine.bytes -= int64(n)
	if mine.messages == 0 {
		delete(b.usedBy, u)
	}
	b.used.messages -= messages
	b.used.bytes -= int64(n)
	if b.waiting > 0 {
		b.freed.Broadcast()
	}
}

// wake has all that wait look whether their connection has ended.
func (b *budget) wake() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.freed.Broadcast()
}

// empty waits until nothing is used any more, for at most limit.
func (b *budget) empty(limit time.Duration) {
	expired := false
	timer := time.AfterFunc(limit, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		expired = true
		b.freed.Broadcast()
	})
	defer timer.Stop()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting++
	defer func() { b.waiting-- }()
	for b.used.messages > 0 && !expired {
		b.freed.Wait()
	}
}

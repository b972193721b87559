// Package limits bounds what clients of an ingress may have on their way to the broker: all together (Budget), each
// user while others publish too (Pace), and each connection (Window).
package limits

import (
	"sync"
	"time"
)

// Budget bounds what all clients of a node use together, in messages and bytes. A user may use as much as is left for
// others (dynamic threshold, Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet
// switches", 1998): one that floods takes half, two take a third each, and there is always as much room for a new
// user. What does not fit waits, and with it the connection's socket. A paced budget also bounds each user by its pace.
type Budget struct {
	messages int
	bytes    int64
	clock    func() int64 // of the paces, nanoseconds; nil: users have none

	mu      sync.Mutex
	freed   *sync.Cond
	waiting int
	usedBy  map[*Pace]*use // of users that use something
	used    use
}

type use struct {
	messages int
	bytes    int64
}

// NewBudget returns an unused budget. With a clock, in nanoseconds, it is paced.
func NewBudget(messages int, bytes int64, clock func() int64) *Budget {
	b := &Budget{messages: messages, bytes: bytes, clock: clock, usedBy: map[*Pace]*use{}}
	b.freed = sync.NewCond(&b.mu)
	return b
}

// Try takes room for one message of n bytes, if there is.
func (b *Budget) Try(u *Pace, n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.take(u, n)
}

// Wait takes room for one message of n bytes as soon as there is some. It returns false once ended returns true, which
// it checks after Wake.
func (b *Budget) Wait(u *Pace, n int, ended func() bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting++
	defer func() { b.waiting-- }()
	for !b.take(u, n) {
		if ended() {
			return false
		}
		b.wakeRested(u)
		b.freed.Wait()
	}
	return true
}

// wakeRested makes those that wait check again once the user's rest is over.
func (b *Budget) wakeRested(u *Pace) {
	if b.clock == nil || u.waking {
		return
	}
	rest := u.rest(b.clock())
	if rest == 0 {
		return
	}
	u.waking = true
	time.AfterFunc(rest, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		u.waking = false
		b.freed.Broadcast()
	})
}

// take admits a user's only message whatever its size: it must get through in the end.
func (b *Budget) take(u *Pace, n int) bool {
	mine := b.usedBy[u]
	if mine == nil {
		mine = &use{}
		b.usedBy[u] = mine
	}
	fits := mine.bytes+int64(n) <= b.bytes-b.used.bytes && mine.messages < b.messages-b.used.messages
	if mine.messages > 0 && !fits || !b.inPace(u, mine, n) {
		return false
	}
	mine.messages++
	mine.bytes += int64(n)
	b.used.messages++
	b.used.bytes += int64(n)
	return true
}

// inPace reports whether the user's pace admits one more message, of n bytes.
func (b *Budget) inPace(u *Pace, mine *use, n int) bool {
	switch {
	case b.clock == nil || u.window == 0:
		return true
	case mine.messages > 0:
		return u.admits(units(mine.messages+1, mine.bytes+int64(n)))
	}
	return u.resume == 0 || u.rest(b.clock()) == 0
}

// Give gives back the room of some messages, of n bytes together.
func (b *Budget) Give(u *Pace, messages, n int) {
	if messages == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.giveLocked(u, messages, n)
}

// Answered gives back the room of a message of n bytes that the broker has answered.
func (b *Budget) Answered(u *Pace, n int, sent, now int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	u.answered(units(1, int64(n)), time.Duration(now-sent), now)
	b.giveLocked(u, 1, n)
}

// Quickest returns the shortest time that the broker is known to take for a message of any user, 0 if none is known.
func (b *Budget) Quickest(users []*Pace) (base time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, u := range users {
		if known := u.base; known > 0 && (base == 0 || known < base) {
			base = known
		}
	}
	return base
}

// Crowd tells a user's pace whether other users publish, and reports whether that has changed.
func (b *Budget) Crowd(u *Pace, others bool, quickest time.Duration, now int64) (changed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	changed = u.crowd(others, quickest, now)
	if changed && !others {
		b.freed.Broadcast()
	}
	return changed
}

func (b *Budget) giveLocked(u *Pace, messages, n int) {
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

// Wake makes all that wait check whether their connection has ended.
func (b *Budget) Wake() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.freed.Broadcast()
}

// Empty waits until nothing is used any more, for at most limit.
func (b *Budget) Empty(limit time.Duration) {
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

// InUse returns what is used now, and by how many users.
func (b *Budget) InUse() (messages int, bytes int64, users int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used.messages, b.used.bytes, len(b.usedBy)
}

// Waiters returns how many calls wait for room.
func (b *Budget) Waiters() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waiting
}

package ingress

import (
	"sync"
	"time"
)

// budget is what all clients of a node may use of something, in messages and bytes. A user may take as much as is left for
// others (dynamic threshold, Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet switches", 1998): one
// that floods takes half, two take a third each, and there is always as much room for one who comes new. What does
// not fit waits, and with it the connection's socket. A budget that is paced bounds each user by its pace, too.
type budget struct {
	messages int
	bytes    int64
	clock    func() int64 // of the paces, nanoseconds; nil: users have none

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
		b.wakeRested(u)
		b.freed.Wait()
	}
	return true
}

// wakeRested has those that wait look again when the user may go on.
func (b *budget) wakeRested(u *user) {
	if b.clock == nil || u.pace.waking {
		return
	}
	rest := u.pace.rest(b.clock())
	if rest == 0 {
		return
	}
	u.pace.waking = true
	time.AfterFunc(rest, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		u.pace.waking = false
		b.freed.Broadcast()
	})
}

// take admits a user's only message whatever its size: it must get through in the end.
func (b *budget) take(u *user, n int) bool {
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

// inPace reports whether the user's pace lets one message of n bytes more on its way.
func (b *budget) inPace(u *user, mine *use, n int) bool {
	switch {
	case b.clock == nil || u.pace.window == 0:
		return true
	case mine.messages > 0:
		return u.pace.admits(units(mine.messages+1, mine.bytes+int64(n)))
	}
	return u.pace.resume == 0 || u.pace.rest(b.clock()) == 0
}

// give gives back room for some messages of n bytes together.
func (b *budget) give(u *user, messages, n int) {
	if messages == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.giveLocked(u, messages, n)
}

// answered gives back room for a message of n bytes that the broker has answered.
func (b *budget) answered(u *user, n int, sent, now int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	u.pace.answered(units(1, int64(n)), time.Duration(now-sent), now)
	b.giveLocked(u, 1, n)
}

// quickest is the shortest time that the broker is known to take for a message of any user, 0 if none is known.
func (b *budget) quickest(users map[string]*user) (base time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, u := range users {
		if known := u.pace.base; known > 0 && (base == 0 || known < base) {
			base = known
		}
	}
	return base
}

// crowd says whether others than the user publish, and reports whether that is new.
func (b *budget) crowd(u *user, others bool, quickest time.Duration, now int64) (changed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	changed = u.pace.crowd(others, quickest, now)
	if changed && !others {
		b.freed.Broadcast()
	}
	return changed
}

func (b *budget) giveLocked(u *user, messages, n int) {
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

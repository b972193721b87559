package ingress

import "time"

// pace bounds how much of one user is on its way to the broker while other users publish as well. What is on its way beyond
// what the broker works at makes queues, in the processor, in Raft and before the disk, and everybody waits in them. The bound
// follows the time that the broker takes to answer, as TCP Vegas does (Brakmo, O'Malley and Peterson, 1994): it grows while
// answers take at most queueLimit times as long as without a queue, and shrinks when they take longer.
//
// How long they take without a queue is the shortest that was seen. A pace that began behind somebody's queue finds it out by
// having little on its way from time to time: who takes a queue for the broker's own time is the only one to have more. And
// the broker may have become slower, if answers take too long with little on the way: base goes up then, and only then, so
// nodes do not learn each other's queues.
//
// A user alone has no bound: a deep queue saves it time, and costs nobody any.
type pace struct {
	window float64       // units; 0: no bound
	base   time.Duration // mean delay of a round without a queue, as far as known; 0: not yet
	held   bool          // something waited for the window in this round

	probed int64 // when the window was last reduced to see how long answers take, nanoseconds

	begun int64 // of the round
	sum   time.Duration
	count int
}

// Of a pace.
const (
	unit        = 4 << 10 // bytes that count as much as a message more
	leastWindow = 16
	queueLimit  = 2
	growth      = 1.25
	leak        = 1.002 // of base in a round
	roundTime   = 20 * time.Millisecond
	roundCount  = 8 // answers that a mean is of, at least
	probeEvery  = 10 * time.Second
)

// units weighs messages of so many bytes together.
func units(messages int, bytes int64) float64 { return float64(messages) + float64(bytes/unit) }

// crowd says whether others publish, too, and reports whether that is new.
func (p *pace) crowd(others bool, now int64) (changed bool) {
	if others == (p.window > 0) {
		return false
	}
	*p = pace{base: p.base}
	if others {
		p.window, p.probed, p.begun = leastWindow, now, now
	}
	return true
}

// admits reports whether so many units may be on their way.
func (p *pace) admits(units float64) bool {
	if p.window == 0 || units <= p.window {
		return true
	}
	p.held = true
	return false
}

// answered is told how long an answer of the broker took, and closes the round when it is time.
func (p *pace) answered(delay time.Duration, now int64) {
	if p.window == 0 {
		return
	}
	p.sum += delay
	p.count++
	if p.count < roundCount || now-p.begun < int64(roundTime) {
		return
	}
	p.adjust(p.sum / time.Duration(p.count))
	if now-p.probed > int64(probeEvery) {
		p.window, p.probed = leastWindow, now
	}
	p.begun, p.sum, p.count, p.held = now, 0, 0, false
}

// adjust follows a round's mean delay.
func (p *pace) adjust(mean time.Duration) {
	if p.base == 0 || mean < p.base {
		p.base = mean
	}
	limit := float64(queueLimit * p.base)
	switch {
	case float64(mean) <= limit && p.held:
		p.window *= growth // the budget is what bounds it at last
	case float64(mean) <= limit:
	case p.window > leastWindow:
		p.window = max(leastWindow, p.window*max(0.5, limit/float64(mean)))
	default:
		p.base = time.Duration(leak * float64(p.base))
	}
}

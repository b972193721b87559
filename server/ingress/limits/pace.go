package limits

import (
	"math"
	"time"
)

// Pace bounds how much of one user is on its way to the broker while other users publish as well. More than the broker
// works at makes queues, in the processor, in Raft and before the disk, and all users wait in them. The bound follows
// the time that the broker takes to answer, as TCP Vegas does (Brakmo, O'Malley and Peterson,
// 1994): it grows while answers take at most queueLimit times as long as without a queue, and shrinks when they take
// longer.
//
// The time without a queue is the shortest that was seen. A pace that began behind somebody's queue finds it out by
// having little on its way from time to time: only a pace that takes a queue for the broker's own time has more on its
// way. If answers take too long with little on the way, the broker has become slower: base goes up then, and only then,
// so nodes do not learn each other's queues.
//
// A window may be smaller than a message. Then the user has one message on its way at a time, with a rest after it.
//
// A user alone has no bound: a deep queue saves it time, and costs nobody any.
type Pace struct {
	window float64       // units; 0: no bound
	base   time.Duration // mean delay of a round without a queue, as far as known; 0: not yet
	held   bool          // something waited for the window in this round
	resume int64         // nothing is admitted before this time, nanoseconds
	waking bool          // a timer wakes those that wait for it

	probed int64 // when the window was last reduced to see how long answers take, nanoseconds

	begun int64 // of the round
	sum   time.Duration
	count int
}

// Parameters of a pace.
const (
	unit          = 4 << 10 // bytes that count as much as a message more
	InitialWindow = 16
	leastWindow   = 4
	queueLimit    = 1.2
	growth        = 1.25
	leak          = 1.1 // of base in a second
	roundTime     = 20 * time.Millisecond
	roundCount    = 8 // answers that a mean is of, at least
	probeEvery    = 10 * time.Second
	LongestRest   = time.Second // after one message
)

// units returns the weight of messages that have bytes together.
func units(messages int, bytes int64) float64 { return float64(messages) + float64(bytes/unit) }

// crowd sets whether others publish, too, and reports whether that has changed. quickest is the shortest base of any
// user, 0 if none is known: a user in the middle of a flood would take its own queue for the broker's time.
func (p *Pace) crowd(others bool, quickest time.Duration, now int64) (changed bool) {
	if others == (p.window > 0) {
		return false
	}
	*p = Pace{base: p.base, waking: p.waking, begun: now}
	if others {
		p.window, p.probed = InitialWindow, now
		if p.base == 0 {
			p.base = quickest
		}
	}
	return true
}

// admits reports whether that many units may be on their way.
func (p *Pace) admits(units float64) bool {
	if p.window == 0 || units <= p.window {
		return true
	}
	p.held = true
	return false
}

// rest returns how long nothing is admitted.
func (p *Pace) rest(now int64) time.Duration { return time.Duration(max(0, p.resume-now)) }

// answered notes how long the broker's answer to a message of that many units took, and ends the round when it is time.
func (p *Pace) answered(units float64, delay time.Duration, now int64) {
	p.sum += delay
	p.count++
	if p.window > 0 && units > p.window {
		p.held = true
		p.resume = now + int64(min(LongestRest, time.Duration(float64(delay)*(units/p.window-1))))
	}
	if p.count < roundCount || now-p.begun < int64(roundTime) {
		return
	}
	p.adjust(p.sum/time.Duration(p.count), time.Duration(now-p.begun))
	if p.window > 0 && now-p.probed > int64(probeEvery) {
		p.window, p.probed = min(p.window, InitialWindow), now
	}
	p.begun, p.sum, p.count, p.held = now, 0, 0, false
}

// adjust adapts window and base to the mean delay of a round that took that long.
func (p *Pace) adjust(mean, took time.Duration) {
	if p.base == 0 || mean < p.base {
		p.base = mean
	}
	limit := queueLimit * float64(p.base)
	switch {
	case p.window == 0:
	case float64(mean) <= limit && p.held:
		p.window *= growth // the budget is what bounds it at last
	case float64(mean) <= limit:
	case p.window > leastWindow:
		p.window = max(leastWindow, p.window*max(0.5, limit/float64(mean)))
	default:
		p.base = time.Duration(float64(p.base) * math.Pow(leak, took.Seconds()))
	}
}

package ingress

import "time"

// pace bounds how much of one user is on its way to the broker while other users publish as well. What is on its way beyond
// what the broker works at makes queues, in the processor, in Raft and before the disk, and everybody waits in them. The bound
// follows the time that the broker takes to answer, as TCP Vegas does (Brakmo, O'Malley and Peterson, 1994): it grows while
// answers take about as long as with little on its way, and shrinks when they take more than queueLimit times that. How long
// that is can be different a minute later, so each epoch starts again with little. A user alone has no bound: a deep
// queue saves it time, and costs nobody any.
type pace struct {
	window float64       // units; 0: no bound
	base   time.Duration // shortest mean delay of a round in this epoch; 0: none yet
	epoch  int64         // when it began, nanoseconds
	held   bool          // something waited for the window in this round

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
	roundTime   = 20 * time.Millisecond
	roundCount  = 8 // answers that a mean is of, at least
	epochTime   = 30 * time.Second
)

// units weighs messages of so many bytes together.
func units(messages int, bytes int64) float64 { return float64(messages) + float64(bytes/unit) }

// crowd says whether others publish, too, and reports whether that is new.
func (p *pace) crowd(others bool, now int64) (changed bool) {
	if others == (p.window > 0) {
		return false
	}
	*p = pace{}
	if others {
		p.restart(now)
	}
	return true
}

func (p *pace) restart(now int64) { *p = pace{window: leastWindow, epoch: now, begun: now} }

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
	if now-p.epoch > int64(epochTime) {
		p.restart(now)
		return
	}
	p.adjust(p.sum / time.Duration(p.count))
	p.begun, p.sum, p.count, p.held = now, 0, 0, false
}

// adjust follows a round's mean delay.
func (p *pace) adjust(mean time.Duration) {
	if p.base == 0 || mean < p.base {
		p.base = mean
	}
	limit := float64(queueLimit * p.base)
	switch {
	case float64(mean) > limit:
		p.window = max(leastWindow, p.window*max(0.5, limit/float64(mean)))
	case p.held:
		p.window *= growth // the budget is what bounds it at last
	}
}

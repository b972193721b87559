package limits

import (
	"math/rand/v2"
	"testing"
	"time"
)

// bottleneck answers so many units a millisecond, and none before its least delay.
type bottleneck struct {
	rate  float64
	least time.Duration
}

func (b bottleneck) delay(onTheWay float64) time.Duration {
	return max(b.least, time.Duration(onTheWay/b.rate*float64(time.Millisecond)))
}

// product is what fills it without a queue.
func (b bottleneck) product() float64 { return b.rate * float64(b.least) / float64(time.Millisecond) }

// flood keeps the window full for a time, and returns when that is over.
func (p *Pace) flood(b bottleneck, now int64, length time.Duration) int64 {
	for until := now + int64(length); now < until; {
		p.admits(p.window + 1)
		d := b.delay(p.window)
		now += int64(d / 4)
		p.answered(1, d, now)
		p.answered(1, d, now)
	}
	return now
}

// Whatever the broker's machine is like, a flood fills it and hardly queues.
func TestPaceFillsTheBottleneckAndHardlyQueues(t *testing.T) {
	for name, b := range map[string]bottleneck{
		"ordinary":     {rate: 20, least: 3 * time.Millisecond},
		"fast":         {rate: 200, least: 300 * time.Microsecond},
		"slow disk":    {rate: 2, least: 80 * time.Millisecond},
		"slow and far": {rate: 0.5, least: 200 * time.Millisecond},
	} {
		var p Pace
		p.crowd(true, 0, 1)
		p.flood(b, 1, 25*time.Second)
		if d := b.delay(p.window); d > time.Duration(queueLimit*growth*float64(b.least)) || p.window < b.product() {
			t.Errorf("%s: a window of %.0f makes answers take %s; %.0f would do, and %s is the least", name, p.window, d,
				b.product(), b.least)
		}
	}
}

// Nodes that flood the same bottleneck do not take each other's queues for its own delay, whoever comes when.
func TestPacesOfSeveralNodesShareOneQueue(t *testing.T) {
	b := bottleneck{rate: 20, least: 3 * time.Millisecond}
	nodes := make([]Pace, 3)
	random := rand.New(rand.NewPCG(1, 1))
	worst := time.Duration(0)
	for now := int64(1); now < int64(10*time.Minute); now += int64(time.Millisecond) {
		total := 0.0
		for i := range nodes {
			if random.IntN(10_000) == 0 { // it comes, or goes
				nodes[i].crowd(nodes[i].window == 0, 0, now)
			}
			total += nodes[i].window
		}
		worst = max(worst, b.delay(total))
		d := time.Duration(float64(b.delay(total)) * (1 + random.Float64()/2)) // noise
		for i := range nodes {
			nodes[i].admits(nodes[i].window + 1)
			nodes[i].answered(1, d, now)
		}
	}
	if worst > time.Duration(2*queueLimit*queueLimit*float64(b.least)) {
		t.Errorf("answers take up to %s, %s is the least", worst, b.least)
	}
}

// A machine that becomes slower is not taken for a queue forever, nor is a queue for a slow machine.
func TestPaceLearnsTheBottleneckAgain(t *testing.T) {
	before, after := bottleneck{rate: 20, least: 3 * time.Millisecond}, bottleneck{rate: 20, least: 30 * time.Millisecond}
	var p Pace
	p.crowd(true, 0, 1)
	now := p.flood(before, 1, 20*time.Second)
	now = p.flood(after, now, time.Minute)
	if p.window < 0.8*after.product() { // it swings
		t.Errorf("a window of %.0f after the machine became slower, %.0f fill it", p.window, after.product())
	}
	p.flood(before, now, 20*time.Second)
	if d := before.delay(p.window); d > time.Duration(queueLimit*growth*float64(before.least)) {
		t.Errorf("answers take %s after the machine became faster, %s is the least", d, before.least)
	}
}

func TestPaceOfAUserAloneIsNotBounded(t *testing.T) {
	var p Pace
	if p.answered(1, time.Hour, 1); !p.admits(1e9) {
		t.Error("a user alone is bounded")
	}
	if !p.crowd(true, 0, 2) || p.crowd(true, 0, 3) || p.admits(InitialWindow+1) || !p.admits(InitialWindow) {
		t.Errorf("a user beside others: %+v", p)
	}
	if !p.crowd(false, 0, 4) || !p.admits(1e9) {
		t.Error("a user alone again is bounded")
	}
}

// Who does not need more gets no more: else a user that was quiet could flood all at once.
func TestPaceGrowsOnlyWhileSomethingWaits(t *testing.T) {
	var p Pace
	p.crowd(true, 0, 1)
	for now := int64(1); now < int64(time.Second); now += int64(time.Millisecond) {
		p.answered(1, time.Millisecond, now)
	}
	if p.window != InitialWindow {
		t.Errorf("a window of %.0f", p.window)
	}
}

// A pace whose window is smaller than a message spreads messages over time.
func TestPaceRestsAfterAMessageBeyondItsWindow(t *testing.T) {
	var p Pace
	p.crowd(true, time.Millisecond, 1)
	now := int64(1)
	for range 200 { // answers that take too long, whatever the window
		now += int64(20 * time.Millisecond)
		p.answered(1, 50*time.Millisecond, now)
	}
	if p.window != leastWindow {
		t.Fatalf("a window of %.1f", p.window)
	}
	p.answered(17, 10*time.Millisecond, now)
	if rest := p.rest(now); rest != 32500*time.Microsecond {
		t.Errorf("a rest of %s after a message of 17 units that took 10ms, in a window of 4", rest)
	}
	if p.answered(1000, time.Minute, now); p.rest(now) != LongestRest {
		t.Errorf("a rest of %s", p.rest(now))
	}
	if p.answered(1, time.Minute, now); p.rest(now) != LongestRest {
		t.Error("a small message ends the rest after a large one")
	}
}

// Who begins with a flood while others publish knows from them how long the broker takes.
func TestPaceBeginsWithWhatOthersKnow(t *testing.T) {
	b := bottleneck{rate: 20, least: 3 * time.Millisecond}
	var p Pace
	p.crowd(true, b.least, 1)
	now := int64(1)
	for range 100 { // beside a queue that is not its own
		now += int64(30 * time.Millisecond)
		p.admits(p.window + 1)
		for range roundCount {
			p.answered(1, 10*b.least, now)
		}
	}
	if p.window != leastWindow {
		t.Errorf("a window of %.1f in a queue of ten times the broker's own time", p.window)
	}
}

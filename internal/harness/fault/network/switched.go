package network

import (
	"container/heap"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"
)

// Link is what one direction between two places does to frames. The zero Link carries all at once.
type Link struct {
	// Delay holds every frame back, Jitter by up to so much more or less, evenly spread.
	Delay, Jitter time.Duration
	// Loss is the share of frames dropped, 0 to 1.
	Loss float64
	// Reorder lets a frame overtake those that jitter has made slower; without it, it waits for them.
	Reorder bool
	// Blocked drops all.
	Blocked bool
}

// Frames counts what a switch did with frames; a broadcast counts once for each place it goes to.
type Frames struct {
	Carried, Delayed, Dropped int
	Overtaken                 int // sent before a frame that had come in earlier on the same link
}

// Switched is a switch in this process, with hosts on it, and a Link each way between any two of them and
// the test's own place, which is number 0. Changes hold for frames that come in after them.
type Switched struct {
	hosts

	ports []*os.File // TAP devices, by place
	wake  chan struct{}
	done  chan struct{} // closed by the clean-up
	tasks sync.WaitGroup

	mu     sync.Mutex // guards what follows
	links  [][]link   // by sender and receiver
	queue  queue
	order  int // of arrivals
	frames Frames
}

// link is a Link and what it has on the way.
type link struct {
	Link
	last     time.Time // when the frame that leaves last will leave; frames wait for it unless Reorder
	waiting  int       // frames in the queue, or taken out and not yet written
	overtook int       // order of arrival of the youngest frame sent
}

// NewSwitched makes the switch, a device sw0 with the address Own, and so many hosts. It carries frames until
// the end of the test, and then all of it goes.
func NewSwitched(t testing.TB, count int) (*Switched, error) {
	t.Helper()
	if err := available("ip"); err != nil {
		return nil, err
	}
	s := &Switched{wake: make(chan struct{}, 1), done: make(chan struct{}), links: make([][]link, count+1)}
	for from := range s.links {
		s.links[from] = make([]link, count+1)
	}
	t.Cleanup(s.close)
	var err error
	if s.hosts, err = newHosts(t, count); err != nil {
		return nil, err
	}
	for place := range count + 1 {
		if err := s.plugIn(place); err != nil {
			return nil, fmt.Errorf("plug place %d in: %w", place, lacking(err))
		}
	}
	for place := range s.ports {
		s.tasks.Go(func() { s.read(place) })
	}
	s.tasks.Go(s.deliver)
	return s, nil
}

// close ends the switch; its devices go with it. The hosts' namespaces go with their last process.
func (s *Switched) close() {
	close(s.done)
	for _, port := range s.ports {
		port.Close()
	}
	s.tasks.Wait()
	s.hosts.close()
}

// SetLink changes one direction.
func (s *Switched) SetLink(from, to int, l Link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.links[from][to].Link = l
}

// SetAll changes both directions between all hosts. Those between the test's own place and hosts stay.
func (s *Switched) SetAll(l Link) {
	for from := 1; from < len(s.links); from++ {
		for to := 1; to < len(s.links); to++ {
			s.SetLink(from, to, l)
		}
	}
}

// Effect returns what was done with frames since the last call, or since NewSwitched.
func (s *Switched) Effect() Frames {
	s.mu.Lock()
	defer s.mu.Unlock()
	since := s.frames
	s.frames = Frames{}
	return since
}

// maxFrame is more than any frame of an Ethernet without jumbo frames.
const maxFrame = 2048

// read takes what a place sends until its device is closed.
func (s *Switched) read(from int) {
	buffer := make([]byte, maxFrame)
	for {
		size, err := s.ports[from].Read(buffer)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil || size < len(address{}) {
			continue
		}
		for _, to := range s.receivers(from, address(buffer[:len(address{})])) {
			s.send(from, to, buffer[:size])
		}
	}
}

// receivers are the places that a destination address means.
func (s *Switched) receivers(from int, destination address) []int {
	var to []int
	for place := range s.ports {
		if place != from && (destination.group() || destination == addressOf(place)) {
			to = append(to, place)
		}
	}
	return to
}

// send writes a frame, or queues a copy of it.
func (s *Switched) send(from, to int, frame []byte) {
	if s.take(from, to, frame) {
		s.ports[to].Write(frame) // a device that is down loses it, as a cable would
	}
}

// take does to a frame what its link says, and tells whether it is to be written at once.
func (s *Switched) take(from, to int, frame []byte) (now bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := &s.links[from][to]
	if l.Blocked || rand.Float64() < l.Loss {
		s.frames.Dropped++
		return false
	}
	s.order++
	due := time.Now()
	arrived := due
	if l.Delay > 0 || l.Jitter > 0 {
		due = due.Add(l.Delay + time.Duration((2*rand.Float64()-1)*float64(l.Jitter)))
	}
	if !l.Reorder && due.Before(l.last) {
		due = l.last
	}
	if l.waiting == 0 && !due.After(arrived) {
		s.frames.Carried++
		l.overtook = s.order
		return true
	}
	s.frames.Delayed++
	l.waiting++
	if due.After(l.last) {
		l.last = due
	}
	heap.Push(&s.queue, &held{due: due, order: s.order, from: from, to: to, frame: append([]byte(nil), frame...)})
	if s.queue[0].order == s.order {
		s.poke()
	}
	return false
}

// poke makes deliver look at the queue again.
func (s *Switched) poke() {
	select {
	case s.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// deliver writes queued frames when they are due.
func (s *Switched) deliver() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-s.done:
			return
		case <-s.wake:
		case <-timer.C:
		}
		for h := s.due(time.Now()); h != nil; h = s.due(time.Now()) {
			s.ports[h.to].Write(h.frame)
			s.sent(h)
		}
		timer.Reset(s.wait())
	}
}

// due takes the next frame out of the queue if its time has come.
func (s *Switched) due(now time.Time) *held {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 || s.queue[0].due.After(now) {
		return nil
	}
	return heap.Pop(&s.queue).(*held)
}

// sent counts a frame that was queued.
func (s *Switched) sent(h *held) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := &s.links[h.from][h.to]
	l.waiting--
	s.frames.Carried++
	if h.order < l.overtook {
		s.frames.Overtaken++
	}
	l.overtook = max(l.overtook, h.order)
}

// wait is the time until the next frame is due.
func (s *Switched) wait() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		return time.Hour // poke comes first
	}
	return time.Until(s.queue[0].due)
}

// held is a frame on its way.
type held struct {
	due      time.Time
	order    int // of arrival; decides between frames due at once
	from, to int
	frame    []byte
}

// queue is a heap of frames, the next one first.
type queue []*held

func (q queue) Len() int { return len(q) }

func (q queue) Less(i, j int) bool {
	if !q[i].due.Equal(q[j].due) {
		return q[i].due.Before(q[j].due)
	}
	return q[i].order < q[j].order
}

func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(*held)) }
func (q *queue) Pop() any {
	last := (*q)[len(*q)-1]
	(*q)[len(*q)-1] = nil
	*q = (*q)[:len(*q)-1]
	return last
}

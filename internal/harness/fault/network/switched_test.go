package network

import (
	"slices"
	"syscall"
	"testing"
	"time"
)

func switched(t *testing.T) (*Switched, *lab) {
	t.Helper()
	s, err := NewSwitched(t, 3)
	need(t, err)
	return s, newLab(t, s.hosts)
}

// roundTrips are the times of so many bytes there and back, sorted.
func (l *lab) roundTrips(from, to place, count int) []time.Duration {
	l.t.Helper()
	c := l.connect(from, to)
	if err := echo(c, 10*time.Second); err != nil { // finding one another takes time too
		l.t.Fatal(err)
	}
	var times []time.Duration
	for range count {
		started := time.Now()
		if err := echo(c, 10*time.Second); err != nil {
			l.t.Fatal(err)
		}
		times = append(times, time.Since(started))
	}
	slices.Sort(times)
	return times
}

func TestSwitchCarriesAll(t *testing.T) {
	s, l := switched(t)
	l.meet()
	l.expect()
	var before, after syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	const size = 5_000_000
	took := l.transfer(l.connect(1, 2), size)
	syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	if took > 10*time.Second {
		t.Errorf("5 MB there and back took %s", took)
	}
	if f := s.Effect(); f.Carried < 2*size/1500 || f.Delayed+f.Dropped+f.Overtaken != 0 {
		t.Errorf("%+v", f)
	}
	busy := time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
	t.Logf("%.0f Mbit/s each way; both ends and the switch used %s of processor time in %s",
		size*8/took.Seconds()/1e6, busy.Round(time.Millisecond), took.Round(time.Millisecond))
}

func TestLinkDelays(t *testing.T) {
	s, l := switched(t)
	s.SetLink(1, 2, Link{Delay: 30 * time.Millisecond})
	s.SetLink(2, 1, Link{Delay: 20 * time.Millisecond})
	if trips := l.roundTrips(1, 2, 10); trips[0] < 50*time.Millisecond || trips[0] > 100*time.Millisecond {
		t.Errorf("there and back took %s at best, not 50 ms", trips[0])
	}
	if trips := l.roundTrips(1, 3, 10); trips[0] > 20*time.Millisecond {
		t.Errorf("between others it took %s at best", trips[0])
	}
	s.SetLink(1, 2, Link{})
	s.SetLink(2, 1, Link{})
	if trips := l.roundTrips(1, 2, 10); trips[0] > 20*time.Millisecond {
		t.Errorf("without the delay it took %s at best", trips[0])
	}
}

func TestLinkJittersInOrder(t *testing.T) {
	s, l := switched(t)
	s.SetAll(Link{Delay: 30 * time.Millisecond, Jitter: 20 * time.Millisecond})
	trips := l.roundTrips(1, 2, 30)
	if first, last := trips[0], trips[len(trips)-1]; first < 20*time.Millisecond || last-first < 20*time.Millisecond {
		t.Errorf("round trips took %s to %s, not 20 to 100 ms", first, last)
	}
	s.Effect()
	l.transfer(l.connect(1, 2), 1_000_000)
	if f := s.Effect(); f.Overtaken != 0 || f.Delayed < 2*1_000_000/1500 {
		t.Errorf("%+v", f)
	}
}

func TestLinkBlocksOneWay(t *testing.T) {
	s, l := switched(t)
	l.meet()
	s.SetLink(1, 2, Link{Blocked: true})
	s.SetLink(0, 3, Link{Blocked: true})
	s.Effect()
	l.expect([2]place{1, 2}, [2]place{0, 3})
	if f := s.Effect(); f.Dropped < 6 {
		t.Errorf("%+v", f)
	}
	s.SetLink(1, 2, Link{})
	s.SetLink(0, 3, Link{})
	l.expect()
}

func TestLinkLosesAboutThatMuch(t *testing.T) {
	s, l := switched(t)
	l.meet()
	s.SetLink(1, 2, Link{Loss: 0.3})
	if lost := 200 - l.post(1, 2, 200); lost < 20 || lost > 100 {
		t.Errorf("%d of 200 were lost, not about 60", lost)
	}
	if lost := 200 - l.post(2, 1, 200); lost != 0 {
		t.Errorf("%d of 200 were lost on the way back", lost)
	}
}

// TestTransferOverABadLinkArrivesWhole: what the agents are to live with, and TCP does.
func TestTransferOverABadLinkArrivesWhole(t *testing.T) {
	s, l := switched(t)
	s.SetAll(Link{Delay: 5 * time.Millisecond, Jitter: 4 * time.Millisecond, Loss: 0.02, Reorder: true})
	took := l.transfer(l.connect(1, 2), 5_000_000)
	f := s.Effect()
	if f.Dropped == 0 || f.Overtaken == 0 || f.Delayed == 0 {
		t.Errorf("%+v", f)
	}
	t.Logf("5 MB there and back in %s: %+v", took.Round(time.Millisecond), f)
}

package limits

import (
	"testing"
	"time"
)

// limit bounds every wait; far more than any takes.
const limit = 30 * time.Second

var never = func() bool { return false }

func fillUp(b *Budget, u *Pace, n int) (messages int) {
	for b.Try(u, n) {
		messages++
	}
	return messages
}

func TestBudgetSharesByWhatIsLeft(t *testing.T) {
	const size = 10
	alice, bob, carol := &Pace{}, &Pace{}, &Pace{}
	for name, b := range map[string]*Budget{"bytes": NewBudget(1<<20, 1000*size, nil),
		"messages": NewBudget(1000, 1<<30, nil)} {
		first := fillUp(b, alice, size)
		if first < 490 || first > 510 {
			t.Errorf("%s: one user takes %d of 1000, want half", name, first)
		}
		if n := fillUp(b, bob, size); n < 240 || n > 260 {
			t.Errorf("%s: the second takes %d, want half of what was left", name, n)
		}
		if !b.Try(carol, size) {
			t.Errorf("%s: there is no room for one who comes new", name)
		}
		b.Give(alice, first, first*size)
		if n := fillUp(b, bob, size); n == 0 {
			t.Errorf("%s: what one has given back is not there for others", name)
		}
	}
}

// A message larger than everything passes when it is its user's only one.
func TestBudgetLetsTheLargestPassAlone(t *testing.T) {
	b, u := NewBudget(10, 100, nil), &Pace{}
	if !b.Try(u, 1000) || b.Try(u, 1) {
		t.Error("want the first, and not the second")
	}
	b.Give(u, 1, 1000)
	if !b.Try(u, 1000) {
		t.Error("not after the first was given back")
	}
}

func TestBudgetWakesThoseThatWait(t *testing.T) {
	b, u := NewBudget(10, 100, nil), &Pace{}
	n := fillUp(b, u, 10)
	waits := func(ended func() bool) chan bool {
		got := make(chan bool, 1)
		go func() { got <- b.Wait(u, 10, ended) }()
		for begun := time.Now(); b.Waiters() == 0; time.Sleep(time.Millisecond) {
			if time.Since(begun) > limit {
				t.Fatal("nobody waits")
			}
		}
		return got
	}
	got := waits(never)
	b.Give(u, 1, 10)
	if !<-got {
		t.Error("want room once some is given back")
	}
	ended := make(chan bool)
	got = waits(func() bool {
		select {
		case <-ended:
			return true
		default:
			return false
		}
	})
	close(ended)
	b.Wake()
	if <-got {
		t.Error("a connection that has ended takes room")
	}
	b.Give(u, n, n*10)
	if b.used != (use{}) || len(b.usedBy) != 0 || b.waiting != 0 {
		t.Errorf("left: %+v, %d users, %d waiting", b.used, len(b.usedBy), b.waiting)
	}
	b.Try(u, 1)
	b.Empty(time.Millisecond) // returns all the same
	go b.Give(u, 1, 1)
	b.Empty(limit)
}

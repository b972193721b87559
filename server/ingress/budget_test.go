package ingress

import (
	"testing"
	"time"
)

var never = func() bool { return false }

func fillUp(b *budget, u *user, n int) (messages int) {
	for b.try(u, n) {
		messages++
	}
	return messages
}

func TestBudgetSharesByWhatIsLeft(t *testing.T) {
	const size = 10
	alice, bob, carol := &user{}, &user{}, &user{}
	for name, b := range map[string]*budget{"bytes": newBudget(1<<20, 1000*size), "messages": newBudget(1000, 1<<30)} {
		first := fillUp(b, alice, size)
		if first < 490 || first > 510 {
			t.Errorf("%s: one user takes %d of 1000, want half", name, first)
		}
		if n := fillUp(b, bob, size); n < 240 || n > 260 {
			t.Errorf("%s: the second takes %d, want half of what was left", name, n)
		}
		if !b.try(carol, size) {
			t.Errorf("%s: there is no room for one who comes new", name)
		}
		b.give(alice, first, first*size)
		if n := fillUp(b, bob, size); n == 0 {
			t.Errorf("%s: what one has given back is not there for others", name)
		}
	}
}

// A message larger than everything passes when it is its user's only one.
func TestBudgetLetsTheLargestPassAlone(t *testing.T) {
	b, u := newBudget(10, 100), &user{}
	if !b.try(u, 1000) || b.try(u, 1) {
		t.Error("want the first, and not the second")
	}
	b.give(u, 1, 1000)
	if !b.try(u, 1000) {
		t.Error("not after the first was given back")
	}
}

func TestBudgetWakesThoseThatWait(t *testing.T) {
	b, u := newBudget(10, 100), &user{}
	n := fillUp(b, u, 10)
	waits := func(ended func() bool) chan bool {
		got := make(chan bool, 1)
		go func() { got <- b.wait(u, 10, ended) }()
		eventually(t, func() error {
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.waiting == 0 {
				return errEnded
			}
			return nil
		})
		return got
	}
	got := waits(never)
	b.give(u, 1, 10)
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
	b.wake()
	if <-got {
		t.Error("a connection that has ended takes room")
	}
	b.give(u, n, n*10)
	if b.used != (use{}) || len(b.usedBy) != 0 || b.waiting != 0 {
		t.Errorf("left: %+v, %d users, %d waiting", b.used, len(b.usedBy), b.waiting)
	}
	b.try(u, 1)
	b.empty(time.Millisecond) // returns all the same
	go b.give(u, 1, 1)
	b.empty(hang)
}

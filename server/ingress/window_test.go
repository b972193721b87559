package ingress

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestWindowAgainstAMap compares the ring with a map over many random steps, numbers wrapping around it all the time.
func TestWindowAgainstAMap(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var w window
	open, now := map[uint64]int64{}, int64(0)
	for range 100_000 {
		switch n := random.IntN(10); {
		case n < 5 && !w.full():
			reply := []byte(strings.Repeat("r", random.IntN(300)))
			open[w.add(reply, 1, now)] = now
		case n < 8:
			number := w.base + random.Uint64N(maxWindow+2)
			_, known := open[number]
			if s := w.settle(number); (s != nil) != known {
				t.Fatalf("settle %d: %v, want %v", number, s, known)
			} else if s != nil {
				s.forget()
			}
			delete(open, number)
			if w.settle(number) != nil {
				t.Fatalf("%d was settled twice", number)
			}
		case n < 9:
			w.shrink()
		default:
			now++
			before, expired := now-int64(random.IntN(200)), 0
			for number, at := range open {
				if at < before {
					delete(open, number)
					expired++
				}
			}
			if messages, bytes := w.expire(before); messages != expired || bytes != expired {
				t.Fatalf("expired %d messages of %d bytes, want %d", messages, bytes, expired)
			}
		}
		owed := 0
		for number := range open {
			owed += w.slots[number&uint64(len(w.slots)-1)].owed()
		}
		if w.open != len(open) || w.owed != owed {
			t.Fatalf("%d are open and %d bytes owed, want %d and %d", w.open, w.owed, len(open), owed)
		}
	}
}

func TestWindowIsFullAndGivesItsMemoryBack(t *testing.T) {
	var w window
	long := bytes.Repeat([]byte("r"), 1000)
	for i := uint64(0); !w.full(); i++ {
		if n := w.add(long, 1, 0); n != i {
			t.Fatalf("number %d, want %d", n, i)
		}
	}
	if w.next != maxWindow {
		t.Errorf("full after %d", w.next)
	}
	for n := range uint64(maxWindow - 1) {
		w.settle(n).forget()
	}
	w.shrink()
	if len(w.slots) != firstWindow {
		t.Errorf("%d slots for one message", len(w.slots))
	}
	if s := w.settle(maxWindow - 1); s == nil || !bytes.Equal(s.reply, long) {
		t.Error("the one that was left is lost")
	}
}

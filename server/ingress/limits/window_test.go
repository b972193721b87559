package limits

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
	var w Window
	open, now := map[uint64]int64{}, int64(0)
	for range 100_000 {
		switch n := random.IntN(10); {
		case n < 5 && !w.Full():
			reply := []byte(strings.Repeat("r", random.IntN(300)))
			open[w.Add(reply, 1, now)] = now
		case n < 8:
			number := w.base + random.Uint64N(maxWindow+2)
			_, known := open[number]
			if s := w.Settle(number); (s != nil) != known {
				t.Fatalf("settle %d: %v, want %v", number, s, known)
			} else if s != nil {
				s.Forget()
			}
			delete(open, number)
			if w.Settle(number) != nil {
				t.Fatalf("%d was settled twice", number)
			}
		case n < 9:
			w.Shrink()
		default:
			now++
			before, expired := now-int64(random.IntN(200)), 0
			for number, at := range open {
				if at < before {
					delete(open, number)
					expired++
				}
			}
			if messages, bytes := w.Expire(before); messages != expired || bytes != expired {
				t.Fatalf("expired %d messages of %d bytes, want %d", messages, bytes, expired)
			}
		}
		owed := 0
		for number := range open {
			owed += w.slots[number&uint64(len(w.slots)-1)].owed()
		}
		if w.Open != len(open) || w.Owed != owed {
			t.Fatalf("%d are open and %d bytes owed, want %d and %d", w.Open, w.Owed, len(open), owed)
		}
	}
}

func TestWindowIsFullAndGivesItsMemoryBack(t *testing.T) {
	var w Window
	long := bytes.Repeat([]byte("r"), 1000)
	for i := uint64(0); !w.Full(); i++ {
		if n := w.Add(long, 1, 0); n != i {
			t.Fatalf("number %d, want %d", n, i)
		}
	}
	if w.next != maxWindow {
		t.Errorf("full after %d", w.next)
	}
	for n := range uint64(maxWindow - 1) {
		w.Settle(n).Forget()
	}
	w.Shrink()
	if len(w.slots) != firstWindow {
		t.Errorf("%d slots for one message", len(w.slots))
	}
	if s := w.Settle(maxWindow - 1); s == nil || !bytes.Equal(s.Reply, long) {
		t.Error("the one that was left is lost")
	}
}

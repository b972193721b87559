package ingress

import (
	"leasehold/server/ingress/limits"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

// newQuiet is an ingress whose clock the test moves.
func newQuiet(t *testing.T, users ...string) *Ingress {
	t.Helper()
	o := Options{Listen: "127.0.0.1:0", Limits: Limits{Connections: 10, Messages: 8192, Bytes: 32 << 20},
		Log: hclog.NewNullLogger()}
	for _, name := range users {
		o.Users = append(o.Users, User{Name: name})
	}
	in, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(in.Close)
	in.now.Store(0)
	in.after(time.Hour)
	return in
}

func (in *Ingress) after(d time.Duration) {
	in.now.Add(int64(d))
	in.bound(in.now.Load())
}

// takes is how many small messages of a user are let through at once.
func (in *Ingress) takes(name string) int {
	u, n := in.users[name], 0
	for in.inflight.Try(&u.pace, 200) {
		n++
	}
	in.inflight.Give(&u.pace, n, n*200)
	return n
}

func TestUserIsBoundedWhileOthersPublish(t *testing.T) {
	in := newQuiet(t, "press", "scanner", "quiet")
	flooded := func(want int, when string) {
		t.Helper()
		if n := in.takes("press"); n != want {
			t.Errorf("%s: %d messages are let through at once, want %d", when, n, want)
		}
	}
	const alone = 8192 / 2
	in.users["press"].published.Store(in.now.Load())
	in.after(0)
	flooded(alone, "alone")
	in.users["scanner"].published.Store(in.now.Load())
	in.after(time.Second)
	flooded(limits.InitialWindow, "beside another user")
	in.after(activeFor)
	flooded(alone, "when the other one has stopped")
	in.users["press"].published.Store(in.now.Load())
	in.ActiveElsewhere("n2", []string{"press"})
	in.after(time.Second)
	flooded(alone, "with its own clients on another node")
	in.ActiveElsewhere("n2", []string{"press", "stranger"})
	in.after(time.Second)
	flooded(limits.InitialWindow, "beside another user on another node")
	in.ActiveElsewhere("n3", []string{"press"})
	in.after(heardFor + time.Second)
	flooded(alone, "when the other node says nothing any more")
	if got := in.Active(); !slices.Equal(got, []string{"press"}) {
		t.Errorf("active are %q", got)
	}
}

// A message larger than the window gets through, one at a time.
func TestBoundedUserGetsLargeMessagesThrough(t *testing.T) {
	in := newQuiet(t, "press")
	in.ActiveElsewhere("n2", []string{"scanner"})
	in.after(0)
	u, now := in.users["press"], int64(1)
	in.clock = func() int64 { return now }
	for range 3 {
		if !in.inflight.Try(&u.pace, 1<<20) || in.inflight.Try(&u.pace, 1) {
			t.Fatal("a large message is not let through, or not alone")
		}
		sent := now
		now += int64(time.Millisecond)
		in.inflight.Answered(&u.pace, 1<<20, sent, now)
		if in.inflight.Try(&u.pace, 1<<20) {
			t.Fatal("a large message is let through without a rest")
		}
		now += int64(limits.LongestRest)
	}
}

// What waits for the window goes on when the user is alone again.
func TestWaitingUserGoesOnWhenItIsAlone(t *testing.T) {
	t.Parallel()
	in := newQuiet(t, "press")
	in.ActiveElsewhere("n2", []string{"scanner"})
	in.after(0)
	u := in.users["press"]
	for in.inflight.Try(&u.pace, 200) {
	}
	through := make(chan bool)
	go func() { through <- in.inflight.Wait(&u.pace, 200, func() bool { return false }) }()
	for waits := false; !waits; runtime.Gosched() {
		waits = in.inflight.Waiters() > 0
	}
	in.after(heardFor + time.Second)
	select {
	case <-through:
	case <-time.After(10 * time.Second):
		t.Fatal("it waits although nobody else publishes")
	}
}

// What waits for the end of a rest goes on by itself.
func TestWaitingUserGoesOnAfterItsRest(t *testing.T) {
	t.Parallel()
	in := newQuiet(t, "press")
	in.ActiveElsewhere("n2", []string{"scanner"})
	in.after(0)
	u := in.users["press"]
	if !in.inflight.Try(&u.pace, 1<<20) {
		t.Fatal("the first is not let through")
	}
	now := in.clock()
	in.inflight.Answered(&u.pace, 1<<20, now-int64(10*time.Millisecond), now)
	through := make(chan bool)
	go func() { through <- in.inflight.Wait(&u.pace, 200, func() bool { return false }) }()
	select {
	case <-through:
	case <-time.After(10 * time.Second):
		t.Fatal("it waits although the rest is over")
	}
}

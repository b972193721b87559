package ingress

import (
	"context"
	"fmt"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

func hashed(t *testing.T, password string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(hash)
}

func testPasswords(t *testing.T) (p *passwords, press *user, stop context.CancelFunc) {
	t.Helper()
	press = &user{User: User{Name: "press", PasswordHash: hashed(t, "right")}}
	ctx, stop := context.WithCancel(t.Context())
	return newPasswords(ctx, []User{press.User}), press, stop
}

func TestPasswordThatWasRightIsNotCheckedAgain(t *testing.T) {
	p, press, stop := testPasswords(t)
	defer stop()
	if u, why := p.login(press, "right", "a"); u != press {
		t.Fatal(why)
	}
	for range cap(p.slots) { // all checks are taken
		p.slots <- true
	}
	p.queued = maxQueued // and all places in the queue
	if u, why := p.login(press, "right", "b"); u != press {
		t.Errorf("a remembered password: %s", why)
	}
	for name, u := range map[string]*user{"press": press, "nobody": nil} {
		if got, why := p.login(u, "wrong", "b"); got != nil || why != notChecked {
			t.Errorf("%s: a wrong password with a full queue: %s", name, why)
		}
	}
	if len(p.addresses) != 1 {
		t.Errorf("%d addresses are known, want the first alone", len(p.addresses))
	}
}

// A check is waited for in a bounded queue, of all and of each address; those that wait give up with the ingress.
func TestPasswordChecksAreBoundedAndEndWithTheIngress(t *testing.T) {
	p, press, stop := testPasswords(t)
	for range cap(p.slots) {
		p.slots <- true
	}
	answers := make(chan string, 2*maxQueued)
	for i := range 2 * maxQueued {
		go func() {
			_, why := p.login(press, "wrong", fmt.Sprint("address", i))
			answers <- why
		}()
	}
	for range maxQueued {
		if why := <-answers; why != notChecked {
			t.Fatalf("got %s", why)
		}
	}
	p.mu.Lock()
	queued := p.queued
	p.mu.Unlock()
	if queued != maxQueued {
		t.Errorf("%d are queued", queued)
	}
	stop()
	for range maxQueued {
		if why := <-answers; why != wrongPassword {
			t.Fatalf("got %s", why)
		}
	}
	if p.queued != 0 {
		t.Errorf("%d are queued in the end", p.queued)
	}
}

func TestPasswordChecksOfAnAddressAreBounded(t *testing.T) {
	p, _, stop := testPasswords(t)
	defer stop()
	for i := range 2 * queuedAddress {
		if a := p.enter("a"); (a != nil) != (i < queuedAddress) {
			t.Errorf("check %d of an address: queued %v", i+1, a != nil)
		}
	}
}

// The delay of an address doubles with each failure up to its bound, and a right password ends it.
func TestDelayOfAnAddressGrows(t *testing.T) {
	p, press, stop := testPasswords(t)
	stop() // nothing is waited for
	a := p.enter("a")
	for i := range 12 {
		before := time.Now()
		p.finish(a, press, false, [32]byte{})
		after := time.Now()
		a.queued, p.queued = 1, 1
		want := min(longestDelay, firstDelay<<min(i, 10))
		if a.next.Before(before.Add(want)) || a.next.After(after.Add(want)) {
			t.Errorf("after %d failures the delay is %s, want %s", i+1, a.next.Sub(before), want)
		}
	}
	p.finish(a, press, true, [32]byte{})
	if a.failed != 0 || !a.next.IsZero() || p.queued != 0 || a.queued != 0 {
		t.Errorf("after a right one: %+v", a)
	}
}

// A name that nobody has costs as much as one that somebody has: both are compared with a hash of the same cost.
func TestUnknownUsersAreCheckedToo(t *testing.T) {
	p, press, stop := testPasswords(t)
	defer stop()
	if cost, err := bcrypt.Cost(p.dummy); err != nil || cost != bcrypt.MinCost {
		t.Fatalf("the hash for nobody has cost %d, %v", cost, err)
	}
	for name, u := range map[string]*user{"press": press, "nobody": nil,
		"a user without password": {User: User{Name: "scanner"}}} {
		if got, why := p.login(u, "right ", name); got != nil || why != wrongPassword {
			t.Errorf("%s: %v, %s", name, got, why)
		}
		p.mu.Lock()
		if a := p.addresses[name]; a == nil || a.failed != 1 {
			t.Errorf("%s: not checked: %+v", name, a)
		}
		p.mu.Unlock()
	}
	if got, why := p.login(nil, "right", "c"); got != nil {
		t.Errorf("nobody logs in with the password of press: %s", why)
	}
}

func TestAddressesThatFailedAreForgotten(t *testing.T) {
	p, press, stop := testPasswords(t)
	stop()
	for i := range 3 * maxAddresses {
		a := p.enter(fmt.Sprint("address", i))
		p.finish(a, press, false, [32]byte{})
		a.next = time.Now().Add(-time.Second)
		if len(p.addresses) > maxAddresses {
			t.Fatalf("%d addresses are kept", len(p.addresses))
		}
	}
	p.sweep(time.Now().Add(forgetFailures + 2*time.Second))
	if len(p.addresses) != 0 {
		t.Errorf("%d addresses are kept for ever", len(p.addresses))
	}
}

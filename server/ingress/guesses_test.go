package ingress

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// TestPasswordsGuessedFromManyAddressesKeepNobodyElseOut: the queue for checks has room for an address that was not
// wrong, and its turn comes next.
func TestPasswordsGuessedFromManyAddressesKeepNobodyElseOut(t *testing.T) {
	t.Parallel()
	hash, err := bcrypt.GenerateFromPassword([]byte("right"), bcrypt.MinCost+4)
	if err != nil {
		t.Fatal(err)
	}
	known := &user{User: User{Name: "known", PasswordHash: string(hash)}}
	p := newPasswords(t.Context(), []User{known.User})
	stop, flood := make(chan bool), &sync.WaitGroup{}
	for i := range 64 {
		flood.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if _, reason := p.login(known, fmt.Sprint("wrong", n), fmt.Sprint("10.0.0.", i%16)); reason == notChecked {
					time.Sleep(time.Millisecond) // As a client would that has to connect again.
				}
			}
		})
	}
	defer flood.Wait()
	defer close(stop)
	crowded := func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		failed := 0
		for _, a := range p.addresses {
			if a.failed > 0 {
				failed++
			}
		}
		return failed == 16 && p.queued >= maxAgain
	}
	for begun := time.Now(); !crowded(); time.Sleep(time.Millisecond) {
		if time.Since(begun) > time.Minute {
			t.Fatal("the addresses never filled the queue")
		}
	}
	for i := range 10 {
		fresh := &user{User: User{Name: fmt.Sprint("fresh", i), PasswordHash: string(hash)}}
		if u, reason := p.login(fresh, "right", fmt.Sprint("10.0.1.", i)); u != fresh {
			t.Errorf("user %d of an address of its own: %s", i, reason)
		}
	}
}

package ingress

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"runtime"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// passwords checks passwords without giving strangers the processor. A check of bcrypt is slow by design, so few
// run at a time, a few wait, and the rest is refused unchecked; an address that sent a wrong password waits longer each
// time, one check at a time. A password that was right is remembered, by a keyed hash in memory, and not checked again:
// devices that reconnect are admitted at once whatever others do.
type passwords struct {
	ctx   context.Context // no check begins after its end
	slots chan bool       // one for each check that may run
	again chan bool       // the one place in the queue for slots of addresses whose last password was wrong
	dummy []byte          // a hash to compare with if there is no such user; nil: no user has a password
	key   [32]byte        // of the remembered hashes; of this process

	mu        sync.Mutex
	right     map[string][sha256.Size]byte // by user
	addresses map[string]*attempts
	queued    int
}

// attempts are those of an address.
type attempts struct {
	turn   sync.Mutex // one check at a time
	queued int
	failed int // in a row
	next   time.Time
}

// Bounds of password checks.
const (
	maxChecks = 2 // at a time, and one less than there are processors
	maxQueued = 32
	// but for the only check of an address that was not wrong: it finds room whatever others do
	maxAgain       = maxQueued / 2
	restAgain      = 4
	queuedAddress  = 4
	firstDelay     = 100 * time.Millisecond // after the first failure, doubled by each
	longestDelay   = time.Second            // less than clients wait for their login
	forgetFailures = 10 * time.Minute
	maxAddresses   = 4096
)

func newPasswords(ctx context.Context, users []User) *passwords {
	p := &passwords{
		ctx: ctx, slots: make(chan bool, max(1, min(maxChecks, runtime.GOMAXPROCS(0)-1))), again: make(chan bool, 1),
		right: map[string][sha256.Size]byte{}, addresses: map[string]*attempts{},
	}
	_, _ = rand.Read(p.key[:]) // never fails
	cost := 0
	for _, u := range users {
		if c, err := bcrypt.Cost([]byte(u.PasswordHash)); err == nil && c > cost {
			cost, p.dummy = c, []byte(u.PasswordHash)
		}
	}
	return p
}

// Reasons of a login that was not checked.
const (
	wrongPassword = "wrong_credentials"
	notChecked    = "too_many_password_checks"
)

// login returns the user if the password is right, otherwise the reason of the refusal. u is nil where there is no user
// of that name.
func (p *passwords) login(u *user, password, address string) (*user, string) {
	sum := p.sum(u, password)
	if p.remembers(u, sum) {
		return u, ""
	}
	if p.dummy == nil {
		return nil, wrongPassword
	}
	a := p.enter(address)
	if a == nil {
		return nil, notChecked
	}
	ok := p.check(a, u, password)
	p.finish(a, u, ok, sum)
	if !ok {
		return nil, wrongPassword
	}
	return u, ""
}

func (p *passwords) sum(u *user, password string) (sum [sha256.Size]byte) {
	mac := hmac.New(sha256.New, p.key[:])
	if u != nil {
		mac.Write([]byte(u.PasswordHash))
	}
	mac.Write([]byte(password))
	mac.Sum(sum[:0])
	return sum
}

func (p *passwords) remembers(u *user, sum [sha256.Size]byte) bool {
	if u == nil || u.PasswordHash == "" {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	known, ok := p.right[u.Name]
	return ok && hmac.Equal(known[:], sum[:])
}

// enter takes a place in the queue of an address, nil if there is none.
func (p *passwords) enter(address string) *attempts {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.queued >= maxQueued {
		return nil
	}
	a := p.addresses[address]
	if a == nil {
		if len(p.addresses) >= maxAddresses {
			p.forget(time.Now(), 0)
		}
		a = &attempts{}
		p.addresses[address] = a
	}
	room := maxAgain
	if a.failed == 0 && a.queued == 0 {
		room = maxQueued
	}
	if p.queued >= room || a.queued >= queuedAddress {
		return nil
	}
	p.queued++
	a.queued++
	return a
}

// check waits for its turn and compares. Addresses that were wrong share one place, which rests after each wrong
// password for restAgain times as long as the check took: they get a fifth of a processor. An address that was not
// wrong waits for one comparison of theirs at most.
func (p *passwords) check(a *attempts, u *user, password string) bool {
	a.turn.Lock()
	defer a.turn.Unlock()
	p.mu.Lock()
	next, failed := a.next, a.failed > 0
	p.mu.Unlock()
	p.rest(time.Until(next))
	if failed {
		defer p.place(p.again)()
	}
	ok, took := p.compare(u, password)
	if !ok && failed {
		p.rest(restAgain * took)
	}
	return ok
}

// compare waits for a slot, compares, and returns how long the comparison took. After a wrong password the slot rests
// as long: wrong passwords of many addresses get half of what there is.
func (p *passwords) compare(u *user, password string) (ok bool, took time.Duration) {
	defer p.place(p.slots)()
	if p.ctx.Err() != nil {
		return false, 0
	}
	hash, known := p.dummy, u != nil && u.PasswordHash != ""
	if known {
		hash = []byte(u.PasswordHash)
	}
	begun := time.Now()
	ok = bcrypt.CompareHashAndPassword(hash, []byte(password)) == nil && known
	if took = time.Since(begun); !ok {
		p.rest(took)
	}
	return ok, took
}

// rest waits for d, or until the ingress closes.
func (p *passwords) rest(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.ctx.Done():
	}
}

// place waits for a place, or until the ingress closes, and returns a function that gives it back.
func (p *passwords) place(places chan bool) (leave func()) {
	select {
	case places <- true:
		return func() { <-places }
	case <-p.ctx.Done():
		return func() {}
	}
}

func (p *passwords) finish(a *attempts, u *user, ok bool, sum [sha256.Size]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queued--
	a.queued--
	if ok {
		p.right[u.Name] = sum
		a.failed, a.next = 0, time.Time{}
		return
	}
	delay := min(longestDelay, firstDelay<<min(a.failed, 10))
	a.failed++
	a.next = time.Now().Add(delay)
}

// sweep forgets addresses that have been quiet.
func (p *passwords) sweep(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forget(now, forgetFailures)
}

func (p *passwords) forget(now time.Time, quiet time.Duration) {
	for address, a := range p.addresses {
		if a.queued == 0 && now.Sub(a.next) > quiet {
			delete(p.addresses, address)
		}
	}
}

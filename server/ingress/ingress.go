package ingress

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"leasehold/server/ingress/limits"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/time/rate"
)

// Anonymous is the user of clients without credentials, if Options.Users has it.
const Anonymous = ""

// User is a user that clients can log in as, and what it may do. A user publishes or serves, never both.
type User struct {
	Name         string   // Anonymous, or unique among the users
	PasswordHash string   // bcrypt; "" if the user has no password
	NKey         string   // public user key; "" if the user has none
	Publish      []string // subject patterns of topics; "*" stands for one token
	Serve        []string // subjects of the requests that its clients answer
	Background   bool     // other users need not leave room for what it publishes
}

// String keeps the hash out of logs.
func (u User) String() string {
	if u.Name == Anonymous {
		return "anonymous"
	}
	return u.Name
}

// Limits bound what clients can make a node hold. Zero values are not valid: see DefaultLimits.
type Limits struct {
	Connections   int   // at a time
	Subscriptions int   // of one connection
	MaxPayload    int   // bytes of one message with its headers
	Messages      int   // sent to the broker and not answered yet, of all clients
	Bytes         int64 // likewise; also what half-received messages may take, counted apart
	Operations    int   // a second that are not messages to the broker, of one user; twice as many at once
}

// Options are what an Ingress needs.
type Options struct {
	Listen string      // HOST:PORT; port 0 takes a free one
	TLS    *tls.Config // nil: clients speak plain text
	// Anonymous among them admits clients without credentials; only Dial connects as a user without key and password
	Users   []User
	Limits  Limits
	Name    string                              // the server name that clients are told
	Version string                              // the broker's version that clients are told
	Connect func(user string) (Upstream, error) // connects to the broker as the user of that name
	Log     hclog.Logger
}

// Upstream is a connection to the broker that has logged in: only protocol lines follow on it. Inbox is a
// subject prefix of its own, ending with ".", below which it may subscribe.
type Upstream struct {
	net.Conn
	Inbox string
}

// Ingress is the listener and all client connections.
type Ingress struct {
	opt       Options
	log       hclog.Logger
	listener  net.Listener
	users     map[string]*user // by name
	keys      map[string]*user // by nkey
	clock     func() int64     // of the paces, nanoseconds; tests replace it
	passwords *passwords
	pending   *doorstep
	inflight  *limits.Budget // messages that the broker has not answered
	buffers   *limits.Budget // of messages that are not there as a whole yet
	refusals  *refusals

	ctx     context.Context // ends when the ingress closes
	close   context.CancelFunc
	running sync.WaitGroup
	stopped atomic.Bool // clients are not read any more
	started time.Time
	now     atomic.Int64 // coarse clock: nanoseconds since started, from 1 on; see housekeeping

	mu      sync.Mutex
	clients map[*client]bool // also those that have ended and whose messages the broker has not answered
	live    int              // of them, connections that have not ended
	lastID  uint64
	// Who publishes on other nodes, by node.
	elsewhere map[string]heard
}

// user is a User and its state.
type user struct {
	User
	others    *rate.Limiter // of operations that are not messages to the broker
	published atomic.Int64  // when it last published, coarse clock; 0: not yet
	pace      limits.Pace   // of the lock of Ingress.inflight
	live      int           // connections; of the lock of Ingress

	mu sync.Mutex
	up *upstream // nil until its first client, and after its end
}

// maxOut is how many bytes may wait for a client that is still read, with messages of at most payload bytes. A service
// that does not read its requests is ended before it comes to that: see request. Before its login a client has no user.
func (u *user) maxOut(payload int) int {
	if u != nil && len(u.Serve) > 0 {
		return maxOut + 3*payload
	}
	return maxOut
}

// New opens the port. Clients can connect, and are served once Run is called.
func New(o Options) (*Ingress, error) {
	listener, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	in := &Ingress{
		opt: o, log: o.Log, listener: listener, users: map[string]*user{}, keys: map[string]*user{},
		pending: newDoorstep(), refusals: newRefusals(o.Log), clients: map[*client]bool{}, elsewhere: map[string]heard{},
		ctx: ctx, close: cancel,
		buffers: limits.NewBudget(o.Limits.Connections, o.Limits.Bytes, nil),
	}
	in.clock = func() int64 { return in.since(time.Now()) }
	in.inflight = limits.NewBudget(o.Limits.Messages, o.Limits.Bytes, func() int64 { return in.clock() })
	in.started = time.Now()
	in.now.Store(in.since(in.started))
	in.passwords = newPasswords(ctx, o.Users)
	for _, u := range o.Users {
		w := &user{User: u, others: rate.NewLimiter(rate.Limit(o.Limits.Operations), 2*o.Limits.Operations)}
		in.users[u.Name] = w
		if u.NKey != "" {
			in.keys[u.NKey] = w
		}
	}
	return in, nil
}

// Addr returns the address that clients connect to.
func (in *Ingress) Addr() net.Addr { return in.listener.Addr() }

// Run serves clients until Close.
func (in *Ingress) Run() {
	in.running.Go(in.housekeeping)
	in.accept()
	in.running.Wait()
}

// drainLimit bounds the wait for the broker's answers to what clients sent before Close.
const drainLimit = 500 * time.Millisecond

// Close closes the listener, reads no more from clients, waits a moment for the broker's answers, and ends all
// connections. It may be called without Run, and more than once.
func (in *Ingress) Close() {
	_ = in.listener.Close()
	if in.stopped.Swap(true) {
		return
	}
	for _, c := range in.list() {
		c.link.interrupt()
	}
	in.inflight.Empty(drainLimit)
	in.close()
	until := time.Now().Add(drainLimit)
	for _, c := range in.list() {
		c.link.flush(max(0, time.Until(until)))
		c.end(nil)
	}
	for _, u := range in.users {
		u.drop()
	}
}

// Dial connects as a user inside this process. It bypasses the listener and authentication, and nothing else.
func (in *Ingress) Dial(name string) (net.Conn, error) {
	u := in.users[name]
	if u == nil {
		return nil, fmt.Errorf("no user %q", name)
	}
	ours, theirs := net.Pipe()
	c := in.newClient(theirs)
	c.user = u
	if !in.serve(c) {
		return nil, errors.Join(net.ErrClosed, ours.Close())
	}
	return ours, nil
}

// serve runs a client. It returns false if the ingress is closing.
func (in *Ingress) serve(c *client) bool {
	in.mu.Lock()
	if in.stopped.Load() || in.ctx.Err() != nil {
		in.mu.Unlock()
		_ = c.link.raw.Close()
		return false
	}
	in.clients[c] = true
	in.live++
	in.running.Add(1)
	in.mu.Unlock()
	go func() {
		defer in.running.Done()
		c.run()
	}()
	return true
}

func (in *Ingress) list() []*client {
	in.mu.Lock()
	defer in.mu.Unlock()
	all := make([]*client, 0, len(in.clients))
	for c := range in.clients {
		all = append(all, c)
	}
	return all
}

// left must be called once when a connection has ended. The client may be forgotten by then, if its last answer came
// meanwhile.
func (in *Ingress) left(c *client) {
	in.pending.left(c)
	in.mu.Lock()
	defer in.mu.Unlock()
	in.live--
	if c.left = true; c.counted {
		c.user.live--
	}
}

// othersPart is which part of the connections one user leaves to others: an eighth.
const othersPart = 8

// countIn counts a connection for the user that it logged in as. It returns false if the user has too many.
func (in *Ingress) countIn(c *client) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if c.left {
		return true
	}
	if limit := in.opt.Limits.Connections; c.user.live >= limit-limit/othersPart {
		return false
	}
	c.user.live++
	c.counted = true
	return true
}

// forget must be called when a connection has ended and the broker has answered all that came over it.
func (in *Ingress) forget(c *client) {
	in.mu.Lock()
	defer in.mu.Unlock()
	delete(in.clients, c)
}

// Times of housekeeping.
const (
	beat        = 100 * time.Millisecond // of the coarse clock
	sweepEvery  = time.Second
	answerLimit = 30 * time.Second // after which an unanswered message no longer takes up room
)

// housekeeping advances the coarse clock and ends what takes too long.
func (in *Ingress) housekeeping() {
	tick := time.NewTicker(beat)
	defer tick.Stop()
	var swept time.Time
	for {
		select {
		case <-in.ctx.Done():
			return
		case now := <-tick.C:
			in.now.Store(in.since(now))
			in.bound(in.now.Load())
			if now.Sub(swept) < sweepEvery {
				continue
			}
			swept = now
			for _, c := range in.list() {
				c.sweep(now)
			}
			in.refusals.report(now)
			in.passwords.sweep(now)
		}
	}
}

// since converts a time to the coarse clock, which ignores steps of the wall clock: many machines make one after boot.
func (in *Ingress) since(t time.Time) int64 { return int64(t.Sub(in.started)) + 1 }

// Refused returns what was refused, by user and reason.
func (in *Ingress) Refused() []Refused { return in.refusals.list() }

package hostile

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// Assault is an attack of one form: many connections that do the same, each again as soon as it ended.
type Assault struct {
	Form           string   // one of Forms, or Everything
	Clients        []string // addresses that take NATS clients
	HTTP           []string
	Ports          []string // all of them, for the form "garbage"
	User, Password string   // of somebody who may publish to Topic
	Topic          string
	For            time.Duration
	Seed           uint64
}

// Everything is all forms at once.
const Everything = "everything at once"

// form is one way to attack. Its client makes one connection and lives as long as that; it returns nil when the context
// is done.
type form struct {
	name   string
	each   int // connections to each address at a time
	http   bool
	client func(ctx context.Context, c *caller) error
}

var forms = []form{
	{name: "flood 64 KiB, replies", each: 4, client: flood(64<<10, true)},
	{name: "flood 64 KiB", each: 4, client: flood(64<<10, false)},
	{name: "flood 200 B, replies", each: 4, client: flood(200, true)},
	{name: "flood 200 B", each: 4, client: flood(200, false)},
	{name: "reads no answers", each: 8, client: readsNothing},
	{name: "ids of 60 KB", each: 2, client: hugeIDs},
	{name: "wrong passwords", each: 100, client: wrongPassword},
	{name: "slow writers", each: 100, client: slowWriter},
	{name: "subscriptions", each: 100, client: subscriber},
	{name: "idle", each: 1500, client: idler},
	{name: "HTTP idle", each: 500, http: true, client: idleHTTP},
	{name: "HTTP slow", each: 100, http: true, client: slowHTTP},
}

// garbage is the form that Attack has.
const garbage = "garbage"

// Forms are the names of all forms.
func Forms() []string {
	names := []string{garbage}
	for _, f := range forms {
		names = append(names, f.name)
	}
	return names
}

// Run attacks until the time is over or the context is done.
func (a Assault) Run(ctx context.Context) (Count, error) {
	ctx, cancel := context.WithTimeout(ctx, a.For)
	defer cancel()
	var run []form
	for _, f := range forms {
		if a.Form == f.name || a.Form == Everything {
			run = append(run, f)
		}
	}
	all := &tally{}
	if a.Form == garbage || a.Form == Everything {
		all.running.Go(func() { all.add(a.throwGarbage(ctx)) })
	} else if len(run) == 0 {
		return Count{}, fmt.Errorf("no attack is called %q, only %q", a.Form, Forms())
	}
	for _, f := range run {
		a.start(ctx, f, all)
	}
	all.running.Wait()
	return all.count, all.err
}

func (a Assault) throwGarbage(ctx context.Context) (Count, error) {
	r, err := Attack(ctx, Spec{Addresses: a.Ports, For: a.For, Seed: a.Seed})
	return r.Total, err
}

// tally sums up what came of connections.
type tally struct {
	running sync.WaitGroup
	mu      sync.Mutex
	count   Count
	err     error
}

func (t *tally) add(c Count, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count.add(c)
	if t.err == nil {
		t.err = err
	}
}

// start starts the connections of a form.
func (a Assault) start(ctx context.Context, f form, all *tally) {
	addresses := a.Clients
	if f.http {
		addresses = a.HTTP
	}
	for n := range f.each * len(addresses) {
		c := &caller{Assault: a, number: n, address: addresses[n%len(addresses)],
			random: rand.New(rand.NewPCG(a.Seed, uint64(n)))}
		all.running.Go(func() {
			c.call(ctx, f)
			all.add(c.count, nil)
		})
	}
}

// caller is one connection after the other.
type caller struct {
	Assault
	number  int
	address string
	random  *rand.Rand
	count   Count
}

// pause is what lies between two connections of a caller.
const pause = 20 * time.Millisecond

func (c *caller) call(ctx context.Context, f form) {
	for ctx.Err() == nil {
		if err := f.client(ctx, c); err != nil && ctx.Err() == nil && closedByPeer(err) {
			c.count.Closed++
		}
		rest(ctx, pause)
	}
}

// connect makes a connection that the end of the context closes. Its address on this side is one of eight of the
// loopback network, as of eight machines.
func (c *caller) connect(ctx context.Context) (*net.TCPConn, func(), error) {
	d := net.Dialer{Timeout: dialLimit}
	if host, _, err := net.SplitHostPort(c.address); err == nil && net.ParseIP(host).IsLoopback() {
		d.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+c.number%8))}
	}
	conn, err := d.DialContext(ctx, "tcp", c.address)
	if err != nil {
		if ctx.Err() == nil {
			c.count.Refused++
		}
		return nil, nil, err
	}
	c.count.Made++
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	return conn.(*net.TCPConn), func() { stop(); conn.Close() }, nil
}

// write sends, and counts what was sent.
func (c *caller) write(conn net.Conn, data []byte, messages int) error {
	n, err := conn.Write(data)
	c.count.Sent += int64(n)
	if err == nil {
		c.count.Messages += messages
	}
	return err
}

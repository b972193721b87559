package ingress

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"leasehold/server/ingress/limits"
	"leasehold/server/ingress/wire"
	"net"
	"sync/atomic"
	"time"
)

// client is one connection. One goroutine serves it: it reads, checks and forwards. Another one sends to it while there
// is something to send, and its upstream's gives it what the broker says.
type client struct {
	in    *Ingress
	id    uint64
	nonce string
	begun time.Time
	link  link
	pulse pulse

	// Of the reading goroutine. Others read user, up and opt of a client that has logged in.
	user   *user     // nil until it has logged in
	up     *upstream // likewise
	opt    wire.ConnectOptions
	buf    receiveBuffer
	batch  brokerBatch
	header []byte // a rebuilt header block
	others int    // operations since the last read that were not messages to the broker
	inbox  []byte // the reply subject of the last message to the broker
	idText []byte // the client's token in it, with a dot

	loggedIn      atomic.Bool
	left, counted bool // of the ingress's lock: it has ended; it counts for its user

	// Of the link's lock.
	window  limits.Window
	subs    subscriptions // of users that publish
	serving serving       // of users that serve
}

// pulse is when a client was last heard, to find one that is stuck or gone. Its reading goroutine writes it and
// housekeeping reads it.
type pulse struct {
	now     *atomic.Int64 // the coarse clock
	waiting atomic.Bool   // the client is not read because of us: its silence is not its fault
	heard   atomic.Int64  // when bytes last arrived
	partial atomic.Int64  // since when a message is half received; 0: none is
	pings   int           // sent and not answered; of housekeeping
}

// resume ends a wait for us: the time does not count for the client.
func (p *pulse) resume() {
	p.heard.Store(p.now.Load())
	p.partial.Store(0)
	p.waiting.Store(false)
}

func (in *Ingress) newClient(conn net.Conn) *client {
	in.mu.Lock()
	in.lastID++
	id := in.lastID
	in.mu.Unlock()
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails
	c := &client{
		in: in, id: id, nonce: base64.RawURLEncoding.EncodeToString(random[:]), begun: time.Now(),
		buf: receiveBuffer{data: make([]byte, firstBuffer)},
	}
	l := &c.link
	l.raw, l.conn, l.running, l.failed, l.over = conn, conn, &in.running, c.writeFailed, make(chan struct{})
	l.room.L = &l.mu
	c.opt.Verbose = true // what the protocol says for a client that says nothing
	c.pulse.now = &in.now
	c.pulse.heard.Store(in.now.Load())
	return c
}

// run serves the connection until it ends.
func (c *client) run() {
	defer c.end(nil)
	if err := c.greet(); err != nil {
		return
	}
	err := c.read()
	c.giveBuffer(nil)
	if c.up != nil {
		c.up.leave(c)
	}
	if c.in.stopped.Load() {
		c.link.awaitEnd() // Close gives it the replies that are under way
	}
	var p *protocolError
	if errors.As(err, &p) {
		c.link.sendLine("-ERR '" + p.text + "'\r\n")
		c.link.flush(time.Second)
	}
}

// errEnded means that the connection was ended by another goroutine.
var errEnded = errors.New("connection has ended")

// protocolError ends a connection with the broker's own words for it.
type protocolError struct{ text string }

func (e *protocolError) Error() string { return e.text }

// Texts of nats-server v2.15.2 (server/errors.go, client.go), which client libraries recognize.
var (
	errControlLine = &protocolError{"Maximum Control Line Exceeded"}
	errPayload     = &protocolError{"Maximum Payload Violation"}
	errOperation   = &protocolError{"Unknown Protocol Operation"}
	errParser      = &protocolError{"Parser Error"}
	errAuth        = &protocolError{"Authorization Violation"}
	errAuthTimeout = &protocolError{"Authentication Timeout"}
	errStale       = &protocolError{"Stale Connection"}
	errSlow        = &protocolError{"Slow Consumer"}
	errMaxClients  = &protocolError{"maximum connections exceeded"}
)

// end closes the connection, with an error for the client if why is not nil. What it has sent stays counted until the
// broker has answered it.
func (c *client) end(why *protocolError) {
	c.link.mu.Lock()
	if c.link.ended {
		c.link.mu.Unlock()
		return
	}
	conn, last := c.link.endLocked(why)
	open := c.window.Open
	c.link.mu.Unlock()
	c.link.hangUp(conn, last)
	c.in.left(c)
	c.in.inflight.Wake()
	c.in.buffers.Wake()
	if open == 0 {
		c.release()
	}
}

// release forgets a connection that has ended, once the broker has answered all that came over it.
func (c *client) release() {
	c.in.forget(c)
	if c.loggedIn.Load() {
		c.up.remove(c)
	}
}

// Time limits; honest clients stay far below them.
const (
	loginLimit   = 10 * time.Second // from the connection to a successful login
	stallLimit   = 10 * time.Second // without a byte in the middle of a message
	slowest      = 64 << 10         // bytes a second at which a message must arrive, after stallLimit
	pingEvery    = 2 * time.Minute  // of silence
	pingsAllowed = 2                // without an answer
)

// sweep ends a connection that takes too long, and forgets messages that got no answer.
func (c *client) sweep(now time.Time) {
	at := c.in.since(now)
	c.expire(at - int64(answerLimit))
	if c.link.hasEnded() {
		return
	}
	silent := at - c.pulse.heard.Load()
	partial := c.pulse.partial.Load()
	switch {
	case c.pulse.waiting.Load():
	case !c.loggedIn.Load():
		if now.Sub(c.begun) > loginLimit {
			c.in.refusals.countAddress(address(c.link.raw), "authentication_timeout", "")
			c.end(errAuthTimeout)
		}
	case partial > 0 && (silent > int64(stallLimit) || at-partial > int64(c.in.messageLimit())):
		c.in.refusals.count(c.user.String(), "slow_sender", "")
		c.end(errStale)
	case silent > int64(pingEvery)*int64(c.pulse.pings+1):
		if c.pulse.pings++; c.pulse.pings > pingsAllowed {
			c.end(errStale)
			return
		}
		c.link.sendLine("PING\r\n")
	case silent < int64(pingEvery):
		c.pulse.pings = 0
	}
}

// messageLimit returns how long the bytes of one message may take to arrive.
func (in *Ingress) messageLimit() time.Duration {
	return stallLimit + time.Duration(in.opt.Limits.MaxPayload/slowest)*time.Second
}

// expire counts messages sent before a time as answered.
func (c *client) expire(before int64) {
	c.link.mu.Lock()
	messages, bytes := c.window.Expire(before)
	c.window.Shrink()
	if len(c.link.out) == 0 && !c.link.writing {
		c.link.out, c.link.spare = nil, nil
	}
	over := c.link.ended && c.window.Open == 0
	if messages > 0 {
		c.link.room.Broadcast()
	}
	c.serving.expire(before - int64(serviceLimit))
	c.link.mu.Unlock()
	if messages > 0 {
		c.in.inflight.Give(&c.user.pace, messages, bytes)
	}
	if over {
		c.release()
	}
}

package ingress

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"leasehold/server/ingress/limits"
	"leasehold/server/ingress/wire"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// client is one connection. One goroutine serves it, which reads, checks and passes on, and another while there is
// something to send to it.
type client struct {
	in    *Ingress
	raw   net.Conn // as it was accepted; to close it, and for deadlines
	conn  net.Conn // to read and write: raw, or TLS over it
	id    uint64
	nonce string

	// Of the reading goroutine.
	user   *user     // nil until it has logged in
	up     *upstream // likewise
	opt    wire.ConnectOptions
	buf    []byte // received and not consumed: buf[r:w]
	r, w   int
	need   int      // bytes from r on that the next message has, 0: not known yet
	held   int      // bytes of buf that are taken from the buffers' budget
	skip   int      // bytes of a refused message that are to be dropped
	batch  []byte   // for the broker
	pongs  []func() // what is done at the broker's answer to each PING in it
	header []byte   // a rebuilt header block
	others int      // operations since the last read that were not messages to the broker
	inbox  []byte   // the reply subject of the last message to the broker
	idText []byte   // the client's token in it, with a dot

	left, counted bool // of the ingress's lock: it has ended; it counts for its user

	// What sweep looks at.
	begun    time.Time
	over     chan struct{} // closed when the connection has ended
	loggedIn atomic.Bool
	waiting  atomic.Bool  // for us, not for the client: its silence is not its fault
	heard    atomic.Int64 // when bytes last arrived
	partial  atomic.Int64 // since when a message is half received, 0: none is
	pings    int          // sent and not answered; of housekeeping

	mu      sync.Mutex
	ended   bool
	spare   []byte    // for the next out
	room    sync.Cond // the window, or out, has room again
	window  limits.Window
	subs    subscriptions
	done    []*subscription     // scratch of tell
	served  map[string]*service // by the client's sid; of users that serve
	replies map[string]int64    // reply subjects of requests that wait for the answer, with their time
	out     []byte
	writing bool // a goroutine sends what is in out
}

func (in *Ingress) newClient(conn net.Conn) *client {
	in.mu.Lock()
	in.lastID++
	id := in.lastID
	in.mu.Unlock()
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails
	c := &client{
		in: in, raw: conn, conn: conn, id: id, nonce: base64.RawURLEncoding.EncodeToString(random[:]),
		begun: time.Now(), over: make(chan struct{}), buf: make([]byte, firstBuffer),
	}
	c.opt.Verbose = true // what the protocol says for a client that says nothing
	c.room.L = &c.mu
	c.heard.Store(in.now.Load())
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
		c.waitEnded() // Close gives it the answers that are under way
	}
	var p *protocolError
	if errors.As(err, &p) {
		c.sendLine("-ERR '" + p.text + "'\r\n")
		c.flushOut(time.Second)
	}
}

func (c *client) waitEnded() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.ended {
		c.room.Wait()
	}
}

// errEnded is for a connection that was ended from elsewhere.
var errEnded = errors.New("connection has ended")

// protocolError ends a connection with the broker's own words for it.
type protocolError struct{ text string }

func (e *protocolError) Error() string { return e.text }

// Texts of nats-server v2.15.2 (server/errors.go, client.go), which client libraries know.
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

func (c *client) hasEnded() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended
}

// interrupt has the reading goroutine stop at the next look.
func (c *client) interrupt() { _ = c.raw.SetReadDeadline(time.Now()) }

// end closes the connection, with an error for the client if there is one. What it has sent stays counted until the
// broker has answered it.
func (c *client) end(why *protocolError) {
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		return
	}
	if why != nil {
		c.out = append(c.out, "-ERR '"+why.text+"'\r\n"...)
	}
	last, conn := c.out, c.conn
	c.ended, c.out = true, nil
	close(c.over)
	busy := c.writing
	open := c.window.Open
	c.room.Broadcast()
	c.mu.Unlock()
	if why != nil && !busy && len(last) <= farewell {
		_ = c.raw.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = conn.Write(last)
	}
	_ = c.raw.Close()
	c.in.left(c)
	c.in.inflight.Wake()
	c.in.buffers.Wake()
	if open == 0 {
		c.release()
	}
}

// release forgets a connection that has ended and of which the broker has answered all.
func (c *client) release() {
	c.in.forget(c)
	if c.loggedIn.Load() {
		c.up.remove(c)
	}
}

// Limits of time, seconds being plenty for each.
const (
	loginLimit   = 10 * time.Second // from the connection to a login that is right
	stallLimit   = 10 * time.Second // without a byte in the middle of a message
	slowest      = 64 << 10         // bytes a second that a message must come with, once stallLimit is over
	pingEvery    = 2 * time.Minute  // of silence
	pingsAllowed = 2                // without an answer
)

// sweep ends a connection that takes too long and forgets messages that get no answer.
func (c *client) sweep(now time.Time) {
	at := c.in.since(now)
	c.expire(at - int64(answerLimit))
	if c.hasEnded() {
		return
	}
	silent := at - c.heard.Load()
	partial := c.partial.Load()
	switch {
	case c.waiting.Load():
	case !c.loggedIn.Load():
		if now.Sub(c.begun) > loginLimit {
			c.in.refusals.countAddress(address(c.raw), "authentication_timeout", "")
			c.end(errAuthTimeout)
		}
	case partial > 0 && (silent > int64(stallLimit) || at-partial > int64(c.in.messageLimit())):
		c.in.refusals.count(c.user.String(), "slow_sender", "")
		c.end(errStale)
	case silent > int64(pingEvery)*int64(c.pings+1):
		if c.pings++; c.pings > pingsAllowed {
			c.end(errStale)
			return
		}
		c.sendLine("PING\r\n")
	case silent < int64(pingEvery):
		c.pings = 0
	}
}

// messageLimit is how long the bytes of one message may take to arrive.
func (in *Ingress) messageLimit() time.Duration {
	return stallLimit + time.Duration(in.opt.Limits.MaxPayload/slowest)*time.Second
}

// expire counts messages sent before a time as answered.
func (c *client) expire(before int64) {
	c.mu.Lock()
	messages, bytes := c.window.Expire(before)
	c.window.Shrink()
	if len(c.out) == 0 && !c.writing {
		c.out, c.spare = nil, nil
	}
	over := c.ended && c.window.Open == 0
	if messages > 0 {
		c.room.Broadcast()
	}
	for reply, at := range c.replies {
		if at < before-int64(serviceLimit) {
			delete(c.replies, reply)
		}
	}
	c.mu.Unlock()
	if messages > 0 {
		c.in.inflight.Give(&c.user.pace, messages, bytes)
	}
	if over {
		c.release()
	}
}

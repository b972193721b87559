package ingress

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// client is one connection. One goroutine serves it, which reads, checks and passes on, and another while there is something
// to send to it.
type client struct {
	in    *Ingress
	raw   net.Conn // as it was accepted; to close it, and for deadlines
	conn  net.Conn // to read and write: raw, or TLS over it
	id    uint64
	nonce string

	// Of the reading goroutine.
	user   *user     // nil until it has logged in
	up     *upstream // likewise
	opt    connectOptions
	buf    []byte // received and not consumed: buf[r:w]
	r, w   int
	need   int      // bytes from r on that the next message has, 0: not known yet
	held   int      // bytes of buf that are taken from the buffers' budget
	skip   int      // bytes of a refused message that are to be dropped
	batch  []byte   // for the broker
	pongs  []func() // what is done at the broker's answer to each PING in it
	header []byte   // a rebuilt header block
	inbox  []byte   // the reply subject of the last message to the broker
	idText []byte   // the client's token in it, with a dot

	// What sweep looks at.
	begun    time.Time
	loggedIn atomic.Bool
	waiting  atomic.Bool  // for us, not for the client: its silence is not its fault
	heard    atomic.Int64 // when bytes last arrived
	partial  atomic.Int64 // since when a message is half received, 0: none is
	pings    int          // sent and not answered; of housekeeping

	mu      sync.Mutex
	ended   bool
	spare   []byte    // for the next out
	room    sync.Cond // the window, or out, has room again
	window  window
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
		begun: time.Now(), buf: make([]byte, firstBuffer),
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
		c.say("-ERR '" + p.text + "'\r\n")
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

// Sizes of a client's buffer.
const (
	firstBuffer = 1 << 10
	freeBuffer  = 16 << 10 // beyond it the buffers' budget counts
	maxBatch    = 32 << 10 // what goes to the broker in one piece
)

// batches are lent to clients while they consume: one that is silent holds none.
var batches = sync.Pool{New: func() any { return new([]byte) }}

// read consumes what the client says.
func (c *client) read() error {
	for {
		batch := batches.Get().(*[]byte)
		c.batch = (*batch)[:0]
		err := errors.Join(c.consume(), c.pass())
		*batch, c.batch = c.batch, nil
		batches.Put(batch)
		if cap(c.header) > firstBuffer {
			c.header = nil
		}
		if err == nil {
			err = c.fill()
		}
		if err != nil {
			return err
		}
	}
}

// pass sends the broker what has been allowed.
func (c *client) pass() error {
	if len(c.batch) == 0 {
		return nil
	}
	err := c.up.write(c.batch, c.pongs...)
	c.batch, c.pongs = c.batch[:0], nil
	if cap(c.batch) > 4*maxBatch {
		c.batch = nil
	}
	return err
}

// fill reads more of what the client says.
func (c *client) fill() error {
	if err := c.makeRoom(); err != nil {
		return err
	}
	if c.r < c.w || c.skip > 0 {
		c.partial.CompareAndSwap(0, c.in.now.Load())
	} else {
		c.partial.Store(0)
	}
	if err := c.awaitReader(); err != nil {
		return err
	}
	if c.in.stopped.Load() {
		return errEnded
	}
	n, err := c.conn.Read(c.buf[c.w:])
	c.w += n
	if n > 0 {
		c.heard.Store(c.in.now.Load())
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// awaitReader waits while too much is there for the client to read: what it says costs us more than its own bytes.
func (c *client) awaitReader() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.out) >= c.maxOut() && !c.ended {
		c.room.Wait()
	}
	if c.ended {
		return errEnded
	}
	return nil
}

// maxOut is how many bytes may wait for a client that is read. A service that reads no requests ends before that: see request.
func (c *client) maxOut() int {
	if len(c.user.serves()) > 0 {
		return maxOut + 3*c.in.opt.Limits.MaxPayload
	}
	return maxOut
}

// makeRoom sees to it that the buffer can take the message that is being received, or at least a line.
func (c *client) makeRoom() error {
	if c.r == c.w {
		c.r, c.w = 0, 0
		if c.held > 0 {
			c.giveBuffer(make([]byte, freeBuffer))
		}
	}
	if c.r > 0 && (c.w == len(c.buf) || c.need > len(c.buf)-c.r) {
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
	}
	switch {
	case c.need > len(c.buf) && c.need > freeBuffer:
		return c.takeBuffer(c.need)
	case c.w == len(c.buf) && len(c.buf) < freeBuffer:
		c.buf = append(c.buf, make([]byte, len(c.buf))...)
	}
	return nil
}

// takeBuffer gets a buffer for a large message as soon as the budget has room for it.
func (c *client) takeBuffer(n int) error {
	if !c.in.buffers.try(c.user, n) {
		if err := c.pass(); err != nil {
			return err
		}
		c.waiting.Store(true)
		defer c.resume()
		if !c.in.buffers.wait(c.user, n, c.hasEnded) {
			return errEnded
		}
	}
	bigger := make([]byte, n)
	c.w = copy(bigger, c.buf[c.r:c.w])
	c.r = 0
	c.giveBuffer(bigger)
	c.held = n
	return nil
}

// giveBuffer goes on with another buffer, and gives the budget back what the one before it took.
func (c *client) giveBuffer(other []byte) {
	c.buf = other
	if c.held > 0 {
		c.in.buffers.give(c.user, 1, c.held)
		c.held = 0
	}
}

// resume ends a wait for us: the time does not count for the client.
func (c *client) resume() {
	c.heard.Store(c.in.now.Load())
	c.partial.Store(0)
	c.waiting.Store(false)
}

func (c *client) hasEnded() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended
}

// interrupt has the reading goroutine stop at the next look.
func (c *client) interrupt() { _ = c.raw.SetReadDeadline(time.Now()) }

// end closes the connection, with an error for the client if there is one. What it has sent stays counted until the broker
// has answered it.
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
	busy := c.writing
	open := c.window.open
	c.room.Broadcast()
	c.mu.Unlock()
	if why != nil && !busy && len(last) <= farewell {
		_ = c.raw.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = conn.Write(last)
	}
	_ = c.raw.Close()
	c.in.left(c)
	c.in.inflight.wake()
	c.in.buffers.wake()
	if open == 0 {
		c.gone()
	}
}

// gone forgets a connection that has ended and of which the broker has answered all.
func (c *client) gone() {
	c.in.forget(c)
	if c.loggedIn.Load() {
		c.up.remove(c)
	}
}

// Bounds of what waits for a client.
const (
	writeLimit = 10 * time.Second // for one write to it
	maxPiece   = 64 << 10         // of one write, so that this is 6.4 KiB a second
	maxOut     = 1 << 20          // bytes for a publisher: it is read no more until it has read them
	mostOut    = 4 * maxOut       // likewise: it is ended, for it has many subscriptions to the same answers
	answerSize = 128              // bytes that an answer takes beside the reply subject, about
	farewell   = 4 << 10          // bytes that a connection which is not stuck takes at once
)

// endSlow ends a connection that does not read what is sent to it.
func (c *client) endSlow() {
	c.in.refusals.count(c.user.String(), "slow_consumer", "")
	c.end(errSlow)
}

// say sends a line to the client.
func (c *client) say(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended {
		c.out = append(c.out, line...)
		c.send()
	}
}

// send has out sent. The caller has the lock.
func (c *client) send() {
	if !c.writing {
		c.writing = true
		c.in.running.Go(c.write)
	}
}

// write sends what is for the client, until there is nothing more.
func (c *client) write() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.out) > 0 && !c.ended {
		chunk := c.out
		c.out, c.spare = c.spare[:0], nil
		c.mu.Unlock()
		switch err := c.transmit(chunk); {
		case errors.Is(err, os.ErrDeadlineExceeded):
			c.endSlow()
		case err != nil:
			c.end(nil)
		}
		c.mu.Lock()
		c.room.Broadcast()
		if cap(chunk) <= maxBatch {
			c.spare = chunk
		}
	}
	c.writing = false
	c.room.Broadcast()
}

// transmit writes in pieces, each with its own deadline: a slow link needs long for all of it.
func (c *client) transmit(b []byte) error {
	for len(b) > 0 {
		n := min(len(b), maxPiece)
		_ = c.raw.SetWriteDeadline(time.Now().Add(writeLimit))
		if _, err := c.conn.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// flushOut waits for a while for what is for the client to be sent.
func (c *client) flushOut(limit time.Duration) {
	late := false
	timer := time.AfterFunc(limit, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		late = true
		c.room.Broadcast()
	})
	defer timer.Stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.ended && !late && (len(c.out) > 0 || c.writing) {
		c.room.Wait()
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
		c.say("PING\r\n")
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
	messages, bytes := c.window.expire(before)
	c.window.shrink()
	if len(c.out) == 0 && !c.writing {
		c.out, c.spare = nil, nil
	}
	over := c.ended && c.window.open == 0
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
		c.in.inflight.give(c.user, messages, bytes)
	}
	if over {
		c.gone()
	}
}

// appendNumber appends a number as it stands in subjects of the ingress.
func appendNumber(b []byte, n uint64) []byte { return strconv.AppendUint(b, n, 36) }

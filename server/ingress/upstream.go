package ingress

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"leasehold/server/ingress/wire"
	"math"
	"strconv"
	"sync"
)

// upstream is a user's connection to the broker. All clients of the user share it: what they send during a write is
// sent together after it. The first error ends it and all its clients; the next client opens another.
type upstream struct {
	in    *Ingress
	user  *user
	conn  Upstream
	inbox []byte

	mu      sync.Mutex
	err     error
	busy    bool      // a write is under way, or pending is left to flush
	idle    sync.Cond // pending has become shorter
	pending []byte    // what others want to write meanwhile
	more    chan bool // buffered 1: pending is left to flush
	clients map[uint64]*client
	served  map[uint64]*service // subscriptions of services, by our sid
	pongs   []func()            // for each PING that the broker has not answered
	lastSid uint64

	line []byte // of the reading goroutine
}

// maxPending is how many bytes may wait for a write: a client with more to send waits.
const maxPending = 64 << 10

// inboxSid is our sid of the subscription to the answers.
const inboxSid = 1

// connect adds a client to its user's connection to the broker, and opens that if there is none.
func (in *Ingress) connect(c *client) (*upstream, error) {
	u := c.user
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.up != nil && u.up.add(c) {
		return u.up, nil
	}
	if in.stopped.Load() || c.link.hasEnded() { // it may have waited long while others could not connect
		return nil, errEnded
	}
	up, err := in.open(u)
	if err != nil {
		return nil, err
	}
	up.add(c)
	u.up = up
	return up, nil
}

// open opens a connection to the broker for a user. The caller has the user's lock, so nothing here may wait for a
// write: ending the connection takes that lock.
func (in *Ingress) open(u *user) (*upstream, error) {
	conn, err := in.opt.Connect(u.Name)
	if err != nil {
		return nil, fmt.Errorf("connect to the broker for user %s: %w", u, err)
	}
	up := &upstream{
		in: in, user: u, conn: conn, inbox: []byte(conn.Inbox), more: make(chan bool, 1),
		clients: map[uint64]*client{}, served: map[uint64]*service{}, lastSid: inboxSid,
	}
	up.idle.L = &up.mu
	in.running.Go(up.flush)
	in.running.Go(up.read)
	if len(u.Serve) == 0 {
		up.post("SUB " + conn.Inbox + "> " + strconv.Itoa(inboxSid) + "\r\n")
	}
	return up, nil
}

// drop ends the user's connection to the broker.
func (u *user) drop() {
	u.mu.Lock()
	up := u.up
	u.mu.Unlock()
	if up != nil {
		up.fail(errEnded)
	}
}

// add adds a client. It returns false if the connection has ended: the client would not learn of that.
func (up *upstream) add(c *client) bool {
	up.mu.Lock()
	defer up.mu.Unlock()
	if up.err != nil {
		return false
	}
	up.clients[c.id] = c
	return true
}

func (up *upstream) remove(c *client) {
	up.mu.Lock()
	defer up.mu.Unlock()
	delete(up.clients, c.id)
}

// write sends whole protocol messages, with a function for the answer to each PING in them. It waits while too much is
// pending.
func (up *upstream) write(b []byte, pongs ...func()) error {
	up.mu.Lock()
	for up.busy && len(up.pending) >= maxPending && up.err == nil {
		up.idle.Wait()
	}
	up.pongs = append(up.pongs, pongs...)
	if up.err != nil || up.busy {
		defer up.mu.Unlock()
		if up.err == nil {
			up.pending = append(up.pending, b...)
		}
		return up.err
	}
	up.busy = true
	up.mu.Unlock()
	_, err := up.conn.Write(b)
	up.wrote(err)
	return err
}

// wrote ends a write, and leaves to flush what others want to write meanwhile.
func (up *upstream) wrote(err error) {
	if err != nil {
		up.fail(err)
		return
	}
	up.mu.Lock()
	defer up.mu.Unlock()
	if len(up.pending) > 0 && up.err == nil {
		up.more <- true
		return
	}
	up.busy = false
	up.idle.Broadcast()
}

// post sends a line without waiting: the goroutine that reads from the broker must not wait for one that writes to it,
// since the broker may be writing to us.
func (up *upstream) post(line string) {
	up.mu.Lock()
	defer up.mu.Unlock()
	if up.err != nil {
		return
	}
	up.pending = append(up.pending, line...)
	if !up.busy {
		up.busy = true
		up.more <- true
	}
}

// flush writes what became pending during other writes.
func (up *upstream) flush() {
	var spare []byte
	for range up.more {
		for {
			up.mu.Lock()
			b := up.pending
			if len(b) == 0 || up.err != nil {
				up.busy = false
				up.idle.Broadcast()
				up.mu.Unlock()
				break
			}
			up.pending = spare[:0]
			up.idle.Broadcast()
			up.mu.Unlock()
			if _, err := up.conn.Write(b); err != nil {
				up.fail(err)
				return
			}
			if spare = b; cap(spare) > 4*maxPending {
				spare = nil
			}
		}
	}
}

// fail ends the connection and all its clients.
func (up *upstream) fail(err error) {
	up.mu.Lock()
	if up.err != nil {
		up.mu.Unlock()
		return
	}
	up.err = err
	close(up.more)
	clients := make([]*client, 0, len(up.clients))
	for _, c := range up.clients {
		clients = append(clients, c)
	}
	up.idle.Broadcast()
	up.mu.Unlock()
	_ = up.conn.Close()
	up.user.mu.Lock()
	if up.user.up == up {
		up.user.up = nil
	}
	up.user.mu.Unlock()
	if !up.in.stopped.Load() {
		up.in.log.Warn("connection to the broker ended, clients must reconnect", "user", up.user.String(), "clients",
			len(clients), "error", err)
	}
	for _, c := range clients {
		c.end(nil)
		c.expire(math.MaxInt64) // nobody will answer
	}
}

// read processes what the broker sends.
func (up *upstream) read() {
	in := bufio.NewReaderSize(up.conn, 32<<10)
	for {
		line, err := in.ReadSlice('\n')
		if err == nil {
			err = up.take(in, bytes.TrimRight(line, "\r\n"))
		}
		if err != nil {
			up.fail(err)
			return
		}
	}
}

func (up *upstream) take(in *bufio.Reader, line []byte) error {
	op, args, _ := bytes.Cut(line, []byte(" "))
	switch string(op) {
	case "MSG":
		return up.deliver(in, args, false)
	case "HMSG":
		return up.deliver(in, args, true)
	case "PING":
		up.post("PONG\r\n")
	case "PONG":
		up.pong()
	case "-ERR":
		// Our list and the broker's differ; the connection stays open.
		if bytes.HasPrefix(args, []byte("'Permissions Violation")) {
			up.in.refusals.count(up.user.String(), "refused_by_broker", wire.Shorten(string(args)))
			return nil
		}
		return errors.New("broker: " + string(args))
	}
	return nil // INFO
}

// pong calls the function that waits for this answer to a PING.
func (up *upstream) pong() {
	up.mu.Lock()
	if len(up.pongs) == 0 {
		up.mu.Unlock()
		return
	}
	then := up.pongs[0]
	up.pongs = up.pongs[1:]
	up.mu.Unlock()
	then()
}

// deliver reads a message and passes it to its client.
func (up *upstream) deliver(in *bufio.Reader, args []byte, hasHeader bool) error {
	up.line = append(up.line[:0], args...) // in's buffer is overwritten below
	var fields [wire.MaxFields][]byte
	n := wire.Split(up.line, &fields)
	sizes := 1
	if hasHeader {
		sizes = 2
	}
	if n < 2+sizes || n > 3+sizes {
		return fmt.Errorf("broker: message line %q", args)
	}
	sid, ok1 := wire.Size(fields[1])
	total, ok2 := wire.Size(fields[n-1])
	head, ok3 := wire.Size(fields[n-sizes])
	if !hasHeader {
		head = 0
	}
	if !ok1 || !ok2 || !ok3 || head > total {
		return fmt.Errorf("broker: message line %q", args)
	}
	m := wire.Message{Subject: fields[0]}
	if n == 3+sizes {
		m.Reply = fields[2]
	}
	body, err := up.body(in, total+2)
	if err != nil {
		return err
	}
	m.Header, m.Data = body[:head], body[head:total]
	up.give(uint64(sid), m)
	if len(body) <= in.Size() {
		_, err = in.Discard(len(body))
	}
	return err
}

// body returns the next n bytes: in the reader's own buffer if they fit, to be discarded by the caller, otherwise in a
// new one.
func (up *upstream) body(in *bufio.Reader, n int) ([]byte, error) {
	if n <= in.Size() {
		return in.Peek(n)
	}
	b := make([]byte, n)
	_, err := io.ReadFull(in, b)
	return b, err
}

func (up *upstream) give(sid uint64, m wire.Message) {
	if sid != inboxSid || len(up.user.Serve) > 0 {
		up.mu.Lock()
		s, ok := up.served[sid]
		up.mu.Unlock()
		if ok {
			s.client.request(s, m)
		}
		return
	}
	id, seq, ok := wire.ParseAckToken(m.Subject[len(up.inbox):])
	if !ok {
		return
	}
	up.mu.Lock()
	c := up.clients[id]
	up.mu.Unlock()
	if c != nil {
		c.answer(seq, m)
	}
}

package hostile

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// errTurnedAway is that a login failed.
var errTurnedAway = errors.New("login refused")

// logIn connects as the user.
func (c *caller) logIn(ctx context.Context) (*net.TCPConn, *bufio.Reader, func(), error) {
	conn, end, err := c.connect(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	in := bufio.NewReaderSize(conn, 64<<10)
	hello := fmt.Sprintf("CONNECT {\"verbose\":false,\"headers\":true,\"user\":%q,\"pass\":%q}\r\nPING\r\n", c.User,
		c.Password)
	if err = c.write(conn, []byte(hello), 0); err == nil {
		err = c.awaitPong(in)
	}
	if err != nil {
		end()
		return nil, nil, nil, err
	}
	return conn, in, end, nil
}

func (c *caller) awaitPong(in *bufio.Reader) error {
	for {
		line, err := in.ReadString('\n')
		switch {
		case err != nil:
			return err
		case strings.HasPrefix(line, "PONG"):
			return nil
		case strings.HasPrefix(line, "-ERR"):
			c.count.Rejected++
			return errTurnedAway
		}
	}
}

// wrongPassword logs in as somebody, with a password that is not right.
func wrongPassword(ctx context.Context, c *caller) error {
	conn, end, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer end()
	user := c.User
	if c.random.IntN(2) == 0 {
		user = fmt.Sprintf("nobody%d", c.random.IntN(1000))
	}
	hello := fmt.Sprintf("CONNECT {\"user\":%q,\"pass\":\"wrong%d\"}\r\n", user, c.random.Uint64())
	if err := c.write(conn, []byte(hello), 1); err != nil {
		return err
	}
	return c.listen(bufio.NewReader(conn))
}

// flood publishes messages of a size as fast as they go, and reads the answers if it asks for any.
func flood(size int, replies bool) func(context.Context, *caller) error {
	return func(ctx context.Context, c *caller) error {
		conn, in, end, err := c.logIn(ctx)
		if err != nil {
			return err
		}
		var answers sync.WaitGroup
		answered := caller{}
		answers.Go(func() { _ = answered.listen(in) }) // what went wrong shows in writing
		defer func() {
			end()
			answers.Wait()
			c.count.add(answered.count)
		}()
		batch, messages := c.batch(size, replies)
		err = c.write(conn, []byte("SUB _INBOX.flood.> 1\r\n"), 0)
		for err == nil {
			err = c.write(conn, batch, messages)
		}
		return err
	}
}

// batch is some messages at once, of different keys.
func (c *caller) batch(size int, replies bool) ([]byte, int) {
	var b bytes.Buffer
	n := max(1, 32<<10/size)
	reply := ""
	if replies {
		reply = "_INBOX.flood.a "
	}
	for range n {
		fmt.Fprintf(&b, "PUB %s.k%d %s%d\r\n%s\r\n", c.Topic, c.random.IntN(1000), reply, size, strings.Repeat("x", size))
	}
	return b.Bytes(), n
}

// listen counts answers until the connection ends.
func (c *caller) listen(in *bufio.Reader) error {
	for {
		line, err := in.ReadSlice('\n')
		switch {
		case err != nil:
			return err
		case bytes.HasPrefix(line, []byte("-ERR")), bytes.HasPrefix(line, []byte(`{"error"`)):
			c.count.Rejected++
		case bytes.HasPrefix(line, []byte("{")):
			c.count.Answered++
		}
	}
}

// readsNothing asks for answers and reads none.
func readsNothing(ctx context.Context, c *caller) error {
	conn, _, end, err := c.logIn(ctx)
	if err != nil {
		return err
	}
	defer end()
	_ = conn.SetReadBuffer(4 << 10) // what is left is a larger one
	batch, messages := c.batch(200, true)
	err = c.write(conn, []byte("SUB _INBOX.flood.> 1\r\n"), 0)
	for err == nil {
		err = c.write(conn, batch, messages)
	}
	return err
}

// hugeIDs publishes under message ids of 60 KB, and as many under ones as long as they may be.
func hugeIDs(ctx context.Context, c *caller) error {
	conn, in, end, err := c.logIn(ctx)
	if err != nil {
		return err
	}
	var answers sync.WaitGroup
	answered := caller{}
	answers.Go(func() { _ = answered.listen(in) })
	defer func() {
		end()
		answers.Wait()
		c.count.add(answered.count)
	}()
	err = c.write(conn, []byte("SUB _INBOX.flood.> 1\r\n"), 0)
	for err == nil {
		var b bytes.Buffer
		c.writeWithID(&b, 60_000)
		for range 100 {
			c.writeWithID(&b, 200)
		}
		err = c.write(conn, b.Bytes(), 101)
	}
	return err
}

func (c *caller) writeWithID(b *bytes.Buffer, length int) {
	id := fmt.Sprintf("%016x%016x", c.random.Uint64(), c.random.Uint64())
	head := "NATS/1.0\r\nNats-Msg-Id: " + id + strings.Repeat("i", length-len(id)) + "\r\n\r\n"
	fmt.Fprintf(b, "HPUB %s.k%d _INBOX.flood.a %d %d\r\n%sx\r\n", c.Topic, c.random.IntN(1000), len(head), len(head)+1,
		head)
}

// slowWriter declares a large message and sends it byte by byte.
func slowWriter(ctx context.Context, c *caller) error {
	conn, _, end, err := c.logIn(ctx)
	if err != nil {
		return err
	}
	defer end()
	// Half of it at once: what came is held until the rest does.
	start := fmt.Appendf(nil, "PUB %s.k 1000000\r\n", c.Topic)
	if err := c.write(conn, append(start, make([]byte, 500_000)...), 1); err != nil {
		return err
	}
	for ctx.Err() == nil {
		if err := c.write(conn, []byte("x"), 0); err != nil {
			return err
		}
		rest(ctx, slowGap)
	}
	return nil
}

// manySubscriptions is three times what a connection may have.
const manySubscriptions = 3000

// subscriber has as many subscriptions as it gets, and keeps them.
func subscriber(ctx context.Context, c *caller) error {
	conn, in, end, err := c.logIn(ctx)
	if err != nil {
		return err
	}
	defer end()
	var b bytes.Buffer
	for i := range manySubscriptions {
		fmt.Fprintf(&b, "SUB _INBOX.%d.%016x.%d %d\r\n", c.number, c.random.Uint64(), i, i)
	}
	if err := c.write(conn, b.Bytes(), manySubscriptions); err != nil {
		return err
	}
	return c.listen(in)
}

// idler does nothing, logged in or not.
func idler(ctx context.Context, c *caller) error {
	if c.number%2 == 0 {
		conn, end, err := c.connect(ctx)
		if err != nil {
			return err
		}
		defer end()
		return hold(conn)
	}
	conn, _, end, err := c.logIn(ctx)
	if err != nil {
		return err
	}
	defer end()
	return hold(conn)
}

// hold keeps a connection until its other side closes it.
func hold(conn net.Conn) error {
	if _, err := io.Copy(io.Discard, conn); err != nil {
		return err
	}
	return io.EOF
}

// idleHTTP asks once, and keeps the connection.
func idleHTTP(ctx context.Context, c *caller) error {
	conn, end, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer end()
	if err := c.write(conn, []byte("GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"), 1); err != nil {
		return err
	}
	return hold(conn)
}

// slowHTTP sends the head or the body of a request byte by byte.
func slowHTTP(ctx context.Context, c *caller) error {
	conn, end, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer end()
	start := fmt.Sprintf("POST /v1/topics/%s/messages?key=k HTTP/1.1\r\nHost: localhost\r\nContent-Type: "+
		"application/json\r\n", c.Topic)
	if c.number%2 == 0 {
		start += "Content-Length: 1000000\r\n\r\n{"
	}
	if err := c.write(conn, []byte(start), 1); err != nil {
		return err
	}
	for next := time.Now(); ctx.Err() == nil; next = next.Add(slowGap) {
		if err := c.write(conn, []byte("a"), 0); err != nil {
			return err
		}
		rest(ctx, time.Until(next))
	}
	return nil
}

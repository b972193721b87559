package ingress

import (
	"errors"
	"io"
	"sync"
	"time"
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
		err := errors.Join(c.consume(), c.forward())
		*batch, c.batch = c.batch, nil
		batches.Put(batch)
		if cap(c.header) > firstBuffer {
			c.header = nil
		}
		if err == nil {
			err = c.receive()
		}
		if err != nil {
			return err
		}
	}
}

// forward sends the broker what has been allowed.
func (c *client) forward() error {
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

// receive reads more of what the client says.
func (c *client) receive() error {
	if err := c.growBuffer(); err != nil {
		return err
	}
	if c.r < c.w || c.skip > 0 {
		c.partial.CompareAndSwap(0, c.in.now.Load())
	} else {
		c.partial.Store(0)
	}
	if err := errors.Join(c.awaitReader(), c.awaitTurn()); err != nil {
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

// awaitTurn waits while the user has asked for more than it may that is not a message to the broker: subscriptions,
// pings, and what was refused cost the node as much, and nothing else bounds them.
func (c *client) awaitTurn() error {
	if c.others == 0 {
		return nil
	}
	turn := c.user.others.ReserveN(time.Now(), min(c.others, c.user.others.Burst()))
	c.others = 0
	delay := turn.Delay()
	if delay == 0 {
		return nil
	}
	c.waiting.Store(true)
	defer c.resume()
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-c.over:
	case <-c.in.ctx.Done():
	}
	turn.Cancel()
	return errEnded
}

// maxOut is how many bytes may wait for a client that is read. A service that reads no requests ends before that: see
// request.
func (c *client) maxOut() int {
	if len(c.user.serves()) > 0 {
		return maxOut + 3*c.in.opt.Limits.MaxPayload
	}
	return maxOut
}

// growBuffer sees to it that the buffer can take the message that is being received, or at least a line.
func (c *client) growBuffer() error {
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
	if !c.in.buffers.Try(&c.user.pace, n) {
		if err := c.forward(); err != nil {
			return err
		}
		c.waiting.Store(true)
		defer c.resume()
		if !c.in.buffers.Wait(&c.user.pace, n, c.hasEnded) {
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

// giveBuffer replaces the buffer, and gives back to the budget what the old one took.
func (c *client) giveBuffer(other []byte) {
	c.buf = other
	if c.held > 0 {
		c.in.buffers.Give(&c.user.pace, 1, c.held)
		c.held = 0
	}
}

// resume ends a wait for us: the time does not count for the client.
func (c *client) resume() {
	c.heard.Store(c.in.now.Load())
	c.partial.Store(0)
	c.waiting.Store(false)
}

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
	maxBatch    = 32 << 10 // after which a batch is sent to the broker
)

// batches are lent to clients while they consume: a silent client holds none.
var batches = sync.Pool{New: func() any { return new([]byte) }}

// brokerBatch is what has been allowed and not been sent to the broker yet. Only the reading goroutine uses it.
type brokerBatch struct {
	data  []byte
	pongs []func() // what is done at the broker's answer to each PING in it
}

// full reports whether it is time to forward.
func (b *brokerBatch) full() bool { return len(b.data) >= maxBatch }

// askBroker has something done once the broker has processed all that the client said so far.
func (b *brokerBatch) askBroker(then func()) {
	b.data = append(b.data, "PING\r\n"...)
	b.pongs = append(b.pongs, then)
}

// forward sends the broker what has been allowed.
func (b *brokerBatch) forward(up *upstream) error {
	if len(b.data) == 0 {
		return nil
	}
	err := up.write(b.data, b.pongs...)
	b.data, b.pongs = b.data[:0], nil
	if cap(b.data) > 4*maxBatch {
		b.data = nil
	}
	return err
}

// receiveBuffer is what has been received and not consumed: data[r:w]. Only the reading goroutine uses it.
type receiveBuffer struct {
	data []byte
	r, w int
	need int // bytes from r on that the next message has; 0: not known yet
	held int // bytes of data that are taken from the buffers' budget
	skip int // bytes of a refused message that are to be dropped
}

func (b *receiveBuffer) unread() []byte { return b.data[b.r:b.w] }

// lineOf is what is before rest in the buffer: the line of the operation.
func (b *receiveBuffer) lineOf(rest []byte) []byte { return b.data[b.r : b.w-len(rest)] }

// consumed moves on to the next operation, n bytes further.
func (b *receiveBuffer) consumed(n int) {
	b.r += n
	b.need = 0
}

// drop drops what has arrived of a refused message and reports whether all of it has.
func (b *receiveBuffer) drop() bool {
	n := min(b.skip, b.w-b.r)
	b.r += n
	b.skip -= n
	return b.skip == 0
}

// compact moves what is unread to the beginning if there is too little room behind it.
func (b *receiveBuffer) compact() {
	if b.r > 0 && (b.w == len(b.data) || b.need > len(b.data)-b.r) {
		b.w = copy(b.data, b.unread())
		b.r = 0
	}
}

// replace replaces the memory, and returns how many bytes of the budget the old one had.
func (b *receiveBuffer) replace(other []byte) (held int) {
	held = b.held
	b.data, b.held = other, 0
	return held
}

// read consumes what the client sends, until the connection ends.
func (c *client) read() error {
	for {
		batch := batches.Get().(*[]byte)
		c.batch.data = (*batch)[:0]
		err := c.consume() // which may log in: before that there is no up
		err = errors.Join(err, c.batch.forward(c.up))
		*batch, c.batch.data = c.batch.data, nil
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

// receive reads more from the client.
func (c *client) receive() error {
	if err := c.growBuffer(); err != nil {
		return err
	}
	if c.buf.r < c.buf.w || c.buf.skip > 0 {
		c.pulse.partial.CompareAndSwap(0, c.in.now.Load())
	} else {
		c.pulse.partial.Store(0)
	}
	if err := errors.Join(c.awaitReader(), c.awaitTurn()); err != nil {
		return err
	}
	if c.in.stopped.Load() {
		return errEnded
	}
	n, err := c.link.conn.Read(c.buf.data[c.buf.w:])
	c.buf.w += n
	if n > 0 {
		c.pulse.heard.Store(c.in.now.Load())
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// awaitReader waits while too much waits for the client to read it: what a client says makes us hold more than its own
// bytes.
func (c *client) awaitReader() error {
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	for len(c.link.out) >= c.user.maxOut(c.in.opt.Limits.MaxPayload) && !c.link.ended {
		c.link.room.Wait()
	}
	if c.link.ended {
		return errEnded
	}
	return nil
}

// awaitTurn waits while the user exceeds its rate of operations that are not messages to the broker: subscriptions,
// pings and refused messages cost the node as much, and nothing else bounds them.
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
	c.pulse.waiting.Store(true)
	defer c.pulse.resume()
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-c.link.over:
	case <-c.in.ctx.Done():
	}
	turn.Cancel()
	return errEnded
}

// growBuffer makes room in the buffer for the message that is being received, or for more of its line.
func (c *client) growBuffer() error {
	b := &c.buf
	if b.r == b.w {
		b.r, b.w = 0, 0
		if b.held > 0 {
			c.giveBuffer(make([]byte, freeBuffer))
		}
	}
	b.compact()
	switch {
	case b.need > len(b.data) && b.need > freeBuffer:
		return c.takeBuffer(b.need)
	case b.w == len(b.data) && len(b.data) < freeBuffer:
		b.data = append(b.data, make([]byte, len(b.data))...)
	}
	return nil
}

// takeBuffer gets a buffer of n bytes for a large message, as soon as the budget has room for it.
func (c *client) takeBuffer(n int) error {
	if !c.in.buffers.Try(&c.user.pace, n) {
		if err := c.batch.forward(c.up); err != nil {
			return err
		}
		c.pulse.waiting.Store(true)
		defer c.pulse.resume()
		if !c.in.buffers.Wait(&c.user.pace, n, c.link.hasEnded) {
			return errEnded
		}
	}
	bigger := make([]byte, n)
	c.buf.w = copy(bigger, c.buf.unread())
	c.buf.r = 0
	c.giveBuffer(bigger)
	c.buf.held = n
	return nil
}

// giveBuffer replaces the buffer, and gives back to the budget what the old one took.
func (c *client) giveBuffer(other []byte) {
	if held := c.buf.replace(other); held > 0 {
		c.in.buffers.Give(&c.user.pace, 1, held)
	}
}

package ingress

import (
	"errors"
	"os"
	"time"
)

// Bounds of what waits for a client.
const (
	writeLimit = 10 * time.Second // for one write to it
	maxPiece   = 64 << 10         // of one write, so that this is 6.4 KiB a second
	maxOut     = 1 << 20          // bytes for a publisher: it is read no more until it has read them
	mostOut    = 4 * maxOut       // likewise: it is ended, for it has many subscriptions to the same answers
	farewell   = 4 << 10          // bytes that a connection which is not stuck takes at once
)

// endSlow ends a connection that does not read what is sent to it.
func (c *client) endSlow() {
	c.in.refusals.count(c.user.String(), "slow_consumer", "")
	c.end(errSlow)
}

// sendLine sends a line to the client.
func (c *client) sendLine(line string) {
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

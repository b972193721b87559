package ingress

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// Bounds of what waits for a client.
const (
	writeLimit = 10 * time.Second // for one write to it
	maxPiece   = 64 << 10         // of one write, so that this is 6.4 KiB a second
	maxOut     = 1 << 20          // bytes for a publisher: no more is read from it until it has read some of them
	mostOut    = 4 * maxOut       // likewise, but it is ended: it has many subscriptions to the same replies
	farewell   = 4 << 10          // bytes that a connection which is not stuck accepts at once
)

// link is a client's connection: what waits to be sent on it, and whether it has ended. A goroutine writes while there
// is something to send. mu guards all from ended on, and what the client's goroutines share besides: see client.
type link struct {
	raw     net.Conn        // as it was accepted; to close it, and for deadlines
	running *sync.WaitGroup // of the goroutines that write
	failed  func(err error) // called once a write has failed, without mu
	over    chan struct{}   // closed when the connection has ended

	mu      sync.Mutex
	conn    net.Conn // to read and write: raw, or TLS over it; only the reading goroutine replaces it
	ended   bool
	room    sync.Cond // the window, or out, has room again; or the connection has ended
	out     []byte
	spare   []byte // for the next out
	writing bool   // a goroutine sends what is in out
}

func (l *link) hasEnded() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ended
}

func (l *link) awaitEnd() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for !l.ended {
		l.room.Wait()
	}
}

// interrupt makes the reading goroutine return from a read, or from its next one.
func (l *link) interrupt() { _ = l.raw.SetReadDeadline(time.Now()) }

// secure replaces the connection by TLS over it.
func (l *link) secure(conn net.Conn) {
	l.mu.Lock()
	l.conn = conn
	l.mu.Unlock()
}

// endLocked marks the connection as ended, with mu held, and returns what hangUp needs: the connection, and what can
// still be sent on it, nil if nothing.
func (l *link) endLocked(why *protocolError) (conn net.Conn, last []byte) {
	if why != nil {
		l.out = append(l.out, "-ERR '"+why.text+"'\r\n"...)
		if !l.writing && len(l.out) <= farewell {
			last = l.out
		}
	}
	l.ended, l.out = true, nil
	close(l.over)
	l.room.Broadcast()
	return l.conn, last
}

// hangUp closes a connection that was marked as ended.
func (l *link) hangUp(conn net.Conn, last []byte) {
	if last != nil {
		_ = l.raw.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = conn.Write(last)
	}
	_ = l.raw.Close()
}

// sendLine sends a line to the client.
func (l *link) sendLine(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended {
		l.out = append(l.out, line...)
		l.sendLocked()
	}
}

// sendLocked has out sent, with mu held.
func (l *link) sendLocked() {
	if !l.writing {
		l.writing = true
		l.running.Go(l.write)
	}
}

// write sends what is for the client, until there is nothing more.
func (l *link) write() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.out) > 0 && !l.ended {
		chunk := l.out
		l.out, l.spare = l.spare[:0], nil
		l.mu.Unlock()
		if err := l.transmit(chunk); err != nil {
			l.failed(err)
		}
		l.mu.Lock()
		l.room.Broadcast()
		if cap(chunk) <= maxBatch {
			l.spare = chunk
		}
	}
	l.writing = false
	l.room.Broadcast()
}

// transmit writes in pieces, each with its own deadline: a slow link needs long for all of it.
func (l *link) transmit(b []byte) error {
	for len(b) > 0 {
		n := min(len(b), maxPiece)
		_ = l.raw.SetWriteDeadline(time.Now().Add(writeLimit))
		if _, err := l.conn.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// flush waits until all that is for the client has been sent, at most for limit.
func (l *link) flush(limit time.Duration) {
	late := false
	timer := time.AfterFunc(limit, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		late = true
		l.room.Broadcast()
	})
	defer timer.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	for !l.ended && !late && (len(l.out) > 0 || l.writing) {
		l.room.Wait()
	}
}

// writeFailed ends a connection that cannot be written to.
func (c *client) writeFailed(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.endSlow()
		return
	}
	c.end(nil)
}

// endSlow ends a connection whose client does not read what is sent to it.
func (c *client) endSlow() {
	c.in.refusals.count(c.user.String(), "slow_consumer", "")
	c.end(errSlow)
}

package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync/atomic"
)

// answerConn is a connection on which an answer counts even if the request could not be sent to its end. A service
// that refuses a body for its size answers and closes without reading on: the transport then gives up at the failed
// write, and the answer, which has arrived, is lost. So once a part of a request is out, a write that fails because
// the connection has ended counts as done; reading tells how the call ended.
type answerConn struct {
	net.Conn
	sent atomic.Bool // Something of the request at hand was written.
}

// dialAnswer connects as the transport asks for it.
func dialAnswer(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: connectTime}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &answerConn{Conn: conn}, nil
}

// beginRequest has the first write of the next request fail if it must: nothing of it is out then.
func beginRequest(conn net.Conn) {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	if c, ok := conn.(*answerConn); ok {
		c.sent.Store(false)
	}
}

// Write writes to the connection. Once part of a request is out, the end of the connection is not an error.
func (c *answerConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if n > 0 {
		c.sent.Store(true)
	}
	// By the other side, or by the transport that saw it.
	ended := err != nil && (brokeOff(err) || errors.Is(err, net.ErrClosed))
	if ended && c.sent.Load() {
		return len(p), nil
	}
	return n, err
}

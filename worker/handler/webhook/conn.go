package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync/atomic"
)

// answerConn is a connection on which a response counts even if the request could not be sent completely. A service
// that refuses a body for its size responds and closes without reading the rest: the transport then gives up at the
// failed write, and the response, which has arrived, is lost. So once part of a request has been written, a write that
// fails because the connection was closed counts as done; reading tells how the call ended.
type answerConn struct {
	net.Conn
	sent atomic.Bool // Something of the request at hand was written.
}

// dialAnswer is the transport's dial function.
func dialAnswer(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: connectTime}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &answerConn{Conn: conn}, nil
}

// beginRequest lets the first write of the next request fail as usual: nothing of it has been written then.
func beginRequest(conn net.Conn) {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	if c, ok := conn.(*answerConn); ok {
		c.sent.Store(false)
	}
}

// Write writes to the connection. Once part of a request has been written, a closed connection is not an error.
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

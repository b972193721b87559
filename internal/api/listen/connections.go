package listen

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"
)

const (
	// maxConnections is how many connections the port may have, and the socket. An idle one takes some 20 KB.
	maxConnections = 512
	// surplus is how many more are let in only to be told so.
	surplus = 32
	// descriptorShare of all descriptors of the process may be connections of one listener; the rest is for the store, the
	// cluster and handlers.
	descriptorShare = 8
)

// Limit is maxConnections, or less where the process may have few descriptors.
func Limit() int {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return maxConnections
	}
	return int(min(maxConnections, max(files.Cur/descriptorShare, 1)))
}

// Bounded is a listener that has a bounded number of connections. A new one beyond that takes the place of one that
// waits for a request, first of those that never made one, the oldest first. If every connection is in a request, the
// new one is surplus.
type Bounded struct {
	net.Listener
	most     int
	ReadOnly bool

	mu   sync.Mutex
	open map[*boundedConn]struct{} // at most most+surplus
}

// NewBounded bounds the connections of l, to most.
func NewBounded(l net.Listener, most int) *Bounded {
	return &Bounded{Listener: l, most: most, open: map[*boundedConn]struct{}{}}
}

// boundedConn is a connection of a Bounded.
type boundedConn struct {
	net.Conn
	from    *Bounded
	surplus bool

	state http.ConnState // guarded by from.mu
	since time.Time      // of state
}

// Accept returns the next connection that there is room for.
func (l *Bounded) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &boundedConn{Conn: raw, from: l, since: time.Now()}
		evicted, ok := l.admit(c)
		if evicted != nil {
			_ = evicted.Close()
		}
		if ok {
			return c, nil
		}
		raw.Close()
	}
}

// admit makes room for a connection, and reports whether there is any.
func (l *Bounded) admit(c *boundedConn) (evicted *boundedConn, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.open) >= l.most {
		if evicted = l.waitingLocked(); evicted != nil {
			delete(l.open, evicted)
		}
		c.surplus = evicted == nil
	}
	if len(l.open) >= l.most+surplus {
		return evicted, false
	}
	l.open[c] = struct{}{}
	return evicted, true
}

// waitingLocked is the connection that can best be done without, nil if all are in a request.
func (l *Bounded) waitingLocked() (best *boundedConn) {
	for c := range l.open {
		if c.state == http.StateActive || c.surplus {
			continue
		}
		if best == nil || c.state < best.state || c.state == best.state && c.since.Before(best.since) {
			best = c // StateNew is less than StateIdle.
		}
	}
	return best
}

// Close ends the connection and gives its place back.
func (c *boundedConn) Close() error {
	c.from.mu.Lock()
	delete(c.from.open, c)
	c.from.mu.Unlock()
	return c.Conn.Close()
}

// State notes what a connection does; for http.Server.
func State(conn net.Conn, state http.ConnState) {
	if c := bounded(conn); c != nil {
		c.from.mu.Lock()
		defer c.from.mu.Unlock()
		c.state, c.since = state, time.Now()
	}
}

func bounded(conn net.Conn) *boundedConn {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	c, _ := conn.(*boundedConn)
	return c
}

// Origin is where a request comes from.
type Origin struct {
	Caller  Caller
	Client  string // who shares a client's share of what there is
	Surplus bool

	ReadOnly bool // It came in by the socket that only shows state.
}

type originKey struct{}

// WithOrigin notes where a connection's requests come from; for http.Server.
func WithOrigin(ctx context.Context, conn net.Conn) context.Context {
	c := bounded(conn)
	if c == nil {
		return ctx
	}
	return context.WithValue(ctx, originKey{}, Origin{Caller: newCaller(c.Conn), Client: clientOf(c.Conn),
		Surplus: c.surplus, ReadOnly: c.from.ReadOnly})
}

// OriginOf returns where the request of a context comes from; ok is false outside of one.
func OriginOf(ctx context.Context) (from Origin, ok bool) {
	from, ok = ctx.Value(originKey{}).(Origin)
	return from, ok
}

// CallerOf names who makes the request of a context; empty outside of one.
func CallerOf(ctx context.Context) string {
	from, ok := OriginOf(ctx)
	if !ok {
		return ""
	}
	return from.Caller.String()
}

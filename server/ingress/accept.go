package ingress

import (
	"errors"
	"net"
	"sync"
	"time"

	"crypto/tls"
)

// accept takes connections until the listener is closed.
func (in *Ingress) accept() {
	for {
		conn, err := in.listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // out of descriptors, or memory: it passes
			in.refusals.countAddress(others, "accept_failed", err.Error())
			in.pauseAccept()
		default:
			in.welcome(conn)
		}
	}
}

// acceptPause is how long no connection is taken after one could not be.
const acceptPause = 100 * time.Millisecond

func (in *Ingress) pauseAccept() {
	timer := time.NewTimer(acceptPause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-in.ctx.Done():
	}
}

// welcome serves a connection, if there is room for one more: if need be, one that has not logged in is evicted.
func (in *Ingress) welcome(conn net.Conn) {
	c := in.newClient(conn)
	host := address(conn)
	if in.crowded() {
		if evicted := in.pending.evict(); evicted != nil {
			in.refusals.countAddress(address(evicted.link.raw), "too_many_logins", "")
			evicted.end(nil)
		}
	}
	if evicted, ok := in.pending.enter(c, host); !ok {
		in.refusals.countAddress(host, "too_many_logins", "")
		reset(conn)
		return
	} else if evicted != nil {
		in.refusals.countAddress(address(evicted.link.raw), "too_many_logins", "")
		evicted.end(nil)
	}
	if in.crowded() {
		in.refusals.countAddress(host, "too_many_connections", "")
		_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = conn.Write([]byte("-ERR '" + errMaxClients.text + "'\r\n"))
		in.pending.left(c)
		_ = conn.Close()
		return
	}
	if !in.serve(c) {
		in.pending.left(c)
	}
}

// crowded reports whether there are as many connections as there may be.
func (in *Ingress) crowded() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.live >= in.opt.Limits.Connections
}

// reset closes a connection with a TCP reset, which leaves nothing of it in the kernel.
func reset(conn net.Conn) {
	if t, ok := conn.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = conn.Close()
}

// address returns what failures of a client are counted by: its IP address, or its /64 network for IPv6.
func address(conn net.Conn) string {
	host, _, err := net.SplitHostPort(conn.RemoteAddr().String())
	if err != nil {
		return conn.RemoteAddr().String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.To4() == nil {
		return ip.Mask(net.CIDRMask(64, 128)).String()
	}
	return host
}

// tlsLimit bounds a handshake.
const tlsLimit = 5 * time.Second

// greet sends INFO, and starts TLS if it is configured.
func (c *client) greet() error {
	conn := c.link.conn
	_ = conn.SetDeadline(time.Now().Add(tlsLimit))
	if _, err := conn.Write([]byte(c.in.info(c.id, c.nonce, c.user != nil))); err != nil {
		return err
	}
	if c.in.opt.TLS != nil && c.user == nil {
		secure := tls.Server(conn, c.in.opt.TLS)
		if err := secure.Handshake(); err != nil {
			c.in.refusals.countAddress(address(c.link.raw), "tls_handshake", err.Error())
			return err
		}
		c.link.secure(secure)
		conn = secure
	}
	return conn.SetDeadline(time.Time{})
}

// doorstep holds the connections that have not logged in yet.
type doorstep struct {
	mu        sync.Mutex
	waiting   map[*client]string // with their address
	byAddress map[string]int
}

// Bounds of the doorstep. If all devices of a site reconnect at once after a power cut, they log in in turns.
const (
	maxWaiting   = 4096
	maxOfAddress = 2048
)

func newDoorstep() *doorstep {
	return &doorstep{waiting: map[*client]string{}, byAddress: map[string]int{}}
}

// enter admits a connection, if need be in place of another: the oldest of the address that has the most.
func (d *doorstep) enter(c *client, host string) (evicted *client, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.byAddress[host] >= maxOfAddress {
		return nil, false
	}
	if len(d.waiting) >= maxWaiting {
		evicted = d.oldest()
		d.remove(evicted)
	}
	d.waiting[c] = host
	d.byAddress[host]++
	return evicted, true
}

// evict removes one connection and returns it, nil if there is none.
func (d *doorstep) evict() *client {
	d.mu.Lock()
	defer d.mu.Unlock()
	evicted := d.oldest()
	d.remove(evicted)
	return evicted
}

func (d *doorstep) oldest() (found *client) {
	most := ""
	for host, n := range d.byAddress {
		if n > d.byAddress[most] {
			most = host
		}
	}
	for c, host := range d.waiting {
		if host == most && (found == nil || c.id < found.id) {
			found = c
		}
	}
	return found
}

// left must be called when a connection has logged in, or has ended.
func (d *doorstep) left(c *client) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.remove(c)
}

func (d *doorstep) remove(c *client) {
	host, ok := d.waiting[c]
	if !ok {
		return
	}
	delete(d.waiting, c)
	if d.byAddress[host]--; d.byAddress[host] == 0 {
		delete(d.byAddress, host)
	}
}

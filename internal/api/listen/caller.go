package listen

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

// Caller is who is at the other end of a connection.
type Caller struct {
	cred   *unix.Ucred // As the kernel says; nil on the port.
	remote string      // Address; empty on the socket.
}

func newCaller(conn net.Conn) Caller {
	if u, ok := conn.(*net.UnixConn); ok {
		return Caller{cred: peerCred(u)}
	}
	return Caller{remote: conn.RemoteAddr().String()}
}

// String names the caller for a log or a record: the user and process at the socket, the address at the port. All who
// have the token are one.
func (c Caller) String() string {
	switch {
	case c.remote != "":
		return "token from " + c.remote
	case c.cred == nil:
		return "unknown"
	}
	return fmt.Sprintf("uid %d, pid %d", c.cred.Uid, c.cred.Pid)
}

// clientOf tells clients apart: by address on the port, an IPv6 network counting as one, and by user on the socket.
func clientOf(conn net.Conn) string {
	if u, ok := conn.(*net.UnixConn); ok {
		return "uid " + strconv.Itoa(peerUser(u))
	}
	from, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return conn.RemoteAddr().String()
	}
	ip := from.Addr().Unmap()
	if ip.Is6() {
		network, _ := ip.Prefix(64) // Fails only for more than 128 bits.
		return network.String()
	}
	return ip.String()
}

// peerUser is the user at the other end of the socket, -1 if the kernel does not say.
func peerUser(conn *net.UnixConn) int {
	if cred := peerCred(conn); cred != nil {
		return int(cred.Uid)
	}
	return -1
}

// peerCred is the process at the other end of the socket when it connected, nil if the kernel does not say.
func peerCred(conn *net.UnixConn) (cred *unix.Ucred) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil
	}
	_ = raw.Control(func(fd uintptr) { // A closed connection has no user either.
		if c, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			cred = c
		}
	})
	return cred
}

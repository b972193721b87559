package deathwatch

import (
	"context"
	"errors"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"leasehold/internal/every"
)

// refusesTwice reports whether a dead process's port refuses two connections, at least a gap apart, the second a gap
// before the evidence is ripe. A kernel that ends a process closes one socket after the other: the port may still take
// connections when the last route has ended.
func refusesTwice(ctx context.Context, address string, ended, ripe time.Time) bool {
	for !refused(ctx, address) {
		if time.Since(ended) > dyingLimit || !every.Sleep(ctx, refusalGap) {
			return false
		}
	}
	return every.Sleep(ctx, max(refusalGap, time.Until(ripe)-refusalGap)) && refused(ctx, address) &&
		every.Sleep(ctx, refusalGap)
}

// refused reports whether the kernel at host:port says that nobody listens there. A connection that is not answered
// says nothing. A name may stand for several addresses: each of them has to refuse.
func refused(ctx context.Context, address string) bool {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil || len(ips) == 0 {
		return false
	}
	for _, ip := range ips {
		nc, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(ip.String(), port))
		if err == nil {
			_ = nc.Close()
		}
		// At an unspecified address a node would ask itself.
		if !errors.Is(err, unix.ECONNREFUSED) || ip.IsUnspecified() {
			return false
		}
	}
	return true
}

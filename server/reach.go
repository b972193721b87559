package server

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"time"
)

// reachLimit bounds how long the names of nodes are looked up. A site without DNS has them in /etc/hosts.
const reachLimit = time.Second

// Resolver finds the addresses of a host name, as net.DefaultResolver does.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// CheckRoutes looks for nodes that this machine finds on its own loopback interface while others are elsewhere, as when
// /etc/hosts gives a machine's own name the address 127.0.1.1. It returns a warning, "" if there is no reason for one.
// Names that cannot be resolved are left to the broker, which keeps trying.
func CheckRoutes(ctx context.Context, r Resolver, self string, peers []Peer) string {
	ctx, cancel := context.WithTimeout(ctx, reachLimit)
	defer cancel()
	found := make([]netip.Addr, len(peers))
	var all sync.WaitGroup
	for i, p := range peers {
		all.Go(func() { found[i] = firstAddress(ctx, r, p.Address) })
	}
	all.Wait()
	var here []string
	elsewhere, own := "", ""
	for i, p := range peers {
		switch at := found[i]; {
		case at.IsLoopback() && p.Name == self:
			own = fmt.Sprintf("%s=%s is %s on this machine", p.Name, p.Address, at)
		case at.IsLoopback():
			here = append(here, fmt.Sprintf("%s=%s", p.Name, p.Address))
		case at.IsValid() && elsewhere == "":
			elsewhere = fmt.Sprintf("%s is at %s", p.Name, at)
		}
	}
	switch {
	case elsewhere == "" || own == "" && len(here) == 0:
		return ""
	case own != "":
		return fmt.Sprintf("cluster.nodes: %s, where no other machine can connect (%s): give the address of this machine's "+
			"network interface "+
			"in nodes, or correct its name in /etc/hosts", own, elsewhere)
	}
	return fmt.Sprintf("cluster.nodes: this machine takes %s for itself (loopback), while %s: give their addresses in "+
		"nodes, or correct "+
		"their names in /etc/hosts", strings.Join(here, ", "), elsewhere)
}

// firstAddress is where a listener of that host would listen: on its first IPv4 address, else on its first one. The
// zero value says that it is not known.
func firstAddress(ctx context.Context, r Resolver, address string) netip.Addr {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return netip.Addr{}
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap()
	}
	all, err := r.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.Addr{}
	}
	var first netip.Addr
	for _, a := range all {
		if a = a.Unmap(); a.Is4() {
			return a
		}
		first = cmp.Or(first, a)
	}
	return first
}

// CheckConnectable says why nobody can connect to a HOST:PORT because of its host; nil if somebody may.
func CheckConnectable(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	switch a, err := netip.ParseAddr(host); {
	case err != nil:
		return checkHost(host)
	case a.Unmap().IsUnspecified():
		return fmt.Errorf("%s stands for all addresses of a machine, and others cannot connect to it: give the one at "+
			"which they reach the node", host)
	case a.IsMulticast() || a.Unmap() == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Errorf("%s is the address of several machines, not of one", host)
	}
	return nil
}

// zeros is 0.0.0.0 as some resolvers take it.
var zeros = regexp.MustCompile(`^(0x)?0+(\.(0x)?0+){0,3}$`)

// checkHost refuses what is meant as an address that stands for all of a machine's, spelt as some resolvers take it.
func checkHost(host string) error {
	if host == "*" || zeros.MatchString(host) {
		return fmt.Errorf("%s is not the address of a machine: give the one at which others reach the node", host)
	}
	return nil
}

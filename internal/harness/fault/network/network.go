// Package network makes hosts out of network namespaces and breaks what is between them: cuts in one way or
// both, loss, slow links, pulled cables and refused connections on a bridge (Network), latency, jitter,
// reordering and loss in a switch of our own (Switched), for kernels without netem.
//
// It works only where namespace.Own is true, and leaves nothing behind there either.
package network

import (
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"

	"leasehold/internal/harness/fault/namespace"
)

// Own is the address of the test's own namespace, where publishers and the test itself are; host i has
// 10.77.0.<i>. A Network and a Switched share these, so there is one of them at a time.
const Own = "10.77.0.254"

// ErrUnavailable is wrapped by the error of New and NewSwitched when this machine lacks what they need.
var ErrUnavailable = errors.New("no networks can be made here")

// Network is a bridge with hosts on it. Its faults add up until Heal; they change frames that carry IPv4
// and leave ARP alone, so that a host looks silent rather than absent. Its methods fail the test where they
// cannot do what they say. They are for the test's goroutine.
type Network struct {
	hosts

	t       testing.TB
	touched int            // by faults, since the last Effect; what collect has not fetched yet is missing
	waited  map[string]int // by device with a limit: the kernel's count when collect last looked
}

// filter is the bridge's table: one counter for everything that is dropped, one chain for each way a frame
// can go.
const filter = `table bridge chaos {
	counter matched { }
	chain forward { type filter hook forward priority 0; }
	chain input { type filter hook input priority 0; }
	chain output { type filter hook output priority 0; }
}`

// hostFilter is each host's own table.
const hostFilter = `table inet chaos {
	counter matched { }
	chain input { type filter hook input priority 0; }
	chain output { type filter hook output priority 0; }
}`

// New makes a bridge br0 in this namespace, with the address Own, and so many hosts with a link to it. All of
// it goes at the end of the test.
func New(t testing.TB, count int) (*Network, error) {
	t.Helper()
	if err := available("ip", "nft", "tc", "ss"); err != nil {
		return nil, err
	}
	n := &Network{t: t, waited: map[string]int{}}
	t.Cleanup(n.remove)
	var err error
	if n.hosts, err = newHosts(t, count); err != nil {
		return nil, err
	}
	if err := n.plugIn(); err != nil {
		return nil, fmt.Errorf("make a bridge with %d hosts: %w", count, lacking(err))
	}
	if err := n.filter(); err != nil {
		return nil, fmt.Errorf("make filters: %w", lacking(err))
	}
	return n, nil
}

// filter makes the tables that faults put their rules in.
func (n *Network) filter() error {
	if err := command("nft", filter, "-f", "-"); err != nil {
		return err
	}
	for _, h := range n.hosts {
		if err := h.Enter(func() error { return command("nft", hostFilter, "-f", "-") }); err != nil {
			return fmt.Errorf("host %d: %w", h.number, err)
		}
	}
	return nil
}

// plugIn makes the bridge and a pair of devices for each host: eth0 there, h<i> here.
func (n *Network) plugIn() error {
	orders := []string{
		"link add br0 type bridge mcast_snooping 0",
		"addr add " + Own + "/24 dev br0",
		"link set br0 up",
	}
	for _, h := range n.hosts {
		orders = append(orders,
			fmt.Sprintf("link add %s type veth peer name eth0 netns %s", h.link(), h.Namespace()),
			fmt.Sprintf("link set %s master br0 up", h.link()))
	}
	if err := quiet(func() error { return ip(orders...) }); err != nil {
		return err
	}
	for _, h := range n.hosts {
		if err := h.Enter(func() error { return ip("addr add "+h.Address+"/24 dev eth0", "link set eth0 up") }); err != nil {
			return fmt.Errorf("host %d: %w", h.number, err)
		}
		if err := h.settle(); err != nil {
			return err
		}
	}
	return nil
}

// remove takes back what New made, even half.
func (n *Network) remove() {
	for _, h := range n.hosts {
		dropLink(n.t, h.link())
	}
	dropLink(n.t, "br0")
	if err := command("nft", "add table bridge chaos; delete table bridge chaos", "-f", "-"); err != nil {
		n.t.Error("remove the bridge's filter:", err)
	}
	n.hosts.close()
}

// dropLink deletes a device of this namespace if it is there.
func dropLink(t testing.TB, name string) {
	if _, err := net.InterfaceByName(name); err != nil {
		return
	}
	if err := ip("link del " + name); err != nil {
		t.Errorf("remove %s: %v", name, err)
	}
}

// available says what is missing for networks.
func available(tools ...string) error {
	if !namespace.Own() {
		return fmt.Errorf("%w: %s", ErrUnavailable, namespace.Why())
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
	return nil
}

// lacking turns an error that says what the kernel cannot or may not do into ErrUnavailable.
func lacking(err error) error {
	text := strings.ToLower(err.Error())
	for _, words := range []string{"operation not supported", "operation not permitted", "unknown device type"} {
		if strings.Contains(text, words) {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
	return err
}

// ip gives the ip command many orders at once.
func ip(orders ...string) error { return command("ip", strings.Join(orders, "\n")+"\n", "-batch", "-") }

// command runs a tool in the calling thread's network namespace.
func command(tool, input string, args ...string) error {
	_, err := output(tool, input, args...)
	return err
}

// output runs a tool and returns what it printed.
func output(tool, input string, args ...string) (string, error) {
	cmd := exec.Command(tool, args...)
	cmd.Stdin = strings.NewReader(input)
	var out, complaint strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", tool, strings.Join(args, " "), err, strings.TrimSpace(complaint.String()))
	}
	return out.String(), nil
}

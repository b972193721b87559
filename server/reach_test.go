package server

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// hosts is what /etc/hosts of a machine says.
type hosts map[string][]string

func (h hosts) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	var all []netip.Addr
	for _, a := range h[host] {
		all = append(all, netip.MustParseAddr(a))
	}
	if all == nil {
		return nil, errors.New("no such host")
	}
	return all, nil
}

func nodes(list string) (peers []Peer) {
	for _, entry := range strings.Fields(list) {
		name, address, _ := strings.Cut(entry, "=")
		peers = append(peers, Peer{Name: name, Address: address})
	}
	return peers
}

func TestNodeOnLoopbackAmongOthersIsWarnedOf(t *testing.T) {
	const names = "n1=box1:6222 n2=box2:6222 n3=box3:6222"
	for name, c := range map[string]struct {
		hosts hosts
		nodes string
		want  string // "" for no warning
	}{
		"Debian": {hosts{"box1": {"127.0.1.1"}, "box2": {"10.0.0.12"}, "box3": {"10.0.0.13"}}, names,
			"n1=box1:6222 is 127.0.1.1 on this machine, where no other machine can connect (n2 is at 10.0.0.12)"},
		"both addresses": {hosts{"box1": {"::1", "127.0.1.1"}, "box2": {"fd00::12", "10.0.0.12"}, "box3": {"10.0.0.13"}},
			names, "n1=box1:6222 is 127.0.1.1"},
		"IPv6 only": {hosts{"box1": {"::1"}, "box2": {"fd00::12"}, "box3": {"fd00::13"}}, names,
			"n1=box1:6222 is ::1"},
		"localhost": {hosts{"localhost": {"127.0.0.1"}}, "n1=localhost:6222 n2=10.0.0.12:6222 n3=10.0.0.13:6222",
			"n1=localhost:6222 is 127.0.0.1"},
		"literal": {hosts{}, "n1=127.0.0.1:6222 n2=10.0.0.12:6222 n3=10.0.0.13:6222",
			"n1=127.0.0.1:6222 is 127.0.0.1"},
		"a peer's name": {hosts{"box1": {"10.0.0.11"}, "box2": {"127.0.1.1"}, "box3": {"10.0.0.13"}}, names,
			"takes n2=box2:6222 for itself"},
		"others unknown":      {hosts{"box1": {"127.0.1.1"}}, names, ""},
		"one other known":     {hosts{"box1": {"127.0.1.1"}, "box3": {"10.0.0.13"}}, names, "n3 is at 10.0.0.13"},
		"all on one machine":  {hosts{"box1": {"127.0.0.1"}, "box2": {"127.0.0.2"}, "box3": {"::1"}}, names, ""},
		"addresses":           {hosts{}, "n1=10.0.0.11:6222 n2=10.0.0.12:6222 n3=[fd00::13]:6222", ""},
		"names, all in order": {hosts{"box1": {"10.0.0.11"}, "box2": {"10.0.0.12"}, "box3": {"10.0.0.13"}}, names, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := CheckRoutes(t.Context(), c.hosts, "n1", nodes(c.nodes))
			if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestAddressesOfNoMachineAreRefused(t *testing.T) {
	for _, bad := range []string{"0.0.0.0:6222", "[::]:6222", "[::ffff:0.0.0.0]:6222", "0:6222", "*:6222", "0x0:6222",
		"00.0.0.0:6222", "224.0.0.1:6222", "255.255.255.255:6222", "[ff02::1]:6222"} {
		if CheckConnectable(bad) == nil {
			t.Errorf("%s is taken", bad)
		}
	}
	for _, good := range []string{"10.0.0.11:6222", "box1:6222", "[fd00::1]:6222", "127.0.0.1:6222", "n0.plant:6222",
		"x0:6222"} {
		if err := CheckConnectable(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
}

package network

import (
	"fmt"
	"strings"
)

// Cut drops what host `from` sends to host `to`, in this direction only.
func (n *Network) Cut(from, to int) {
	n.t.Helper()
	n.rule("forward", n.coming(from)+" "+n.going(to)+dropped)
}

// CutBoth cuts two hosts off from each other.
func (n *Network) CutBoth(a, b int) {
	n.t.Helper()
	n.Cut(a, b)
	n.Cut(b, a)
}

// Isolate cuts a host off from all others, but not from Own.
func (n *Network) Isolate(i int) {
	n.t.Helper()
	for _, h := range n.hosts {
		if h.number != i {
			n.CutBoth(i, h.number)
		}
	}
}

// CutClients cuts a host and Own off from each other.
func (n *Network) CutClients(i int) {
	n.t.Helper()
	n.rule("input", n.coming(i)+dropped)
	n.rule("output", n.going(i)+dropped)
}

// Lose drops so many percent of everything that a host sends or is sent.
func (n *Network) Lose(i, percent int) {
	n.t.Helper()
	some := fmt.Sprintf(" numgen random mod 100 < %d", percent)
	for _, chain := range []string{"forward", "input"} {
		n.rule(chain, n.coming(i)+some+dropped)
	}
	for _, chain := range []string{"forward", "output"} {
		n.rule(chain, n.going(i)+some+dropped)
	}
}

// Unplug takes the cable out of the bridge: the host sees that its link is down. Effect cannot count it.
func (n *Network) Unplug(i int) {
	n.t.Helper()
	n.must(ip("link set " + n.Host(i).link() + " down"))
}

// Plug puts the cable back and waits until both ends see it.
func (n *Network) Plug(i int) {
	n.t.Helper()
	n.must(ip("link set " + n.Host(i).link() + " up"))
	n.must(n.Host(i).settle())
}

// Throttle limits a host's cable to so many bits a second each way. What has waited for 200 ms is dropped.
func (n *Network) Throttle(i, bits int) {
	n.t.Helper()
	slow := func(device string) error {
		return command("tc", "", "qdisc", "replace", "dev", device, "root", "tbf",
			"rate", fmt.Sprintf("%dbit", bits), "burst", "16kb", "latency", "200ms")
	}
	n.must(slow(n.Host(i).link()))
	n.must(n.Host(i).Enter(func() error { return slow("eth0") }))
}

// opening matches the first packet of a TCP connection.
const opening = " tcp flags & (syn | ack) == syn"

// Reject makes a host refuse new TCP connections to a port, as a firewall's REJECT with a TCP reset does.
// With cutEstablished it also resets every connection that the host has with another one, on whichever port
// and whoever opened it, which such a rule alone does not.
func (n *Network) Reject(i, port int, cutEstablished bool) {
	n.t.Helper()
	n.hostRule(i, fmt.Sprintf("input tcp dport %d", port)+opening)
	if cutEstablished {
		n.reset(i)
	}
}

// RejectDials makes a host's own attempts to open TCP connections to other hosts fail as refused.
func (n *Network) RejectDials(i int) {
	n.t.Helper()
	for _, h := range n.hosts {
		if h.number != i {
			n.hostRule(i, "output ip daddr "+h.Address+opening)
		}
	}
}

func (n *Network) hostRule(i int, rule string) {
	n.t.Helper()
	n.must(n.Host(i).Enter(func() error {
		return command("nft", "add rule inet chaos "+rule+" counter name matched reject with tcp reset", "-f", "-")
	}))
}

// reset ends the host's connections with all others; both ends see a reset.
func (n *Network) reset(i int) {
	n.t.Helper()
	for _, h := range n.hosts {
		if h.number == i {
			continue
		}
		n.must(n.Host(i).Enter(func() error {
			killed, err := output("ss", "", "-HKtn", "state", "established", "dst", h.Address)
			n.touched += strings.Count(killed, "\n")
			return err
		}))
	}
}

// Heal ends all faults. What they did until now stays counted for Effect.
func (n *Network) Heal() {
	n.t.Helper()
	n.collect()
	n.must(command("nft", "flush table bridge chaos", "-f", "-"))
	for _, h := range n.hosts {
		n.Plug(h.number)
		n.must(unlimited(h.link()))
		n.must(h.Enter(func() error {
			if err := command("nft", "flush table inet chaos", "-f", "-"); err != nil {
				return err
			}
			return unlimited("eth0")
		}))
	}
	clear(n.waited)
}

// rule adds a rule to the bridge's filter.
func (n *Network) rule(chain, rule string) {
	n.t.Helper()
	n.must(command("nft", "add rule bridge chaos "+chain+" ether type ip "+rule, "-f", "-"))
}

// dropped is the end of a rule that drops, counted.
const dropped = " counter name matched drop"

// coming and going match frames from and to a host, seen from the bridge.
func (n *Network) coming(i int) string { return fmt.Sprintf("iifname %q", n.Host(i).link()) }
func (n *Network) going(i int) string  { return fmt.Sprintf("oifname %q", n.Host(i).link()) }

func (n *Network) must(err error) {
	if err != nil {
		n.t.Helper()
		n.t.Fatalf("network: %v", err)
	}
}

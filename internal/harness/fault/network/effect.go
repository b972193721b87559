package network

import (
	"encoding/json"
	"fmt"
)

// Effect returns how much faults have touched since the last call, or since New: packets dropped or answered
// with a reset, connections reset, and the times that a limit made packets wait. Unplug is not in it.
func (n *Network) Effect() int {
	n.t.Helper()
	n.collect()
	sum := n.touched
	n.touched = 0
	return sum
}

// collect fetches what the kernel has counted since the last time.
func (n *Network) collect() {
	n.t.Helper()
	n.must(n.matched("bridge"))
	for _, h := range n.hosts {
		n.must(n.delayed(h.link(), h.link()))
		n.must(h.Enter(func() error {
			if err := n.matched("inet"); err != nil {
				return err
			}
			return n.delayed("eth0", h.link()+" inside")
		}))
	}
}

// matched adds the packets that the rules of this namespace's table matched.
func (n *Network) matched(family string) error {
	text, err := output("nft", "", "--json", "reset", "counters", "table", family, "chaos")
	if err != nil {
		return err
	}
	var answer struct {
		Nftables []struct{ Counter struct{ Packets int } }
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		return fmt.Errorf("read counters: %w", err)
	}
	for _, object := range answer.Nftables {
		n.touched += object.Counter.Packets
	}
	return nil
}

// delayed adds the times that a device's limit made packets wait; its count is known here under a name.
func (n *Network) delayed(device, name string) error {
	limited, waited, err := limit(device)
	if err != nil || !limited {
		return err
	}
	n.touched += waited - n.waited[name]
	n.waited[name] = waited
	return nil
}

// limit tells whether a device has one, and how often it made packets wait.
func limit(device string) (limited bool, waited int, err error) {
	text, err := output("tc", "", "-s", "-j", "qdisc", "show", "dev", device, "root")
	if err != nil {
		return false, 0, err
	}
	var queues []struct {
		Kind       string
		Overlimits int
	}
	if err := json.Unmarshal([]byte(text), &queues); err != nil {
		return false, 0, fmt.Errorf("read the queue of %s: %w", device, err)
	}
	for _, q := range queues {
		if q.Kind == "tbf" {
			return true, q.Overlimits, nil
		}
	}
	return false, 0, nil
}

// unlimited takes a device's limit away, if it has one.
func unlimited(device string) error {
	if limited, _, err := limit(device); err != nil || !limited {
		return err
	}
	return command("tc", "", "qdisc", "del", "dev", device, "root")
}

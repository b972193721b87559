package ingress

import (
	"bufio"
	"fmt"
	"testing"
)

func TestDoorstepIsBoundedAndEvictsOfTheAddressWithMost(t *testing.T) {
	d, id := newDoorstep(), uint64(0)
	enter := func(host string) (*client, *client, bool) {
		id++
		c := &client{id: id}
		evicted, ok := d.enter(c, host)
		return c, evicted, ok
	}
	oldest, _, _ := enter("greedy")
	for range maxOfAddress - 1 {
		enter("greedy")
	}
	if _, evicted, ok := enter("greedy"); ok || evicted != nil {
		t.Error("an address has more than its share, or another paid for it")
	}
	for i := range maxWaiting - maxOfAddress {
		if _, evicted, ok := enter(fmt.Sprint("host", i)); !ok || evicted != nil {
			t.Fatalf("no room for host %d", i)
		}
	}
	c, evicted, ok := enter("newcomer")
	if !ok || evicted != oldest || len(d.waiting) != maxWaiting {
		t.Errorf("got %v, evicted %v, %d wait", ok, evicted, len(d.waiting))
	}
	d.left(oldest) // it ends, and is not counted again
	d.left(c)
	d.left(c)
	if len(d.waiting) != maxWaiting-1 || d.byAddress["greedy"] != maxOfAddress-1 ||
		len(d.byAddress) != maxWaiting-maxOfAddress+1 {
		t.Errorf("%d wait, %d of greedy, %d addresses", len(d.waiting), d.byAddress["greedy"], len(d.byAddress))
	}
}

func TestConnectionsBeyondTheLimitAreToldSo(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Limits.Connections = 3 })
	var all []*peer
	for range 3 {
		p := r.dial(t)
		p.synced(t)
		all = append(all, p)
	}
	conn, err := r.dialRaw()
	if err != nil {
		t.Fatal(err)
	}
	(&peer{conn, bufio.NewReader(conn)}).expect(t, "-ERR 'maximum connections exceeded'")
	_ = all[0].Close()
	eventually(t, func() error {
		if n := len(r.list()); n != 2 {
			return fmt.Errorf("%d clients", n)
		}
		return nil
	})
	r.dial(t).synced(t)
}

// One user cannot take all connections: others still find some.
func TestOneUserLeavesConnectionsToOthers(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Limits.Connections = 16 })
	r.answering(t)
	var all []*peer
	for range 14 {
		p := r.dial(t)
		p.synced(t)
		all = append(all, p)
	}
	p := r.dial(t)
	p.say(t, "PING\r\n")
	p.expect(t, "-ERR 'maximum connections exceeded'")
	r.publishes(t, r.as(t, "bob"))
	_ = all[0].Close()
	eventually(t, func() error {
		if n := len(r.list()); n > 15 {
			return fmt.Errorf("%d clients", n)
		}
		return nil
	})
	r.dial(t).synced(t)
}

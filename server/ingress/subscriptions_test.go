package ingress

import (
	"fmt"
	"leasehold/server/ingress/wire"
	"testing"
)

func TestAnswersGoToEverySubscriptionThatMatches(t *testing.T) {
	r := newRig(t, nil)
	r.answering(t)
	p := r.as(t, "alice")
	p.say(t, "SUB _INBOX.a.b 1\r\nSUB _INBOX.*.b 2\r\nSUB _INBOX.> 3\r\nSUB _INBOX.a.c 4\r\nSUB _INBOX.* 5\r\nSUB "+
		"_INBOX.a.b.> 6\r\nPUB orders.a _INBOX.a.b 1\r\nx\r\n")
	got := map[string]bool{}
	for range 3 {
		got[p.expect(t, "MSG _INBOX.a.b ")] = true
	}
	p.synced(t)
	for _, sid := range "123" {
		if !got[fmt.Sprintf("MSG _INBOX.a.b %c 4\r\ndone", sid)] {
			t.Errorf("subscription %c got nothing: %v", sid, got)
		}
	}
}

// A maximum counts the messages before it, as at a broker.
func TestSubscriptionEndsWithItsMaximum(t *testing.T) {
	r := newRig(t, nil)
	p := r.as(t, "alice")
	refused := "PUB orders.* _INBOX.a 0\r\n\r\n" // answered at once
	p.say(t, "SUB _INBOX.a 1\r\nUNSUB 1 2\r\n"+refused+refused+refused+"PING\r\n")
	p.expect(t, "MSG _INBOX.a 1 ")
	p.expect(t, "MSG _INBOX.a 1 ")
	p.expect(t, "PONG")
	p.say(t, "SUB _INBOX.a 2\r\n"+refused+"UNSUB 2 1\r\n"+refused+"PING\r\n")
	p.expect(t, "MSG _INBOX.a 2 ")
	p.expect(t, "PONG")
	p.say(t, "SUB _INBOX.a 3\r\n"+refused+"UNSUB 3 2\r\n"+refused+refused+"PING\r\n")
	p.expect(t, "MSG _INBOX.a 3 ")
	p.expect(t, "MSG _INBOX.a 3 ")
	p.expect(t, "PONG")
	if n := len(r.only(t).subs.bySid); n != 0 {
		t.Errorf("%d subscriptions are left", n)
	}
}

func TestSubscriptionsAreBounded(t *testing.T) {
	r := newRig(t, nil)
	p := r.as(t, "alice")
	for i := range r.opt.Limits.Subscriptions {
		p.say(t, fmt.Sprintf("SUB _INBOX.%d %d\r\n", i, i))
	}
	p.synced(t)
	p.say(t, "SUB _INBOX.a a\r\n")
	p.expect(t, "-ERR 'maximum subscriptions exceeded'")
	p.say(t, "UNSUB 7\r\nSUB _INBOX.a a\r\nPUB orders.* _INBOX.a 0\r\n\r\n")
	p.expect(t, "MSG _INBOX.a a ")
}

// What is no subscription leaves nothing behind.
func TestInvalidSubscriptionsAreNotKept(t *testing.T) {
	r := newRig(t, nil)
	p := r.as(t, "alice")
	for i := range 100 {
		for _, end := range []string{"..a", ".", ".>.a", ".a..", ".*.>.b"} {
			p.say(t, fmt.Sprintf("SUB _INBOX.token%d%s 1\r\n", i, end))
			p.expect(t, "-ERR 'Invalid Subject'")
		}
	}
	for _, subject := range []string{"_INBOX.a", "_INBOX.>", "_INBOX.*.>", "_INBOX.a>.b", "_INBOX.>a.b"} {
		p.say(t, "SUB "+subject+" "+subject+"\r\n")
		p.synced(t)
	}
	c := r.only(t)
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	if n := c.subs.matches.Count(); n != 5 || wire.IsPattern([]byte("_INBOX.token1..a")) {
		t.Errorf("%d subscriptions, want 5", n)
	}
}

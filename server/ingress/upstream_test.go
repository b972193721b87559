package ingress

import (
	"errors"
	"fmt"
	"net"
	"testing"

	broker "github.com/nats-io/nats-server/v2/server"
)

// A connection to the broker that ends right after its login used to leave its user's lock taken for ever.
func TestUpstreamThatEndsAtOnceDoesNotHangItsUser(t *testing.T) {
	dead := true
	r := newRig(t, func(o *Options) {
		connect := o.Connect
		o.Connect = func(user string) (Upstream, error) {
			if !dead {
				return connect(user)
			}
			dead = false
			ours, theirs := net.Pipe()
			return Upstream{Conn: ours, Inbox: inboxOf(user)}, theirs.Close()
		}
	})
	r.answering(t)
	first := r.dial(t)
	first.say(t, "PUB orders.a 1\r\nx\r\n")
	first.closed(t)
	r.publishes(t, r.dial(t))
}

// publishes wants an answer to a message.
func (r *rig) publishes(t *testing.T, p *peer) {
	t.Helper()
	p.say(t, "SUB _INBOX.> p\r\nPUB orders.a _INBOX.a 1\r\nx\r\n")
	p.expect(t, "MSG _INBOX.a p 4")
}

// kick has the broker close a user's connection.
func (r *rig) kick(t *testing.T, user string) {
	t.Helper()
	conns, err := r.broker.Connz(&broker.ConnzOptions{Username: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range conns.Conns {
		if c.AuthorizedUser == "u-"+user {
			if err := r.broker.DisconnectClientByID(c.Cid); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("user %q has no connection to the broker", user)
}

func TestClientsEndWithTheirUpstreamAndTheNextGetAnother(t *testing.T) {
	r := newRig(t, nil)
	sub, err := r.inside.SubscribeSync("orders.*") // and nobody answers
	if err := errors.Join(err, r.inside.Flush()); err != nil {
		t.Fatal(err)
	}
	waiting, silent, other := r.as(t, "alice"), r.as(t, "alice"), r.as(t, "bob")
	waiting.say(t, "PUB orders.a _INBOX.a 1\r\nx\r\n")
	silent.synced(t)
	other.synced(t)
	if _, err := sub.NextMsg(hang); err != nil {
		t.Fatal(err)
	}
	r.kick(t, "alice")
	waiting.closed(t)
	silent.closed(t)
	other.synced(t)
	if err := sub.Unsubscribe(); err != nil {
		t.Fatal(err)
	}
	r.answering(t)
	again := r.as(t, "alice")
	r.publishes(t, again)
	_ = errors.Join(again.Close(), other.Close())
	eventually(t, r.idle)
}

// A client that logs in while its upstream ends must not be left with the dead one.
func TestNoClientIsLeftWithADeadUpstream(t *testing.T) {
	r := newRig(t, nil)
	r.answering(t)
	for range 50 {
		first := r.as(t, "alice")
		first.synced(t)
		u := r.users["alice"]
		u.mu.Lock()
		up := u.up
		u.mu.Unlock()
		up.mu.Lock()
		up.err = errEnded // fail has got so far, and the user still has it
		up.mu.Unlock()
		r.publishes(t, r.as(t, "alice"))
		up.mu.Lock()
		up.err = nil
		up.mu.Unlock()
		up.fail(errEnded)
		first.closed(t)
	}
}

// What the broker refuses although the ingress let it pass costs its sender the answer, and nobody else anything.
func TestRefusalOfTheBrokerEndsNoOtherClient(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.answering(t)
	p, other := r.as(t, "stray"), r.as(t, "stray")
	other.synced(t)
	p.say(t, "SUB _INBOX.a 1\r\nPUB orders.refused 1\r\nx\r\nPUB orders.fine _INBOX.a 1\r\nx\r\n")
	p.expect(t, "MSG _INBOX.a 1 4")
	other.synced(t)
	eventually(t, func() error {
		for _, refused := range r.Refused() {
			if refused.User == "stray" && refused.Reason == "refused_by_broker" {
				return nil
			}
		}
		return fmt.Errorf("not counted: %v", r.Refused())
	})
}

package server_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"leasehold/server"
	"leasehold/server/servertest"
)

// mayPublish is what each role may publish, of all that any role may and of what none may. This is the other copy of
// the lists in roles.go, made from what the parts of a node do.
var mayPublish = map[server.Role][]string{
	server.Leases: {
		"$KV.leasehold.session.n1", "$KV.leasehold.lease.billing.00000",
		"$JS.API.STREAM.INFO.KV_leasehold", "$JS.API.STREAM.CREATE.KV_leasehold",
		"$JS.API.DIRECT.GET.KV_leasehold", "$JS.API.DIRECT.GET.KV_leasehold.$KV.leasehold.session.n1",
		"leasehold.internal.record",
	},
	server.Readers: {
		"$JS.API.STREAM.INFO.orders", "$JS.API.STREAM.MSG.GET.orders", "$JS.API.STREAM.LEADER.STEPDOWN.orders",
		"$JS.API.DIRECT.GET.orders",
		"$JS.API.CONSUMER.CREATE.orders.c", "$JS.API.CONSUMER.CREATE.orders.c.orders.1.0.>",
		"$JS.API.CONSUMER.DELETE.orders.c",
		"$JS.API.CONSUMER.MSG.NEXT.orders.c",
	},
	server.DeadLetters: {
		"dlq.billing.0.final.c-17.1", "$JS.API.STREAM.INFO.dlq_billing", "$JS.API.STREAM.MSG.GET.dlq_billing",
		"$JS.API.STREAM.MSG.DELETE.dlq_billing", "$JS.API.DIRECT.GET.dlq_billing",
	},
	server.Publish:  {"orders.c-17"},
	server.Services: {"leasehold.serve.billing"},
	server.Peers: {"leasehold.internal.status", "leasehold.internal.replica", "leasehold.internal.death",
		"_INBOX.peers.n2.x"},
	server.Operator: {
		"$KV.leasehold.session.n1", "$KV.leasehold.control.billing", "$KV.leasehold.topic.orders", "$KV.leasehold.cluster",
		"$KV.leasehold.repair",
		"$JS.API.STREAM.INFO.KV_leasehold", "$JS.API.DIRECT.GET.KV_leasehold",
		"$JS.API.DIRECT.GET.KV_leasehold.$KV.leasehold.session.n1",
		"leasehold.internal.record", "$JS.API.STREAM.INFO.orders", "$JS.API.STREAM.MSG.GET.orders",
		"$JS.API.DIRECT.GET.orders",
		"$JS.API.CONSUMER.CREATE.orders.c", "$JS.API.CONSUMER.CREATE.orders.c.orders.1.0.>",
		"$JS.API.CONSUMER.DELETE.orders.c",
		"$JS.API.CONSUMER.MSG.NEXT.orders.c", "$JS.API.STREAM.INFO.dlq_billing", "$JS.API.STREAM.MSG.GET.dlq_billing",
		"$JS.API.STREAM.MSG.DELETE.dlq_billing", "$JS.API.DIRECT.GET.dlq_billing", "$JS.API.STREAM.CREATE.other",
		"$JS.API.STREAM.UPDATE.orders",
		"$JS.API.STREAM.PURGE.orders", "$JS.API.STREAM.INFO.other", "$JS.API.STREAM.DELETE.orders", "$JS.API.STREAM.LIST",
	},
}

// mayNobody are subjects that no role may publish to: of other topics and groups, or too strong.
var mayNobody = []string{
	"other.c-17", "orders.1.0.c-17", "dlq.other.0.final.c-17.1", "leasehold.serve.other",
	"$JS.API.STREAM.DELETE.KV_leasehold",
	"$JS.API.STREAM.PURGE.KV_leasehold", "$JS.API.STREAM.UPDATE.KV_leasehold", "$JS.API.STREAM.MSG.DELETE.KV_leasehold",
	"$JS.API.CONSUMER.CREATE.KV_leasehold.c", "$JS.API.STREAM.SNAPSHOT.orders", "$JS.API.STREAM.RESTORE.orders",
	"$JS.API.META.LEADER.STEPDOWN",
	"$JS.API.SERVER.REMOVE", "$SYS.REQ.SERVER.PING", "_INBOX.leases.n1.x", "_INBOX.readers.n1.x", "_R_.x",
	"leasehold.publish.n1.orders.c-17", "$JS.ACK.orders.c.1.1.1.1.1",
}

// maySubscribe is what a role may listen to, besides its own inbox.
var maySubscribe = map[server.Role][]string{
	server.Leases: {"leasehold.internal.record"},
	server.Peers:  {"leasehold.internal.status", "leasehold.internal.replica", "leasehold.internal.death"},
}

// Every role may do what its part of a node does, and is refused what the other roles may.
func TestRolesMayDoTheirOwnPartOnly(t *testing.T) {
	o := servertest.SingleOptions(t)
	o.Topics, o.Groups, o.Unlimited = []string{"orders"}, []string{"billing"}, false
	n := servertest.Start(t, o)
	n.WaitReady(t)
	if _, err := n.Conn("test"); err == nil {
		t.Error("there is a connection without limits")
	}
	publishes, inboxes := slices.Clone(mayNobody), []string{">", "_INBOX.>", "_INBOX.other.n1.>", "$KV.leasehold.>",
		"orders.>", "dlq.>", "$JS.EVENT.ADVISORY.>"}
	subscribes := slices.Clone(inboxes)
	for role := range mayPublish {
		publishes = append(publishes, mayPublish[role]...)
		subscribes = append(append(subscribes, maySubscribe[role]...), inboxOf(role))
	}
	slices.Sort(publishes)
	for role := range mayPublish {
		nc, err := n.Conn(role)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		for _, subject := range slices.Compact(publishes) {
			err := roleRefusal(nc, subject, nc.Publish(subject, []byte("{}")))
			if want := slices.Contains(mayPublish[role], subject); want != (err == nil) {
				t.Errorf("%s publishes to %s: %v", role, subject, err)
			}
		}
		for _, subject := range subscribes {
			_, err := nc.SubscribeSync(subject)
			err = roleRefusal(nc, subject, err)
			if want := subject == inboxOf(role) || slices.Contains(maySubscribe[role], subject); want != (err == nil) {
				t.Errorf("%s listens on %s: %v", role, subject, err)
			}
		}
		if inbox := nc.NewInbox(); !strings.HasPrefix(inbox, strings.TrimSuffix(inboxOf(role), ">")) {
			t.Errorf("%s has the inbox %s", role, inbox)
		}
	}
}

func inboxOf(role server.Role) string { return "_INBOX." + string(role) + ".n1.>" }

// roleRefusal is the broker's word against a subject. It comes before the answer to a flush.
func roleRefusal(nc *nats.Conn, subject string, err error) error {
	if err == nil {
		err = nc.FlushTimeout(10 * time.Second)
	}
	if last := nc.LastError(); err == nil && last != nil && strings.Contains(last.Error(), fmt.Sprintf("%q", subject)) {
		err = last
	}
	return err
}

// A connection that the broker ends for good is told of, whatever it was for; one that the node closes is not.
func TestConnectionsThatEndForGoodAreToldOf(t *testing.T) {
	o := servertest.SingleOptions(t)
	o.Topics, o.Groups = []string{"orders"}, []string{"billing"}
	told := make(chan string, 10)
	o.ConnClosed = func(role server.Role, err error) { told <- fmt.Sprint(role, ": ", err) }
	n := servertest.Start(t, o)
	n.WaitReady(t)
	long := strings.Repeat("k", 5000)
	for role, subject := range map[server.Role]string{
		server.Publish: "orders." + long, server.DeadLetters: "dlq.billing.0.final." + long + ".1",
		server.Leases: "$KV.leasehold.session." + long,
	} {
		closed, err := n.Conn(role)
		if err != nil {
			t.Fatal(err)
		}
		closed.Close()
		nc, err := n.Conn(role)
		if err != nil {
			t.Fatal(err)
		}
		if err := nc.Publish(subject, nil); err != nil {
			t.Fatal(err)
		}
		select {
		case text := <-told:
			if !strings.HasPrefix(text, string(role)+": ") || !strings.Contains(text, "maximum control line") {
				t.Errorf("the end of %s: %s", role, text)
			}
		case <-time.After(servertest.ReadyLimit):
			t.Fatalf("nobody was told of the end of %s: %v, %v", role, nc.Status(), nc.LastError())
		}
	}
	if len(told) > 0 {
		t.Errorf("told of what the node closed itself: %s", <-told)
	}
}

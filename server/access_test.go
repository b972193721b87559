package server_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"leasehold/server/access"
	"leasehold/server/pki"
)

// Refusals as clients see them.
const (
	noRight    = "Permissions Violation"
	noEntry    = "Authorization Violation"
	allowed    = "allowed"
	siteSecret = 7 // every byte of servertest's secret
)

// attempt is one thing that somebody tries, and what it must come to.
type attempt struct {
	who, what string
	try       func(t *testing.T) error
	want      string // part of the error, or allowed
}

// tried runs the attempts and logs them as a table.
func tried(t *testing.T, title string, attempts []attempt) {
	t.Helper()
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "%s\nwho\ttried\tgot\n", title)
	for _, a := range attempts {
		got, err := allowed, a.try(t)
		if err != nil {
			got = "refused: " + strings.ReplaceAll(strings.TrimPrefix(err.Error(), "nats: "), "\n", " ")
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", a.who, a.what, got)
		if (a.want == allowed) != (err == nil) || (err != nil && !strings.Contains(err.Error(), a.want)) {
			t.Errorf("%s: %s: got %s, want %s", a.who, a.what, got, a.want)
		}
	}
	_ = table.Flush()
	t.Log("\n" + text.String())
}

// loginLimit is how long a login may take: others on this machine and those before it, which were wrong, make it wait.
// The client library's two seconds are too few where several tests check passwords at a time.
const loginLimit = time.Minute

// person is a client with its own connection, made when it is first needed: checking a password takes its time.
type person struct {
	name string
	addr string
	opts []nats.Option
	nc   *nats.Conn
}

func (p *person) conn(t *testing.T) *nats.Conn {
	t.Helper()
	if p.nc == nil {
		opts := append([]nats.Option{nats.Timeout(loginLimit),
			nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})}, p.opts...)
		nc, err := nats.Connect("nats://"+p.addr, opts...)
		if err != nil {
			t.Fatalf("%s: %v", p.name, err)
		}
		p.nc = nc
		t.Cleanup(nc.Close)
	}
	return p.nc
}

// refusal is the broker's answer to what was just sent: errors come before the answer to a ping.
func refusal(nc *nats.Conn, subject string) error {
	if err := nc.FlushTimeout(10 * time.Second); err != nil {
		return err
	}
	if err := nc.LastError(); err != nil && strings.Contains(err.Error(), `"`+subject+`"`) {
		text, _, _ := strings.Cut(err.Error(), " to \"")
		return errors.New(strings.TrimPrefix(text, "nats: permissions violation: "))
	}
	return nil
}

func (p *person) publish(subject, want string) attempt {
	return attempt{p.name, "publish to " + subject, func(t *testing.T) error {
		nc := p.conn(t)
		if err := nc.Publish(subject, []byte("x")); err != nil {
			return err
		}
		return refusal(nc, subject)
	}, want}
}

func (p *person) subscribe(subject, want string) attempt {
	return attempt{p.name, "subscribe to " + subject, func(t *testing.T) error {
		nc := p.conn(t)
		sub, err := nc.SubscribeSync(subject)
		if err != nil {
			return err
		}
		err = refusal(nc, subject)
		_ = sub.Unsubscribe()
		return err
	}, want}
}

// request publishes and wants the broker's acknowledgement.
func (p *person) request(subject string) attempt {
	return attempt{p.name, "publish to " + subject + ", wait for the acknowledgement", func(t *testing.T) error {
		answer, err := p.conn(t).Request(subject, []byte("x"), 10*time.Second)
		if err == nil && !strings.Contains(string(answer.Data), `"seq":`) {
			err = fmt.Errorf("answer %s", answer.Data)
		}
		return err
	}, allowed}
}

// mustNot are the attempts on everything that is nobody's but the cluster's own.
func (p *person) mustNot() []attempt {
	var all []attempt
	for _, s := range []string{
		"$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.PURGE.orders", "$JS.API.STREAM.DELETE.orders",
		"$JS.API.STREAM.UPDATE.orders", "$JS.API.STREAM.MSG.GET.orders", "$JS.API.DIRECT.GET.KV_leasehold",
		"$JS.API.CONSUMER.CREATE.orders", "$JS.ACK.orders.c.1.1.1.1.1", "$KV.leasehold.lease.billing.00000",
		"$KV.leasehold.session.n1", "orders.1.0.c-17", "orders.a.b", "dlq.billing.0.c-17.1", "leasehold.internal.status",
		"_INBOX.x.y", "$SYS.REQ.SERVER.PING",
		"$SYS.REQ.SERVER.PING.CONNZ", "$SYS.REQ.ACCOUNT.LEASEHOLD.CONNZ", "$SYS.REQ.USER.INFO",
	} {
		all = append(all, p.publish(s, noRight))
	}
	for _, s := range []string{
		">", "*", "*.*", "orders.*", "orders.>", "other.*", "$JS.>", "$JS.EVENT.ADVISORY.>", "$KV.leasehold.>", "dlq.>",
		"leasehold.>", "leasehold.internal.>", "leasehold.serve.audit", "$SYS.>", "_R_.>",
	} {
		all = append(all, p.subscribe(s, noRight))
	}
	return all
}

// entry is a try to connect.
func entry(who, what, addr, want string, opts ...nats.Option) attempt {
	return attempt{who, what, func(*testing.T) error {
		nc, err := nats.Connect("nats://"+addr, append([]nats.Option{nats.Timeout(loginLimit)}, opts...)...)
		if err == nil {
			nc.Close()
		}
		return err
	}, want}
}

func mustHash(t *testing.T, password string) string {
	t.Helper()
	hash, err := access.HashPassword([]byte(password))
	if err != nil {
		t.Fatal(err)
	}
	return hash
}

// keyPair makes an nkey and the option that connects with it.
func keyPair(t *testing.T) (public string, connect nats.Option) {
	t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err = pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return public, nats.Nkey(public, pair.Sign)
}

// trusting checks the node's certificate against the client CA of a secret.
func trusting(t *testing.T, secret byte) nats.Option {
	t.Helper()
	return nats.Secure(&tls.Config{RootCAs: clientPool(t, secret)})
}

func clientPool(t *testing.T, secret byte) *x509.CertPool {
	t.Helper()
	text, err := pki.ClientCA([][]byte{bytes.Repeat([]byte{secret}, 32)})
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		t.Fatal("ClientCA made no certificate")
	}
	return pool
}

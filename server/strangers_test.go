package server_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"leasehold/server"
	"leasehold/server/access"
	"leasehold/server/pki"
	"leasehold/server/servertest"
)

// site is a cluster of three whose listeners are open to other machines, with users and TLS.
type site struct {
	node                *servertest.Node
	addr, cluster       string
	press, scanner, bob *person
	service             *person
	ca                  nats.Option
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{ca: trusting(t, siteSecret)}
	scanner, scannerKey := keyPair(t)
	service, serviceKey := keyPair(t)
	users := []access.User{
		{Name: "press", PasswordHash: mustHash(t, "press-password"), Publish: []string{"orders.*"}},
		{Name: "scanner", NKey: scanner, Publish: []string{"orders.*"}},
		{Name: "bob", PasswordHash: mustHash(t, "bob-password"), Publish: []string{"other.*"}},
		{Name: "service", NKey: service, Serve: []string{"billing"}},
	}
	var nodes []*servertest.Node
	for _, o := range servertest.ClusterOptions(t, 3) {
		o.Users, o.PublishSubjects = users, []string{"orders.*", "other.*"}
		o.Listen, o.TLS = "0.0.0.0:0", pki.TLSConfig{Mode: "cluster-ca"}
		nodes = append(nodes, servertest.Start(t, o))
	}
	for _, n := range nodes {
		n.WaitReady(t)
	}
	s.node, s.cluster = nodes[0], nodes[0].Options.ClusterListen
	_, port, err := net.SplitHostPort(s.node.ClientAddr())
	if err != nil {
		t.Fatal(err)
	}
	s.addr = "127.0.0.1:" + port
	person := func(name string, key nats.Option) *person {
		return &person{name: name, addr: s.addr, opts: []nats.Option{key, s.ca}}
	}
	s.press, s.scanner = person("press", nats.UserInfo("press", "press-password")), person("scanner", scannerKey)
	s.bob, s.service = person("bob", nats.UserInfo("bob", "bob-password")), person("service", serviceKey)
	return s
}

func TestUsersAndStrangersGetWhatTheyMayAndNothingElse(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	js := stream(t, s.node.Server, "orders", "orders.*")
	stream(t, s.node.Server, "other", "other.*")
	stream(t, s.node.Server, "KV_leasehold", "$KV.leasehold.>")
	stream(t, s.node.Server, "dlq_billing", "dlq.billing.>")

	tried(t, "Getting in: a listener open to other machines, TLS, users", s.entries(t))
	tried(t, "What users may do", []attempt{s.press.request("orders.c-17"), s.scanner.request("orders.c-18"),
		s.bob.request("other.c-17")})
	s.testService(t)
	for _, p := range []*person{s.press, s.scanner} {
		rows := append(p.mustNot(), p.publish("other.c-17", noRight), p.publish("leasehold.serve.billing", noRight),
			p.subscribe("leasehold.serve.billing", noRight))
		tried(t, "What "+p.name+" must not do", append(rows, s.borrowed(t, p)...))
	}
	rows := append(s.service.mustNot(), s.service.publish("orders.c-17", noRight),
		s.service.publish("leasehold.serve.billing", noRight), s.service.subscribe("_INBOX.>", noRight))
	tried(t, "What service must not do", rows)
	tried(t, "What bob must not do", []attempt{s.bob.publish("orders.c-17", noRight)})
	tried(t, "The cluster port", s.routes(t))

	orders, err := js.Stream(context.Background(), "orders")
	if err != nil {
		t.Fatal(err)
	}
	if m, err := orders.GetMsg(context.Background(), 1); err != nil || len(m.Header) > 0 {
		t.Errorf("first message has headers that its publisher did not send: %v, %v", m, err)
	}
	for name, want := range map[string]uint64{"orders": 4 + 2, "other": 1, "KV_leasehold": 0, "dlq_billing": 0} {
		got, err := js.Stream(context.Background(), name)
		if err != nil {
			t.Fatal(err)
		}
		if msgs := got.CachedInfo().State.Msgs; msgs != want {
			t.Errorf("stream %s holds %d messages, want %d", name, msgs, want)
		}
	}
}

// borrowedSubjects are reply subjects to which the broker's acknowledgement, sent with the broker's rights, would do
// harm.
var borrowedSubjects = []string{
	"$KV.leasehold.lease.billing.00000", "dlq.billing.0.c-17.1", "$JS.API.STREAM.PURGE.orders",
	"$JS.API.STREAM.LEADER.STEPDOWN.orders",
	"other.c-17", "leasehold.internal.status", "_INBOX.spy.1", "$SYS.REQ.SERVER.PING",
}

// borrowed lets the broker do what the user may not: by an acknowledgement or a trace sent to a subject of ours, or
// into somebody's inbox. Such a message is refused; a reply subject in somebody else's inbox means the same one in the
// user's own.
func (s *site) borrowed(t *testing.T, p *person) []attempt {
	t.Helper()
	inside, err := s.node.Conn("test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(inside.Close)
	heard := map[string]*nats.Subscription{} // by subject
	spy := func(nc *nats.Conn, subject, listen string) {
		sub, err := nc.SubscribeSync(listen)
		if err == nil {
			err = nc.Flush()
		}
		if err != nil {
			t.Fatal(err)
		}
		heard[subject] = sub
	}
	for _, subject := range borrowedSubjects {
		if strings.HasPrefix(subject, "_INBOX.") {
			spy(s.bob.conn(t), subject, "_INBOX.>") // all that bob may listen to
			continue
		}
		spy(inside, subject, subject)
	}
	var all []attempt
	for _, subject := range borrowedSubjects {
		for what, m := range map[string]*nats.Msg{
			"reply": {Subject: "orders.a", Reply: subject, Data: []byte("x")},
			"trace": {Subject: "orders.a", Header: nats.Header{"Nats-Trace-Dest": {subject}}, Data: []byte("x")},
		} {
			if err := p.conn(t).PublishMsg(m); err != nil {
				t.Fatal(err)
			}
			all = append(all, attempt{p.name, "publish to orders.a, " + what + " to " + subject, func(t *testing.T) error {
				got, err := heard[subject].NextMsg(50 * time.Millisecond)
				if err == nil {
					t.Errorf("%s reached %s: %q", what, got.Subject, got.Data)
					return nil
				}
				return errors.New("nothing of it got there")
			}, "nothing"})
		}
	}
	// Once this one is acknowledged, those before it are, too; what went astray is then on its way through one broker.
	if err := p.request("orders.a").try(t); err != nil {
		t.Fatal(err)
	}
	if err := inside.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := s.bob.conn(t).Flush(); err != nil {
		t.Fatal(err)
	}
	return all
}

// entries are what strangers try at the listener.
func (s *site) entries(t *testing.T) []attempt {
	_, strangerKey := keyPair(t)
	scanner := s.node.Options.Users[1].NKey
	internal, sign := s.node.InternalUser()
	other, _ := nkeys.CreateUser()
	try := func(who, what, want string, opts ...nats.Option) attempt {
		return entry(who, what, s.addr, want, append(opts, s.ca)...)
	}
	return []attempt{
		try("stranger", "connect without credentials", noEntry),
		try("stranger", "wrong password of press", noEntry, nats.UserInfo("press", "wrong-password")),
		try("stranger", "press without a password", noEntry, nats.UserInfo("press", "")),
		try("stranger", "the hash of press as password", noEntry,
			nats.UserInfo("press", s.node.Options.Users[0].PasswordHash)),
		try("stranger", "unknown user", noEntry, nats.UserInfo("admin", "admin-password")),
		try("stranger", "a password without a user", noEntry, nats.UserInfo("", "press-password")),
		try("stranger", "a token", noEntry, nats.Token("press-password")),
		try("stranger", "public nkey as user name", noEntry, nats.UserInfo(scanner, "")),
		try("stranger", "own nkey", noEntry, strangerKey),
		try("stranger", "nkey of scanner, signed with another", noEntry, nats.Nkey(scanner, other.Sign)),
		try("bob", "connect as press with his own password", noEntry, nats.UserInfo("press", "bob-password")),
		try("thief of memory", "internal user's key over TCP", noEntry, nats.Nkey(internal, sign)),
		entry("press", "connect, trusting another cluster's CA", s.addr, "certificate signed by unknown authority",
			nats.UserInfo("press", "press-password"), trusting(t, 9)),
		entry("press", "connect, trusting the machine's CAs only", s.addr, "certificate signed by unknown authority",
			nats.UserInfo("press", "press-password")),
		entry("press", "connect to a name that is not the node's", s.addr, "certificate is valid for",
			nats.UserInfo("press", "press-password"), nats.Secure(&tls.Config{RootCAs: clientPool(t, siteSecret),
				ServerName: "elsewhere.example"})),
		{"press", "right password, without TLS", func(t *testing.T) error { return plainConnect(s.addr) }, "EOF"},
		try("press", "right password, TLS, cluster's CA", allowed, nats.UserInfo("press", "press-password")),
	}
}

// plainConnect speaks NATS without TLS and wants an answer to a ping.
func plainConnect(addr string) error {
	return speak(addr, `CONNECT {"verbose":false,"user":"press","pass":"press-password"}`+"\r\nPING\r\n",
		func(line string) bool { return strings.HasPrefix(line, "PONG") })
}

// speak says something to a broker without TLS, after its greeting, and reads until the line that is wanted.
func speak(addr, text string, wanted func(line string) bool) error {
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	lines := bufio.NewReader(conn)
	if _, err := lines.ReadString('\n'); err != nil { // INFO
		return err
	}
	if _, err := conn.Write([]byte(text)); err != nil {
		return err
	}
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return fmt.Errorf("connection closed: %w", err)
		}
		if wanted(line) {
			return nil
		}
	}
}

// routes are what strangers and users try at the cluster port.
func (s *site) routes(t *testing.T) []attempt {
	leaf := func(who, what, want string, made func([]byte) (tls.Certificate, error), secret byte) attempt {
		cert, err := made(bytes.Repeat([]byte{secret}, 32))
		if err != nil {
			t.Fatal(err)
		}
		return attempt{who, what, func(*testing.T) error { return routeConnect(s.cluster, cert) }, want}
	}
	const refused = "remote error: tls"
	return []attempt{
		{"stranger", "route without TLS", func(*testing.T) error { return plainRoute(s.cluster) }, ""},
		{"stranger", "route over TLS without a certificate", func(*testing.T) error {
			return routeConnect(s.cluster)
		}, refused},
		leaf("stranger", "route with a certificate of another secret", refused, server.RouteLeaf, 9),
		leaf("client", "route with a certificate of the CA that clients trust", refused, server.ClientLeaf, siteSecret),
		// each waits for the other to speak
		entry("press", "client login on the cluster port", s.cluster, "", nats.UserInfo("press", "press-password"), s.ca,
			nats.Timeout(time.Second)),
		leaf("node", "route with a certificate of the cluster's secret", allowed, server.RouteLeaf, siteSecret),
	}
}

// routeConnect makes the TLS part of a route and waits for what a node says first to another.
func routeConnect(addr string, certs ...tls.Certificate) error {
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", addr,
		&tls.Config{InsecureSkipVerify: true, Certificates: certs})
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	_, err = conn.Read(make([]byte, 1))
	return err
}

func plainRoute(addr string) error {
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := conn.Write([]byte(`INFO {"server_id":"x","cluster":"test"}` + "\r\nCONNECT {}\r\nPING\r\n")); err != nil {
		return err
	}
	got, err := bufio.NewReader(conn).ReadString('\n')
	if err == nil && !strings.HasPrefix(got, "INFO") {
		return fmt.Errorf("got no greeting but %q", got)
	}
	return err
}

// testService answers requests as a service of a group, and tries to answer more than it was asked.
func (s *site) testService(t *testing.T) {
	t.Helper()
	inside, err := s.node.Conn("test")
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	nc := s.service.conn(t)
	again := make(chan error, 1)
	sub, err := nc.QueueSubscribe(access.ServeSubject("billing"), "workers", func(m *nats.Msg) {
		_ = m.Respond([]byte("first"))
		_ = m.Respond([]byte("second"))
		again <- refusal(nc, m.Reply)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	defer sub.Unsubscribe()
	tried(t, "What a service may do", []attempt{
		{"service", "answer a request of its group", func(*testing.T) error {
			var answer *nats.Msg
			servertest.Eventually(t, 10*time.Second, func() (err error) {
				answer, err = inside.Request(access.ServeSubject("billing"), nil, 5*time.Second)
				return err
			})
			if string(answer.Data) != "first" {
				return fmt.Errorf("got %q", answer.Data)
			}
			return nil
		}, allowed},
		{"service", "answer it a second time", func(*testing.T) error { return <-again }, noRight},
	})
}

// On loopback, programs without credentials stay what they were; users are beside them, and neither sees the other.
func TestOnLoopbackAnonymousClientsStayAndSeeNothingOfUsers(t *testing.T) {
	t.Parallel()
	o := servertest.SingleOptions(t)
	scanner, key := keyPair(t)
	o.Users = []access.User{
		{Name: "press", PasswordHash: mustHash(t, "press-password"), Publish: []string{"orders.*"}},
		{Name: "scanner", NKey: scanner, Publish: []string{"orders.*"}},
	}
	n := servertest.Start(t, o)
	n.WaitReady(t)
	stream(t, n.Server, "orders", "orders.*")
	stream(t, n.Server, "KV_leasehold", "$KV.leasehold.>")
	anonymous := &person{name: "anonymous", addr: n.ClientAddr()}
	press := &person{name: "press", addr: n.ClientAddr(), opts: []nats.Option{nats.UserInfo("press", "press-password")}}
	stock := &person{name: "scanner", addr: n.ClientAddr(), opts: []nats.Option{key}}
	rows := append(anonymous.mustNot(), listensIn(anonymous, press), listensIn(press, anonymous), listensIn(stock, press),
		anonymous.request("orders.a"), press.request("orders.a"), stock.request("orders.a"),
		entry("stranger", "wrong password of press", n.ClientAddr(), noEntry, nats.UserInfo("press", "wrong-password")),
		entry("stranger", "unknown user", n.ClientAddr(), noEntry, nats.UserInfo("admin", "x")),
		entry("stranger", "a token", n.ClientAddr(), noEntry, nats.Token("x")))
	tried(t, "A loopback listener with users", rows)
}

// listensIn listens on every inbox while another publishes and gets its acknowledgement.
func listensIn(spy, victim *person) attempt {
	return attempt{spy.name, "listen in on the inbox of " + victim.name, func(t *testing.T) error {
		sub, err := spy.conn(t).SubscribeSync("_INBOX.>")
		if err == nil {
			err = spy.conn(t).Flush()
		}
		if err != nil {
			return err
		}
		defer sub.Unsubscribe()
		if err := victim.request("orders.a").try(t); err != nil {
			return err
		}
		if got, err := sub.NextMsg(200 * time.Millisecond); err == nil {
			t.Errorf("%s heard %q", spy.name, got.Data)
			return nil
		}
		return errors.New("nothing heard")
	}, "nothing"}
}

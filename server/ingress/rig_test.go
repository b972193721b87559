package ingress

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"leasehold/server/ingress/limits"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	broker "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// hang bounds every wait of these tests; far more than any takes.
const hang = 30 * time.Second

// rig is an ingress in front of a broker, and a connection to the broker that may do everything.
type rig struct {
	*Ingress
	broker *broker.Server
	inside *nats.Conn
	ran    chan bool // closed when Run has returned
}

// rigUsers publish to orders.*, or serve. Alice and bob may do the same. The broker allows stray less than the ingress
// does.
var rigUsers = []User{
	{Name: Anonymous, Publish: []string{"orders.*"}},
	{Name: "alice", Publish: []string{"orders.*"}},
	{Name: "bob", Publish: []string{"orders.*"}},
	{Name: "stray", Publish: []string{"orders.*"}},
	{Name: "service", Serve: []string{"serve.billing"}},
}

// newRig starts both. change, if not nil, changes the options before.
func newRig(t *testing.T, change func(*Options)) *rig {
	t.Helper()
	r := &rig{broker: newBroker(t), ran: make(chan bool)}
	o := Options{
		Listen: "127.0.0.1:0", Users: rigUsers, Name: "n1", Version: broker.VERSION, Connect: r.connectUser,
		Log: hclog.NewNullLogger(),
		Limits: Limits{Connections: 100, Subscriptions: 1000, MaxPayload: 1 << 20, Messages: 8192, Bytes: 32 << 20,
			Operations: 1 << 30},
	}
	if change != nil {
		change(&o)
	}
	var err error
	if r.Ingress, err = New(o); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(r.ran)
		r.Run()
	}()
	t.Cleanup(r.stop)
	r.inside = dialBroker(t, r.broker, "inside")
	return r
}

func (r *rig) stop() {
	r.Close()
	<-r.ran
}

func newBroker(t *testing.T) *broker.Server {
	t.Helper()
	account := broker.NewAccount("OURS")
	users := []*broker.User{{Username: "inside", Account: account}}
	for _, u := range rigUsers {
		p := &broker.Permissions{
			Publish:   &broker.SubjectPermission{Allow: u.Publish},
			Subscribe: &broker.SubjectPermission{Allow: append([]string{inboxOf(u.Name) + ">"}, u.Serve...)},
		}
		switch {
		case len(u.Serve) > 0:
			p.Publish = &broker.SubjectPermission{Deny: []string{">"}}
			p.Response = &broker.ResponsePermission{MaxMsgs: 1, Expires: time.Hour}
		case u.Name == "stray":
			p.Publish.Allow = []string{"orders.fine"}
		}
		users = append(users, &broker.User{Username: "u-" + u.Name, Account: account, Permissions: p})
	}
	s, err := broker.NewServer(&broker.Options{DontListen: true, NoLog: true, NoSigs: true,
		Accounts: []*broker.Account{account}, Users: users, MaxPayload: 2 << 20})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(hang) {
		t.Fatal("the broker does not start")
	}
	return s
}

func inboxOf(user string) string { return "_INGRESS.x" + user + "." }

func dialBroker(t *testing.T, s *broker.Server, user string) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect("", nats.InProcessServer(s), nats.UserInfo(user, ""))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// connectUser is what the ingress calls.
func (r *rig) connectUser(user string) (up Upstream, err error) {
	conn, err := r.broker.InProcessConn()
	if err != nil {
		return up, err
	}
	lines := bufio.NewReader(conn)
	if _, err := lines.ReadString('\n'); err != nil {
		return up, err
	}
	hello, _ := json.Marshal(map[string]any{"user": "u-" + user, "verbose": false, "headers": true, "no_responders": true,
		"protocol": 1})
	if _, err := fmt.Fprintf(conn, "CONNECT %s\r\nPING\r\n", hello); err != nil {
		return up, err
	}
	if line, err := lines.ReadString('\n'); err != nil || line != "PONG\r\n" {
		return up, fmt.Errorf("got %q: %w", line, errors.Join(err, conn.Close()))
	}
	return Upstream{Conn: conn, Inbox: inboxOf(user)}, nil
}

// answering has the broker's side answer every message to orders.*.
func (r *rig) answering(t *testing.T) {
	t.Helper()
	_, err := r.inside.Subscribe("orders.*", func(m *nats.Msg) { _ = m.Respond([]byte("done")) })
	if err := errors.Join(err, r.inside.Flush()); err != nil {
		t.Fatal(err)
	}
}

// peer is the client's end of a connection.
type peer struct {
	net.Conn
	in *bufio.Reader
}

// dial connects over TCP without credentials.
func (r *rig) dial(t *testing.T) *peer {
	t.Helper()
	conn, err := r.dialRaw()
	if err != nil {
		t.Fatal(err)
	}
	return newPeer(t, conn, `CONNECT {"verbose":false,"headers":true}`)
}

func (r *rig) dialRaw() (net.Conn, error) { return net.Dial("tcp", r.Addr().String()) }

// as is a client of a user.
func (r *rig) as(t *testing.T, user string) *peer {
	t.Helper()
	conn, err := r.Dial(user)
	if err != nil {
		t.Fatal(err)
	}
	return newPeer(t, conn, `CONNECT {"verbose":false,"headers":true}`)
}

func newPeer(t *testing.T, conn net.Conn, hello string) *peer {
	t.Helper()
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(hang))
	p := &peer{conn, bufio.NewReader(conn)}
	p.expect(t, "INFO ")
	if hello != "" {
		p.say(t, hello+"\r\n")
	}
	return p
}

func (p *peer) say(t *testing.T, text string) {
	t.Helper()
	if _, err := io.WriteString(p, text); err != nil {
		t.Fatalf("write %.60q: %v", text, err)
	}
}

// line is what the client is told next; of a message its payload too.
func (p *peer) line() (string, error) {
	line, err := p.in.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "MSG ") && !strings.HasPrefix(line, "HMSG ") {
		return strings.TrimSuffix(line, "\r\n"), err
	}
	fields := strings.Fields(line)
	size, _ := strconv.Atoi(fields[len(fields)-1])
	body := make([]byte, size+2)
	_, err = io.ReadFull(p.in, body)
	return strings.TrimSuffix(line+string(body), "\r\n"), err
}

func (p *peer) expect(t *testing.T, prefix string) string {
	t.Helper()
	line, err := p.line()
	if err != nil || !strings.HasPrefix(line, prefix) {
		t.Fatalf("got %q, %v; want %q", line, err, prefix)
	}
	return line
}

// closed waits for the end of the connection and returns what was told before.
func (p *peer) closed(t *testing.T) (told []string) {
	t.Helper()
	for {
		line, err := p.line()
		var late net.Error
		if errors.As(err, &late) && late.Timeout() {
			t.Fatalf("the connection is still open, after %q", told)
		}
		if err != nil {
			return told
		}
		told = append(told, line)
	}
}

// synced waits until the ingress has taken all that the client has said.
func (p *peer) synced(t *testing.T) {
	t.Helper()
	p.say(t, "PING\r\n")
	p.expect(t, "PONG")
}

func eventually(t *testing.T, f func() error) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(hang); ; <-tick.C {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// only is the one client that there is.
func (r *rig) only(t *testing.T) (found *client) {
	t.Helper()
	eventually(t, func() error {
		all := r.list()
		if len(all) != 1 {
			return fmt.Errorf("there are %d clients, want one", len(all))
		}
		found = all[0]
		return nil
	})
	return found
}

// idle holds when nothing is counted and nobody is known any more.
func (r *rig) idle() error {
	for name, b := range map[string]*limits.Budget{"inflight": r.inflight, "buffers": r.buffers} {
		if messages, bytes, users := b.InUse(); messages != 0 || bytes != 0 || users > 0 {
			return fmt.Errorf("%s: %d messages and %d bytes are used, by %d users", name, messages, bytes, users)
		}
	}
	r.mu.Lock()
	live, clients := r.live, len(r.clients)
	r.mu.Unlock()
	if live != 0 || clients != 0 {
		return fmt.Errorf("%d clients, %d of them live", clients, live)
	}
	for _, u := range r.users {
		u.mu.Lock()
		up := u.up
		u.mu.Unlock()
		if up == nil {
			continue
		}
		up.mu.Lock()
		clients, served := len(up.clients), len(up.served)
		up.mu.Unlock()
		if clients+served > 0 {
			return fmt.Errorf("connection of %s: %d clients, %d services", u, clients, served)
		}
	}
	return nil
}

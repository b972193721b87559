package server_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"leasehold/server"
	"leasehold/server/ingress"
	"leasehold/server/servertest"
)

// FuzzIngress sends a client's bytes, in pieces, and compares what reaches the broker and the client with the model.
func FuzzIngress(f *testing.F) {
	for _, s := range ingressSeeds() {
		f.Add([]byte{}, s)
		f.Add([]byte{1}, s)
		f.Add([]byte{overTCP, 7, 1}, s)
	}
	r := newFuzzRig(f)
	f.Fuzz(func(t *testing.T, pieces, text []byte) {
		if len(text) > 128<<10 || len(pieces) > 64 {
			t.Skip("longer than what is needed to find anything")
		}
		r.run(t, pieces, text)
	})
}

// overTCP as the first piece has the case use the listener instead of a pipe.
const overTCP = 0xff

// fuzzLimit is far more than a case takes.
const fuzzLimit = 30 * time.Second

// fuzzRig is a broker behind an ingress, and what listens to all that reaches it.
type fuzzRig struct {
	server *server.Server
	spy    *nats.Conn
	seen   chan *nats.Msg // all of our account
	system chan *nats.Msg // all of the system account
	other  *fuzzClient    // of the same user, for what comes after the end of a case's own client
	cases  int
}

func newFuzzRig(f *testing.F) *fuzzRig {
	o := servertest.SingleOptions(f)
	o.PublishSubjects, o.MaxPayload, o.Logger = fuzzSubjects, fuzzPayload, hclog.NewNullLogger()
	n := servertest.Start(f, o)
	n.WaitReady(f)
	r := &fuzzRig{server: n.Server, seen: make(chan *nats.Msg, 1<<16), system: make(chan *nats.Msg, 1<<10)}
	spy, err1 := n.Conn("test")
	system, err2 := n.SystemConn()
	if err := errors.Join(err1, err2); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(spy.Close)
	f.Cleanup(system.Close)
	r.spy = spy
	js, err := jetstream.New(spy)
	if err != nil {
		f.Fatal(err)
	}
	if _, err := js.CreateStream(f.Context(), jetstream.StreamConfig{
		Name: "kept", Subjects: []string{"kept.*"}, Storage: jetstream.MemoryStorage, MaxMsgs: 1000, Duplicates: time.Second,
	}); err != nil {
		f.Fatal(err)
	}
	r.other = r.client(f, false)
	go r.other.read(0)
	r.other.write(nil, []byte("CONNECT {\"verbose\":false}\r\n"))
	for nc, heard := range map[*nats.Conn]chan *nats.Msg{spy: r.seen, system: r.system} {
		_, err := nc.ChanSubscribe(">", heard)
		if err := errors.Join(err, nc.Flush()); err != nil {
			f.Fatal(err)
		}
	}
	return r
}

// client connects; tcp says how.
func (r *fuzzRig) client(t testing.TB, tcp bool) *fuzzClient {
	var conn net.Conn
	var err error
	if tcp {
		conn, err = net.Dial("tcp", r.server.ClientAddr())
	} else {
		conn, err = r.server.IngressPipe(ingress.Anonymous)
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(fuzzLimit))
	return &fuzzClient{conn: conn, delivered: map[string]int{}, done: make(chan bool), ended: make(chan bool)}
}

// run is one case.
func (r *fuzzRig) run(t *testing.T, pieces, text []byte) {
	r.cases++
	tcp := len(pieces) > 0 && pieces[0] == overTCP
	tail := fmt.Sprintf("tail%d", r.cases)
	m, text := complete(text, !tcp, tail)
	c := r.client(t, tcp)
	defer c.close()
	go c.read(len(m.said))
	c.write(pieces, text)
	if m.closed != "" {
		wait(t, c.ended, "the connection to end")
		r.other.passed(t, tail)
		m.sent = append(m.sent, sentMessage{"plain.tail", nil, tail}, sentMessage{"kept.tail", nil, tail})
	}
	r.compare(t, m, tail)
	if m.closed == "" {
		wait(t, c.done, "all that the client should be told")
	}
	c.compare(t, m, tcp)
	r.looked(t)
}

// complete has the model read the text, completes the last operation and adds messages that must get through.
func complete(text []byte, inside bool, tail string) (*clientModel, []byte) {
	for {
		m := &clientModel{inside: inside}
		m.run(text)
		if m.missing == "" {
			break
		}
		text = append(slices.Clip(text), m.missing...)
	}
	m := &clientModel{inside: inside}
	m.run(text)
	if m.closed != "" {
		return m, text
	}
	text = append(slices.Clip(text), lastWords(tail)...)
	m = &clientModel{inside: inside}
	m.run(text)
	return m, text
}

// lastWords publishes to a topic without a stream and to one with, and waits for both answers.
func lastWords(tail string) string {
	const inbox = "_INBOX.tail.of.the.case"
	return fmt.Sprintf("SUB %s tail-of-the-case\r\nPUB plain.tail %s %d\r\n%s\r\nPUB kept.tail %s %d\r\n%s\r\nPING\r\n",
		inbox, inbox, len(tail), tail, inbox, len(tail), tail)
}

func wait(t *testing.T, c <-chan bool, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(fuzzLimit):
		t.Fatalf("waited for %s in vain", what)
	}
}

// compare takes what reached the broker up to the last messages of the case, answers what no stream does, and holds it
// against the model. Each message must be answered once.
func (r *fuzzRig) compare(t *testing.T, m *clientModel, tail string) {
	t.Helper()
	asked := map[string]bool{}
	late := time.NewTimer(fuzzLimit)
	defer late.Stop()
	for i := 0; i < len(m.sent) || len(asked) > 0; {
		select {
		case got := <-r.seen:
			if strings.HasPrefix(got.Subject, "$JS.EVENT.ADVISORY.STREAM.CREATED.") {
				continue // of the rig's own stream
			}
			if strings.HasPrefix(got.Subject, "_INGRESS.") {
				if !asked[got.Subject] {
					t.Fatalf("an answer to %s, which nobody waits for", got.Subject)
				}
				delete(asked, got.Subject)
				continue
			}
			if i == len(m.sent) {
				t.Fatalf("%s %q %q reached the broker after the last message", got.Subject, got.Header, got.Data)
			}
			same(t, m.sent[i], got)
			i++
			asked[got.Reply] = true
			if !strings.HasPrefix(got.Subject, "kept.") {
				if err := got.Respond([]byte("seen")); err != nil {
					t.Fatal(err)
				}
			}
		case <-late.C:
			t.Fatalf("%d of %d messages of %s reached the broker, %d wait for an answer", i, len(m.sent), tail, len(asked))
		}
	}
}

func same(t *testing.T, want sentMessage, got *nats.Msg) {
	t.Helper()
	if got.Subject != want.subject || string(got.Data) != want.data || len(got.Header) != len(want.header) {
		t.Fatalf("the broker got %q %q %q, the model says %q", got.Subject, got.Header, got.Data, want)
	}
	for name, values := range want.header {
		if !slices.Equal(values, got.Header[name]) {
			t.Fatalf("the broker got header %q %q, the model says %q", name, got.Header[name], values)
		}
	}
	if tokens := strings.Split(got.Reply, "."); tokens[0] != "_INGRESS" || len(tokens) != 4 {
		t.Fatalf("the broker got %q with the reply subject %q", got.Subject, got.Reply)
	}
}

// looked fails if the system account saw anything but the broker's own routine.
func (r *fuzzRig) looked(t *testing.T) {
	t.Helper()
	for {
		select {
		case got := <-r.system:
			if !strings.HasPrefix(got.Subject, "$SYS.SERVER.") && !strings.HasPrefix(got.Subject, "$SYS.ACCOUNT.") {
				t.Fatalf("%s %q reached the system account", got.Subject, got.Data)
			}
		default:
			return
		}
	}
}

// fuzzClient is the client's end of a connection.
type fuzzClient struct {
	conn        net.Conn
	done, ended chan bool // closed: its last messages are answered; its connection has ended

	// Of read, until one of the channels is closed.
	said      []string
	delivered map[string]int // messages, by sid
}

// write sends a text in pieces of the sizes given, in turn.
func (c *fuzzClient) write(pieces, text []byte) {
	for i := 0; len(text) > 0; i++ {
		n := len(text)
		if len(pieces) > 0 {
			n = min(n, int(pieces[i%len(pieces)])+1)
		}
		if _, err := c.conn.Write(text[:n]); err != nil {
			return // the ingress has closed it, or hangs: others notice
		}
		text = text[n:]
	}
}

// passed has messages pass after those of a client that has ended: they go over the same connection to the broker.
func (c *fuzzClient) passed(t *testing.T, tail string) {
	t.Helper()
	_ = c.conn.SetDeadline(time.Now().Add(fuzzLimit))
	text := fmt.Sprintf("PUB plain.tail %d\r\n%s\r\nPUB kept.tail %d\r\n%s\r\n", len(tail), tail, len(tail), tail)
	if _, err := io.WriteString(c.conn, text); err != nil {
		t.Fatalf("another client's connection: %v", err)
	}
}

func (c *fuzzClient) close() {
	if t, ok := c.conn.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // so many of them would use up the ports
	}
	_ = c.conn.Close()
	<-c.ended
}

// read takes what the client is told until it has been told so many things besides messages, and has the last messages.
func (c *fuzzClient) read(things int) {
	defer close(c.ended)
	in := bufio.NewReader(c.conn)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		switch fields := strings.Fields(line); fields[0] {
		case "INFO":
		case "MSG", "HMSG":
			c.delivered[fields[2]]++
			size, _ := strconv.Atoi(fields[len(fields)-1])
			if _, err := in.Discard(size + len("\r\n")); err != nil {
				return
			}
		default:
			c.said = append(c.said, strings.TrimSpace(line))
		}
		if c.delivered["tail-of-the-case"] == 2 && len(c.said) >= things {
			close(c.done)
			_, _ = io.Copy(io.Discard, in)
			return
		}
	}
}

// compare holds what the client was told against the model. Of a TCP connection that was closed while the client was
// still sending, the end may be lost.
func (c *fuzzClient) compare(t *testing.T, m *clientModel, tcp bool) {
	t.Helper()
	lossy := tcp && m.closed != ""
	if len(c.said) > len(m.said) || len(c.said) < len(m.said) && !lossy {
		t.Fatalf("the client was told %q, the model says %q", c.said, m.said)
	}
	for i, got := range c.said {
		if !strings.HasPrefix(got, m.said[i]) {
			t.Fatalf("the client was told %q, the model says %q", c.said, m.said)
		}
	}
	if m.closed != "" {
		return // what was under way is lost
	}
	for _, s := range m.subs {
		least, most := m.deliveries(s.sid)
		if got := c.delivered[s.sid]; !m.unsure[s.sid] && (got < least || got > most) {
			t.Fatalf("subscription %s got %d messages, the model says %d to %d", s.sid, got, least, most)
		}
	}
	for sid := range c.delivered {
		if !slices.ContainsFunc(m.subs, func(s *modelSub) bool { return s.sid == sid }) {
			t.Fatalf("messages for a subscription %q that there is none of", sid)
		}
	}
}

// ingressSeeds are what has misled parsers, here and elsewhere.
func ingressSeeds() [][]byte {
	hpub := func(subject, head, data string) string {
		return fmt.Sprintf("HPUB %s _INBOX.a %d %d\r\n%s%s\r\n", subject, len(head), len(head)+len(data), head, data)
	}
	const hello = "CONNECT {\"headers\":true,\"verbose\":false}\r\nSUB _INBOX.a 1\r\n"
	var all [][]byte
	add := func(texts ...string) { all = append(all, []byte(strings.Join(texts, ""))) }
	for _, subject := range []string{"plain.k", "kept.k"} {
		for _, dest := range []string{"$KV.leasehold.session.n2", "$JS.API.STREAM.PURGE.kept", "$SYS.REQ.SERVER.PING",
			"_R_.x", "_INGRESS.x"} {
			add(hello, hpub(subject, "NATS/1.0\r\nX: a\nNats-Trace-Dest: "+dest+"\r\n\r\n", "x")) // C1
			add(hello, hpub(subject, "NATS/1.0\r\nX: a\rNats-Trace-Dest: "+dest+"\r\n\r\n", "x")) // likewise
			// reply, subject, subscription
			add(hello, "PUB "+subject+" "+dest+" 1\r\nx\r\nPUB "+dest+" 1\r\nx\r\nSUB "+dest+" 2\r\n")
			add(hello, "PUB "+subject+" _INBOX."+dest+" 1\r\nx\r\nSUB _INBOX.> q 2\r\nSUB _INBOX.* 3\r\nUNSUB 3") // in an inbox
		}
		for _, key := range []int{512, 513, 1000, 1100, 4050, 4060, 4070, 4090} { // C2, C3, F1
			k := strings.Repeat("k", key)
			add("CONNECT {}\r\nPUB ", subject, k, " 0\r\n\r\nPING\r\n")
			add("CONNECT {}\r\nSUB _INBOX.> 1\r\nPUB ", subject, k, " _INBOX.a 0\r\n\r\nPUB ", subject, " _INBOX.", k,
				" 0\r\n\r\nPING\r\n")
		}
		add(hello, hpub(subject, "NATS/1.0\r\n"+strings.Repeat("Nats-a: x\r\n", 700)+"\r\n", "x")) // H3
		add(hello, hpub(subject, "NATS/1.0\r\n"+strings.Repeat("a: x\r\n", 700)+"\r\n", "x"))
		add(hello, hpub(subject, "NATS/1.0\r\nX: "+strings.Repeat("h", 7000)+"\r\n\r\n", "no")) // F9
		add(hello, hpub(subject, "NATS/1.0\r\nX:"+strings.Repeat("h", fuzzPayload-16)+"\r\n\r\n", ""))
		add(hello, hpub(subject, "NATS/1.0\r\na b: c\r\n\r\n", "hi")) // M8
		add(hello, hpub(subject, "NATS/1.0\r\nNats-Msg-Id: a\r\nnats-msg-id: b\r\n\r\n", ""),
			hpub(subject, "NATS/1.0\r\n\r\n", ""), hpub(subject, "", "x"))
		add(hello, hpub(subject, "NATS/1.0\r\nNats-Msg-Id: "+strings.Repeat("i", 257)+"\r\n\r\n", ""),
			hpub(subject, "NATS/1.0 503\r\n\r\n", "x"))
		add("pub\t", subject, " \t 3 \nabc\r\nPuB ", subject, "  3\r\nabc\r\n")
		add("PUB ", subject, " 3\r\nabcdePING\r\n")
		add("PUB ", subject, " 3\r\nabc\nPING\r\n")
	}
	// H6
	for _, line := range []string{"PUB plain.* _INBOX.a 1\r\nx", "PUB kept.> _INBOX.a 1\r\nx",
		"PUB plain.a.b _INBOX.a 1\r\nx", "PUB plain. 1\r\nx", "PUB .plain.a 0\r\n", "PUB multi.a.mid.b _INBOX.a 0\r\n",
		"PUB multi.*.mid.b _INBOX.a 0\r\n", "PUB plain.a\rb 0\r\n", "PUB plain.\x00 0\r\n", "PUB plain.\xff 0\r\n",
		"PUB plain.a 99999999\r\n",
		"PUB plain.a 9999999999999999999999\r\n", "PUB plain.a -1\r\n", "PUB plain.a 01\r\nx", "PUB plain.a 36865\r\n",
		"HPUB plain.a 5 3\r\nabc", "MSG plain.a 1 1\r\nx", "HMSG plain.a 1 1 1\r\nx",
		"-ERR 'x'", "+OK", "INFO {}", "A+ x", "RMSG a b 1\r\nx", "\u017fUB _INBOX.a 2", " CONNECT {}",
		"CONNECT {\"nkey\":\"U\"}", "CONNECT {\"user\":\"@http\"}", "CONNECT null", "CONNECT",
		"UNSUB 1 1\r\nPUB plain.a _INBOX.a 0\r\n\r\nPUB plain.a _INBOX.a 0\r\n", "UNSUB 1\r\nSUB _INBOX.*.x 1",
		"SUB _INBOX. 2", "SUB _INBOX..a 2", "SUB _INBOX.>.a 2", "SUB _INBOX.a 123456789012345678901"} {
		add(line, "\r\nPING\r\n")
		add(hello, line, "\r\nPING\r\n")
	}
	return append(all, bytes.Repeat([]byte("PING\r\n"), 300), bytes.Repeat([]byte("x"), 5000), nil)
}

package attack

import (
	"bufio"
	"cmp"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
)

// answerLimit is how long an attacker waits for an answer; it catches hangs.
const answerLimit = 20 * time.Second

// wire is a NATS client that sends bytes as they are given.
type wire struct {
	conn net.Conn
	in   *bufio.Reader
	seq  uint64 // Of the message stored last.
}

// Logins of attackers. Both local programs and users may be attackers.
const (
	anonymous = `CONNECT {"headers":true,"verbose":false}` + "\r\n"
	mailbox   = "_INBOX.attack."
	subscribe = "SUB " + mailbox + "> 1\r\n"
)

// dial connects from a loopback address; "" is any. It does not log in.
func (a *arena) dial(from string) (*wire, error) {
	d := net.Dialer{Timeout: answerLimit}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	conn, err := d.Dial("tcp", a.address())
	if err != nil {
		return nil, err
	}
	w := &wire{conn: conn, in: bufio.NewReader(conn)}
	if err := w.greet(a.tls); err != nil {
		conn.Close()
		return nil, err
	}
	return w, nil
}

// greet reads the greeting and, where the node asks for that, goes on over TLS.
func (w *wire) greet(secure bool) error {
	if err := w.conn.SetDeadline(time.Now().Add(answerLimit)); err != nil {
		return err
	}
	if _, err := w.in.ReadString('\n'); err != nil {
		return fmt.Errorf("greeting: %w", err)
	}
	if !secure {
		return nil
	}
	conn := tls.Client(w.conn, &tls.Config{InsecureSkipVerify: true}) // The certificate is not what is tested.
	if err := conn.Handshake(); err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	w.conn, w.in = conn, bufio.NewReader(conn)
	return nil
}

// say sends lines. A connection that the node has closed shows when it is read.
func (w *wire) say(lines string) { _, _ = io.WriteString(w.conn, lines) }

// hear waits for the next answer: a message, an error, or the end. A PONG is one only for who asks for it.
func (w *wire) hear(pong bool) string {
	_ = w.conn.SetReadDeadline(time.Now().Add(answerLimit)) // Fails only if it is closed.
	for {
		line, err := w.in.ReadString('\n')
		if err != nil {
			return howEnded(err)
		}
		switch fields := strings.Fields(line); cmp.Or(fields[0], "") {
		case "MSG", "HMSG":
			return w.message(fields)
		case "-ERR":
			return strings.TrimSpace(line)
		case "PING":
			w.say("PONG\r\n")
		case "PONG":
			if pong {
				return "pong"
			}
		}
	}
}

func howEnded(err error) string {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return "no answer"
	}
	return "closed"
}

// message reads the rest of a message and says in short what it is.
func (w *wire) message(fields []string) string {
	size, err := strconv.Atoi(fields[len(fields)-1])
	body := make([]byte, size+2)
	if err == nil {
		_, err = io.ReadFull(w.in, body)
	}
	if err != nil {
		return howEnded(err)
	}
	if fields[0] == "HMSG" {
		return "headers " + strings.TrimSpace(string(body[:min(len(body), 20)]))
	}
	var m struct {
		Error *struct {
			Code    int `json:"code"`
			ErrCode int `json:"err_code"`
		} `json:"error"`
		Seq uint64 `json:"seq"`
	}
	switch err := json.Unmarshal(body, &m); {
	case err != nil:
		return fmt.Sprintf("message %.40q", body)
	case m.Error != nil:
		return fmt.Sprintf("refused %d %d", m.Error.Code, m.Error.ErrCode)
	case m.Seq > 0:
		w.seq = m.Seq
		return "stored"
	}
	return fmt.Sprintf("message %.40q", body)
}

func (w *wire) close() { w.conn.Close() }

// ask sends one message over a connection of its own and returns what comes back.
func (a *arena) ask(message string) string {
	w, err := a.dial("")
	if err != nil {
		return err.Error()
	}
	defer w.close()
	w.say(anonymous + subscribe + message)
	defer func() { a.seq = w.seq }()
	return w.hear(false)
}

// pub is a message that asks for an answer.
func pub(subject, payload string) string {
	return fmt.Sprintf("PUB %s %s1 %d\r\n%s\r\n", subject, mailbox, len(payload), payload)
}

// hpub is a message with a header block, which is sent as it is.
func hpub(subject, block, payload string) string {
	return fmt.Sprintf("HPUB %s %s1 %d %d\r\n%s%s\r\n", subject, mailbox, len(block), len(block)+len(payload), block,
		payload)
}

// block is a header block of these lines, each of which ends as it should.
func block(lines ...string) string {
	return "NATS/1.0\r\n" + strings.Join(append(lines, "", ""), "\r\n")
}

// probe is something sent, and what must come back, as a regular expression.
type probe struct{ sent, message, want string }

// What may come back of a message that must not be stored.
const (
	refused       = `^refused 4`
	refusedOrLost = `^(refused 4|-ERR|closed)` // Where protocol leaves the node no place for an answer.
	stored        = `^stored`
)

func (a *arena) send(probes ...probe) {
	a.T.Helper()
	for _, p := range probes {
		a.note(p.sent, a.ask(p.message), p.want)
	}
}

// note writes down what was answered and holds it against what must be.
func (a *arena) note(sent, answered, want string) {
	a.T.Helper()
	a.rows = append(a.rows, attackRow{mode: a.mode, id: a.id, sent: brief(sent), answered: brief(answered)})
	if !regexp.MustCompile(want).MatchString(answered) {
		a.T.Errorf("%s %s: %s: answered %.300q, want %s", a.mode, a.id, sent, answered, want)
	}
}

// brief makes a text fit for a cell of the table.
func brief(text string) string {
	text = strings.ToValidUTF8(text, "?")
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '.'
		}
		return r
	}, text)
	if len(text) > 70 {
		return text[:70] + "…"
	}
	return text
}

func TestWireAnswersAreTold(t *testing.T) {
	msg := func(data string) string { return fmt.Sprintf("MSG _INBOX.a 1 %d\r\n%s\r\n", len(data), data) }
	for said, want := range map[string]string{
		msg(`{"stream":"events","seq":12}`):                         "stored",
		"PING\r\n" + msg(`{"error":{"code":400,"err_code":20001}}`): "refused 400 20001",
		"+OK\r\n-ERR 'Permissions Violation for Publish to \"a\"'\r\n" +
			msg("x"): "-ERR 'Permissions Violation for Publish to \"a\"'",
		"HMSG _INBOX.a 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n": "headers NATS/1.0 503",
		"PONG\r\n":       "closed",
		msg("x")[:12]:    "closed",
		msg("hello you"): `message "hello you\r\n"`,
	} {
		here, there := net.Pipe()
		go func() { io.Copy(io.Discard, there) }()
		go func() { io.WriteString(there, said); there.Close() }()
		w := &wire{conn: here, in: bufio.NewReader(here)}
		if got := w.hear(false); got != want {
			t.Errorf("%q is told as %q, want %q", said, got, want)
		}
		w.close()
	}
}

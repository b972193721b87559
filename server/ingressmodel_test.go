package server_test

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// What the rig of FuzzIngress lets clients publish to. Nobody stores plain and multi, a stream stores kept.
var fuzzSubjects = []string{"plain.*", "multi.*.mid.*", "kept.*"}

// fuzzPayload is the rig's max_payload: more than all headers may take.
const fuzzPayload = 36 << 10

// clientModel says what the ingress should make of a client's bytes. It is written from the allow-list and the
// protocol's description, with plain tools of the standard library, and shares nothing with the ingress.
type clientModel struct {
	inside bool // made by Dial: the client does not need to log in

	loggedIn, verbose bool
	op                int // number of the operation
	sent              []sentMessage
	said              []string // +OK, PONG and -ERR, in order
	subs              []*modelSub
	unsure            map[string]bool // sids that were used again when a maximum may have ended them, or not
	answers           []modelAnswer

	closed  string // text of the final -ERR, "" while the connection is open
	missing string // what completes the last operation, "" if it is complete
}

type sentMessage struct {
	subject string
	header  map[string][]string
	data    string
}

// modelSub is one life of a subscription, from one operation to another.
type modelSub struct {
	sid, subject string
	from, to     int
	max          int // of UNSUB, 0: none
}

// modelAnswer is what one publish gets: at once if it was refused, at some time later if it was passed on.
type modelAnswer struct {
	reply string
	op    int
	later bool
}

const forever = 1 << 30

// run reads everything that the client says.
func (m *clientModel) run(text []byte) {
	m.unsure = map[string]bool{}
	for len(text) > 0 && m.closed == "" && m.missing == "" {
		m.op++
		end := bytes.IndexByte(text, '\n')
		if end > 4096 || end < 0 && len(text) > 4096 {
			m.fail("Maximum Control Line Exceeded")
			return
		}
		if end < 0 {
			m.missing = "\r\n"
			return
		}
		line := strings.TrimSuffix(string(text[:end]), "\r")
		text = m.operate(line, text[end+1:])
	}
}

func (m *clientModel) fail(why string) {
	m.closed = why
	m.said = append(m.said, "-ERR '"+why+"'")
}

func (m *clientModel) say(line string) { m.said = append(m.said, line) }

func (m *clientModel) ok() {
	if m.verbose {
		m.say("+OK")
	}
}

// operate returns what is left of rest, which follows the operation's line.
func (m *clientModel) operate(line string, rest []byte) []byte {
	fields := splitBlanks(line)
	if len(fields) == 0 {
		m.fail("Unknown Protocol Operation")
		return nil
	}
	op, args := asciiUpper(fields[0]), fields[1:]
	if op == "CONNECT" {
		m.connect(strings.TrimLeft(line, " \t")[len("CONNECT"):])
		return rest
	}
	if !m.loggedIn {
		m.loggedIn, m.verbose = true, true
	}
	switch op {
	case "PUB":
		return m.publish(args, rest, 1)
	case "HPUB":
		return m.publish(args, rest, 2)
	case "SUB":
		m.subscribe(args)
	case "UNSUB":
		m.unsubscribe(args)
	case "PING":
		m.say("PONG")
	case "PONG":
	default:
		m.fail("Unknown Protocol Operation")
	}
	return rest
}

func splitBlanks(line string) (fields []string) {
	for _, part := range strings.Split(strings.ReplaceAll(line, "\t", " "), " ") {
		if part != "" {
			fields = append(fields, part)
		}
	}
	return fields
}

func asciiUpper(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'a' <= c && c <= 'z' {
			b[i] = c - 'a' + 'A'
		}
	}
	return string(b)
}

func (m *clientModel) connect(text string) {
	o := struct {
		Verbose  bool   `json:"verbose"`
		Headers  bool   `json:"headers"`
		NoResp   bool   `json:"no_responders"`
		User     string `json:"user"`
		Password string `json:"pass"`
		Token    string `json:"auth_token"`
		Key      string `json:"nkey"`
		Sig      string `json:"sig"`
		JWT      string `json:"jwt"`
	}{Verbose: true}
	switch {
	case json.Unmarshal([]byte(strings.TrimSpace(text)), &o) != nil:
		m.fail("Parser Error")
	case m.loggedIn:
		m.fail("Unknown Protocol Operation")
	case !m.inside && o.User+o.Password+o.Token+o.Key+o.JWT != "": // the rig has nobody with credentials
		m.fail("Authorization Violation")
	default:
		m.loggedIn, m.verbose = true, o.Verbose
		m.ok()
	}
}

var nineDigits = regexp.MustCompile(`^[0-9]{1,9}$`)

func sizeOf(s string) (n int, ok bool) {
	n, err := strconv.Atoi(s)
	return n, err == nil && nineDigits.MatchString(s)
}

// publish handles PUB and HPUB, with one and two sizes.
func (m *clientModel) publish(args []string, rest []byte, sizes int) []byte {
	if len(args) != 1+sizes && len(args) != 2+sizes {
		m.fail("Parser Error")
		return nil
	}
	subject, reply := args[0], ""
	if len(args) == 2+sizes {
		reply = args[1]
	}
	size, ok := sizeOf(args[len(args)-1])
	head, ok2 := sizeOf(args[len(args)-sizes])
	switch {
	case !ok || !ok2 || sizes == 2 && head > size:
		m.fail("Parser Error")
		return nil
	case size > fuzzPayload+(64<<10):
		m.fail("Maximum Payload Violation")
		return nil
	}
	verdict := judge(subject, reply, size)
	if have := len(rest); have < size+2 {
		m.missing = strings.Repeat("x", max(0, size-have)) + "\r\n"[max(0, have-size):]
		return nil
	}
	body, after := rest[:size], rest[size+2:]
	if verdict == pass && string(rest[size:size+2]) != "\r\n" {
		m.fail("Parser Error")
		return nil
	}
	s := sentMessage{subject: subject, data: string(body)}
	if sizes == 2 && verdict == pass {
		var length int
		s.data = string(body[head:])
		if s.header, length, ok = modelHeaders(string(body[:head])); !ok || length+len(s.data) > fuzzPayload {
			verdict = refuse
		}
	}
	m.judged(verdict, s, reply)
	return after
}

// judged notes what a message and its sender come to.
func (m *clientModel) judged(verdict int, s sentMessage, reply string) {
	switch {
	case verdict == forbid || verdict == refuse && reply == "":
		m.say("-ERR 'Permissions Violation for Publish")
	case verdict == refuse:
		m.answers = append(m.answers, modelAnswer{reply, m.op, false})
	default:
		m.sent = append(m.sent, s)
		m.answers = append(m.answers, modelAnswer{reply, m.op, true})
		m.ok()
	}
}

func (m *clientModel) subscribe(args []string) {
	if len(args) < 2 || len(args) > 3 || !shortID.MatchString(latin(args[len(args)-1])) {
		m.fail("Parser Error")
		return
	}
	subject, sid := args[0], args[len(args)-1]
	rest, own := strings.CutPrefix(subject, "_INBOX.")
	switch {
	case len(args) == 3 || !own || rest == "" || len(subject) > 1024:
		m.say("-ERR 'Permissions Violation for Subscription")
	case m.live(sid) != nil:
		m.unsure[sid] = m.unsure[sid] || m.live(sid).max > 0
		m.ok()
	case slices.Contains(strings.Split(subject, "."), "") ||
		slices.Contains(strings.Split(strings.TrimSuffix(subject, ".>"), "."), ">"):
		m.say("-ERR 'Invalid Subject'")
	default:
		m.subs = append(m.subs, &modelSub{sid: sid, subject: subject, from: m.op, to: forever})
		m.ok()
	}
}

// live is the subscription that has a sid now. One with a maximum may have ended.
func (m *clientModel) live(sid string) *modelSub {
	for _, s := range m.subs {
		if s.sid == sid && s.to == forever {
			return s
		}
	}
	return nil
}

func (m *clientModel) unsubscribe(args []string) {
	if len(args) < 1 || len(args) > 2 {
		m.fail("Parser Error")
		return
	}
	left := 0
	if len(args) == 2 {
		n, ok := sizeOf(args[1])
		if !ok {
			m.fail("Parser Error")
			return
		}
		left = n
	}
	if s := m.live(args[0]); s != nil {
		if s.max = left; left == 0 {
			s.to = m.op
		}
	}
	m.ok()
}

// deliveries says how many messages the subscriptions of a sid get at least and at most.
func (m *clientModel) deliveries(sid string) (least, most int) {
	for _, s := range m.subs {
		if s.sid != sid {
			continue
		}
		sure, maybe := 0, 0
		for _, a := range m.answers {
			switch {
			case !subjectMatches(s.subject, a.reply) || a.reply == "":
			case !a.later:
				if s.from < a.op && a.op < s.to {
					sure++
				}
			case s.from < a.op && s.to == forever:
				sure++
			case s.to > a.op:
				maybe++ // subscribed or unsubscribed while the answer was on its way
			}
		}
		maybe += sure
		if s.max > 0 {
			sure = 0
		}
		least, most = least+sure, most+maybe
	}
	return least, most
}

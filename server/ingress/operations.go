package ingress

import (
	"bytes"
	"encoding/json"
	"strings"
)

// maxLine is the longest protocol line of a client, as the broker has it.
const maxLine = 4096

// maxFields is how many arguments an operation can have, and one more, so that too many are seen.
const maxFields = 6

// split cuts a line at blanks and tabs. What is beyond maxFields is left in the last.
func split(line []byte, fields *[maxFields][]byte) (n int) {
	for n < maxFields {
		for len(line) > 0 && (line[0] == ' ' || line[0] == '\t') {
			line = line[1:]
		}
		if len(line) == 0 {
			return n
		}
		end := bytes.IndexAny(line, " \t")
		if end < 0 || n == maxFields-1 {
			end = len(line)
		}
		fields[n] = line[:end]
		line = line[end:]
		n++
	}
	return n
}

// consume handles every operation that has been received as a whole.
func (c *client) consume() error {
	for {
		if c.skip > 0 && !c.drop() {
			return nil
		}
		data := c.buf[c.r:c.w]
		if len(data) < c.need {
			return nil
		}
		end := bytes.IndexByte(data, '\n')
		if end < 0 && len(data) > maxLine || end > maxLine {
			return errControlLine
		}
		if end < 0 {
			return nil
		}
		line := data[:end]
		if end > 0 && line[end-1] == '\r' {
			line = line[:end-1]
		}
		done, err := c.operate(line, data[end+1:])
		if err != nil || done == incomplete {
			return err
		}
		c.r += end + 1 + done
		c.need = 0
		c.partial.Store(0)
		if len(c.batch) >= maxBatch {
			if err := c.pass(); err != nil {
				return err
			}
		}
	}
}

// incomplete says that an operation waits for more of its message; need says how much.
const incomplete = -1

// drop drops what has come of a refused message and says whether all of it has.
func (c *client) drop() bool {
	n := min(c.skip, c.w-c.r)
	c.r += n
	c.skip -= n
	if c.skip > 0 {
		return false
	}
	c.partial.Store(0)
	return true
}

// operate handles one operation. rest is what was received behind its line, and done how much of it belongs to it.
func (c *client) operate(line, rest []byte) (done int, err error) {
	var fields [maxFields][]byte
	n := split(line, &fields)
	if n == 0 {
		return 0, errOperation
	}
	op, args := operation(fields[0]), fields[1:n]
	if op == "CONNECT" {
		_, text, _ := bytes.Cut(line, fields[0])
		return 0, c.connectAs(bytes.TrimSpace(text))
	}
	if c.up == nil {
		if err := c.login(connectOptions{Verbose: true}); err != nil {
			return 0, err
		}
	}
	switch op {
	case "PUB":
		return c.publish(args, rest, false)
	case "HPUB":
		return c.publish(args, rest, true)
	}
	c.others++
	switch op {
	case "SUB":
		return 0, c.subscribe(args)
	case "UNSUB":
		return 0, c.unsubscribe(args)
	case "PING":
		if len(c.user.Serve) > 0 { // after it a service is sure of its subscriptions, and may drain
			c.askBroker(func() { c.say("PONG\r\n") })
			return 0, nil
		}
		c.say("PONG\r\n")
		return 0, nil
	case "PONG":
		return 0, nil
	}
	return 0, errOperation
}

// operations are what a client may say.
var operations = []string{"PUB", "HPUB", "SUB", "UNSUB", "PING", "PONG", "CONNECT"}

// operation is the protocol's spelling of a client's word, whose letters may be of either case; "" if it is not a valid one.
// The lengths must be equal: Unicode folds letters to ours that are not ASCII, and those have more bytes.
func operation(word []byte) string {
	for _, op := range operations {
		if len(op) == len(word) && bytes.EqualFold(word, []byte(op)) {
			return op
		}
	}
	return ""
}

// connectOptions is what a client says of itself.
type connectOptions struct {
	Verbose      bool   `json:"verbose"`
	Headers      bool   `json:"headers"`
	NoResponders bool   `json:"no_responders"`
	User         string `json:"user"`
	Pass         string `json:"pass"`
	Token        string `json:"auth_token"`
	NKey         string `json:"nkey"`
	Signature    string `json:"sig"`
	JWT          string `json:"jwt"`
}

func (c *client) connectAs(text []byte) error {
	o := connectOptions{Verbose: true}
	if err := json.Unmarshal(text, &o); err != nil {
		return errParser
	}
	if c.loggedIn.Load() {
		return errOperation // one connection, one user
	}
	if err := c.login(o); err != nil {
		return err
	}
	c.ok()
	return nil
}

// ok confirms an operation to a client that wants that.
func (c *client) ok() {
	if c.opt.Verbose {
		c.say("+OK\r\n")
	}
}

// info is what a client is told first. It says no more of the node than clients need.
type info struct {
	ID           string `json:"server_id"`
	Name         string `json:"server_name"`
	Version      string `json:"version"`
	Proto        int    `json:"proto"`
	Headers      bool   `json:"headers"`
	MaxPayload   int    `json:"max_payload"`
	JetStream    bool   `json:"jetstream"`
	ClientID     uint64 `json:"client_id"`
	AuthRequired bool   `json:"auth_required,omitempty"`
	TLSRequired  bool   `json:"tls_required,omitempty"`
	TLSVerify    bool   `json:"tls_verify,omitempty"`
	TLSAvailable bool   `json:"tls_available,omitempty"`
	Nonce        string `json:"nonce,omitempty"`
}

// release is a version without its last number: what clients decide by it is the same for all patches, and which of them a
// node lacks is not for those who have not logged in.
func release(version string) string {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 3 {
		return version
	}
	return parts[0] + "." + parts[1] + ".0"
}

func (c *client) info() string {
	in := c.in
	i := info{
		ID: in.opt.Name, Name: in.opt.Name, Version: release(in.opt.Version), Proto: 1, Headers: true, JetStream: true,
		MaxPayload: in.opt.Limits.MaxPayload, ClientID: c.id,
	}
	if c.user == nil { // not from inside
		i.AuthRequired = in.users[Anonymous] == nil
		i.Nonce = c.nonce
		if t := in.opt.TLS; t != nil {
			i.TLSRequired, i.TLSAvailable, i.TLSVerify = true, true, t.ClientCAs != nil
		}
	}
	text, err := json.Marshal(i)
	if err != nil {
		panic(err) // a struct of strings and numbers
	}
	return "INFO " + string(text) + "\r\n"
}

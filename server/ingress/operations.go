package ingress

import (
	"bytes"
	"encoding/json"
	"leasehold/server/ingress/wire"
)

// consume handles every operation that has been received as a whole.
func (c *client) consume() error {
	for {
		if c.buf.skip > 0 {
			if !c.buf.drop() {
				return nil
			}
			c.pulse.partial.Store(0)
		}
		data := c.buf.unread()
		if len(data) < c.buf.need {
			return nil
		}
		end := bytes.IndexByte(data, '\n')
		if end < 0 && len(data) > wire.MaxLine || end > wire.MaxLine {
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
		c.buf.consumed(end + 1 + done)
		c.pulse.partial.Store(0)
		if c.batch.full() {
			if err := c.batch.forward(c.up); err != nil {
				return err
			}
		}
	}
}

// incomplete says that an operation waits for more of its message: until buf.need bytes are there.
const incomplete = -1

// operate handles one operation. rest is what was received after its line; done is how much of that belongs to it.
func (c *client) operate(line, rest []byte) (done int, err error) {
	var fields [wire.MaxFields][]byte
	n := wire.Split(line, &fields)
	if n == 0 {
		return 0, errOperation
	}
	op, args := wire.Operation(fields[0]), fields[1:n]
	if op == "CONNECT" {
		_, text, _ := bytes.Cut(line, fields[0])
		return 0, c.connectAs(bytes.TrimSpace(text))
	}
	if c.up == nil {
		if err := c.login(wire.ConnectOptions{Verbose: true}); err != nil {
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
			c.batch.askBroker(func() { c.link.sendLine("PONG\r\n") })
			return 0, nil
		}
		c.link.sendLine("PONG\r\n")
		return 0, nil
	case "PONG":
		return 0, nil
	}
	return 0, errOperation
}

func (c *client) connectAs(text []byte) error {
	o := wire.ConnectOptions{Verbose: true}
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
		c.link.sendLine("+OK\r\n")
	}
}

// info returns the INFO line for a client. One that has a user already, from inside, need not authenticate.
func (in *Ingress) info(id uint64, nonce string, hasUser bool) string {
	i := wire.Info{
		ID: in.opt.Name, Name: in.opt.Name, Version: wire.Release(in.opt.Version), Proto: 1, Headers: true, JetStream: true,
		MaxPayload: in.opt.Limits.MaxPayload, ClientID: id,
	}
	if !hasUser {
		i.AuthRequired = in.users[Anonymous] == nil
		i.Nonce = nonce
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

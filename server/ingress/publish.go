package ingress

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"leasehold/internal/admission"
	"leasehold/server/ingress/wire"
)

// publish handles PUB and HPUB.
func (c *client) publish(args [][]byte, rest []byte, hasHeader bool) (done int, err error) {
	sizes := 1
	if hasHeader {
		sizes = 2
	}
	if len(args) < 1+sizes || len(args) > 2+sizes {
		return 0, errParser
	}
	p := publication{subject: args[0]}
	if len(args) == 2+sizes {
		p.reply = args[1]
	}
	size, ok1 := wire.Size(args[len(args)-1])
	head, ok2 := wire.Size(args[len(args)-sizes])
	if !hasHeader {
		head = 0
	}
	if !ok1 || !ok2 || head > size {
		return 0, errParser
	}
	p.size = size
	if c.buf.need == 0 { // seen for the first time
		if refused, err := c.early(p); err != nil || refused {
			c.buf.skip = size + len("\r\n")
			return 0, err
		}
	}
	if c.buf.need = len(c.buf.lineOf(rest)) + size + len("\r\n"); len(rest) < size+len("\r\n") {
		return incomplete, nil
	}
	if string(rest[size:size+2]) != "\r\n" {
		return 0, errParser
	}
	p.header, p.data = rest[:head], rest[head:size]
	return size + len("\r\n"), c.admit(p, hasHeader)
}

// publication is a message that a client sends.
type publication struct {
	subject, reply, header, data []byte
	size                         int // header and data
}

// payloadSlack is by how much a message may exceed the limit and still be refused with an answer. Beyond that the
// connection ends, as at a broker.
const payloadSlack = 64 << 10

// early refuses a message by its line, before any of it is buffered.
func (c *client) early(p publication) (refused bool, err error) {
	limit := c.in.opt.Limits.MaxPayload
	if p.size > limit+payloadSlack {
		return false, errPayload
	}
	if len(c.user.Serve) > 0 {
		if p.size > limit || !c.answers(p) {
			return true, c.forbid(notPermitted, "Publish to", p.subject)
		}
		return false, nil
	}
	pattern, match := c.user.topic(p.subject)
	if pattern == "" {
		return true, c.forbid(notPermitted, "Publish to", p.subject)
	}
	if r := admission.Reply(text(p.reply), inboxes); r != nil {
		return true, c.forbid(r.Reason, "Publish with Reply of", p.reply)
	}
	r := admission.Subject(text(p.subject))
	if r == nil && !match {
		r = admission.SubjectInvalid.Refuse("subject %s is not one of the topic's: %s", admission.Quote(p.subject), pattern)
	}
	if r == nil {
		r = wire.KeyLength(pattern, text(p.subject))
	}
	if r == nil {
		r = admission.Payload(int64(p.size), int64(limit))
	}
	if r != nil {
		return true, c.refuse(p, r)
	}
	return false, nil
}

// admit rebuilds a message and adds it to the batch for the broker, or refuses it.
func (c *client) admit(p publication, hasHeader bool) error {
	if hasHeader {
		var r *admission.Refusal
		if c.header, r = c.user.rebuild(c.header[:0], p.header); r != nil {
			return c.refuse(p, r)
		}
	}
	size := len(p.data)
	if hasHeader {
		size += len(c.header)
	}
	if limit := c.in.opt.Limits.MaxPayload; size > limit { // a header line grows by a blank
		return c.refuse(p, admission.Payload(int64(size), int64(limit)))
	}
	reply := []byte(nil)
	if len(c.user.Serve) == 0 {
		n, err := c.count(p.reply, size)
		if err != nil {
			return err
		}
		reply = n
	}
	if hasHeader {
		c.batch.data = appendWithHeader(c.batch.data, p, reply, c.header)
	} else {
		c.batch.data = appendPlain(c.batch.data, p, reply)
	}
	c.ok()
	return nil
}

// appendPlain appends a message without headers, as the broker is sent it.
func appendPlain(b []byte, p publication, reply []byte) []byte {
	b = append(append(b, "PUB "...), p.subject...)
	b = append(append(append(b, ' '), reply...), ' ')
	b = append(strconv.AppendInt(b, int64(len(p.data)), 10), "\r\n"...)
	return append(append(b, p.data...), "\r\n"...)
}

// appendWithHeader is appendPlain of a message with headers.
func appendWithHeader(b []byte, p publication, reply, header []byte) []byte {
	b = append(append(b, "HPUB "...), p.subject...)
	b = append(append(append(b, ' '), reply...), ' ')
	b = append(strconv.AppendInt(b, int64(len(header)), 10), ' ')
	b = append(strconv.AppendInt(b, int64(len(header)+len(p.data)), 10), "\r\n"...)
	return append(append(append(b, header...), p.data...), "\r\n"...)
}

// count takes room for a message in the window and the budget, waiting for it if need be, and returns the reply subject
// for the broker's answer.
func (c *client) count(reply []byte, size int) ([]byte, error) {
	if !c.hasCapacity() || !c.in.inflight.Try(&c.user.pace, size) {
		if err := c.waitForCapacity(size); err != nil {
			return nil, err
		}
	}
	c.link.mu.Lock()
	if c.link.ended {
		c.link.mu.Unlock()
		c.in.inflight.Give(&c.user.pace, 1, size)
		return nil, errEnded
	}
	n := c.window.Add(reply, size, c.in.since(time.Now()))
	c.link.mu.Unlock()
	c.user.published.Store(c.in.now.Load())
	c.inbox = append(c.inbox[:len(c.up.inbox)], c.idText...)
	c.inbox = wire.AppendNumber(c.inbox, n)
	return c.inbox, nil
}

func (c *client) hasCapacity() bool {
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	return c.hasCapacityLocked()
}

func (c *client) hasCapacityLocked() bool {
	return !c.window.Full() && len(c.link.out)+c.window.Owed < maxOut
}

// waitForCapacity forwards the batch first, since only the answers to it make room.
func (c *client) waitForCapacity(size int) error {
	if err := c.batch.forward(c.up); err != nil {
		return err
	}
	c.pulse.waiting.Store(true)
	defer c.pulse.resume()
	c.link.mu.Lock()
	for !c.hasCapacityLocked() && !c.link.ended {
		c.link.room.Wait()
	}
	ended := c.link.ended
	c.link.mu.Unlock()
	if ended || !c.in.inflight.Wait(&c.user.pace, size, c.link.hasEnded) {
		return errEnded
	}
	return nil
}

// answer passes the broker's answer to message n on to the client.
func (c *client) answer(n uint64, m wire.Message) {
	c.link.mu.Lock()
	s := c.window.Settle(n)
	if s == nil {
		c.link.mu.Unlock()
		return
	}
	size, sent, kept := s.Size, s.Sent, true
	if len(s.Reply) > 0 {
		kept = c.subs.deliver(&c.link, s.Reply, m, &c.opt)
		s.Forget()
	}
	over := c.link.ended && c.window.Open == 0
	c.link.room.Signal()
	c.link.mu.Unlock()
	c.in.inflight.Answered(&c.user.pace, size, sent, c.in.since(time.Now()))
	if over {
		c.release()
	}
	if !kept {
		c.endSlow()
	}
}

// refuse answers a message as the broker would, if it was sent with a reply subject.
func (c *client) refuse(p publication, r *admission.Refusal) error {
	c.others++
	c.in.refusals.count(c.user.String(), r.Reason, r.Description)
	if len(p.reply) == 0 {
		c.link.sendLine(fmt.Sprintf("-ERR 'Permissions Violation for Publish to %q: %s'\r\n",
			wire.Quotable(wire.Shorten(string(p.subject))), wire.Quotable(r.Error())))
		return nil
	}
	answer, err := json.Marshal(wire.RefusalAnswer{Error: wire.RefusalError{Code: r.Code, ErrCode: r.ErrCode,
		Description: r.Description}})
	if err != nil {
		return err
	}
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	if !c.subs.deliver(&c.link, p.reply, wire.Message{Data: answer}, &c.opt) {
		c.in.refusals.count(c.user.String(), "slow_consumer", "")
		return errSlow
	}
	return nil
}

// notPermitted is the reason for a subject that is not on the user's list.
const notPermitted = "not_permitted"

// forbid tells the client, with the broker's error, that it may not use a subject. The connection stays open.
func (c *client) forbid(reason, what string, subject []byte) error {
	c.others++
	c.in.refusals.count(c.user.String(), reason, what+" "+strconv.Quote(wire.Shorten(string(subject))))
	c.link.sendLine(fmt.Sprintf("-ERR 'Permissions Violation for %s %q'\r\n", what,
		wire.Quotable(wire.Shorten(string(subject)))))
	return nil
}

// text reads bytes as a string without a copy, for a call that does not keep it.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// inboxes is the prefix of every reply subject of a client.
const inboxes = "_INBOX."

// topic returns the pattern of the user's topics that a subject matches; or, with match false, one whose fixed prefix
// the subject has, or "".
func (u *user) topic(subject []byte) (near string, match bool) {
	for _, p := range u.Publish {
		if wire.Matches(p, text(subject)) {
			return p, true
		}
		if fixed, _, wild := strings.Cut(p, "*"); wild && fixed != "" && strings.HasPrefix(text(subject), fixed) {
			near = p
		}
	}
	return near, false
}

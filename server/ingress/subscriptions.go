package ingress

import (
	"bytes"

	"github.com/nats-io/nats-server/v2/server/gsl"

	"leasehold/internal/admission"
	"leasehold/server/ingress/wire"
)

// subscriptions are those of a publisher, to its inbox. The broker does not know of them. The lock of the client's link
// guards them.
type subscriptions struct {
	bySid   map[string]*subscription
	matches *gsl.GenericSublist[*subscription]
	done    []*subscription // scratch of deliver
}

type subscription struct {
	sid, subject string
	got          int // messages
	most         int // after which it ends, 0: no end
}

func (s *subscriptions) add(sub *subscription) error {
	if s.bySid == nil {
		s.bySid, s.matches = map[string]*subscription{}, gsl.NewSublist[*subscription]()
	}
	if err := s.matches.Insert(sub.subject, sub); err != nil {
		return err
	}
	s.bySid[sub.sid] = sub
	return nil
}

func (s *subscriptions) remove(sub *subscription) {
	delete(s.bySid, sub.sid)
	_ = s.matches.Remove(sub.subject, sub)
}

// subscribe handles SUB.
func (c *client) subscribe(args [][]byte) error {
	if len(args) < 2 || len(args) > 3 || !wire.IsSid(args[len(args)-1]) {
		return errParser
	}
	subject, sid, queue := args[0], string(args[len(args)-1]), []byte(nil)
	if len(args) == 3 {
		queue = args[1]
	}
	if len(c.user.Serve) > 0 {
		return c.serveRequests(subject, queue, sid)
	}
	rest, own := bytes.CutPrefix(subject, []byte(inboxes))
	if !own || queue != nil || len(subject) > admission.MaxSubject || len(rest) == 0 {
		return c.forbid(notPermitted, "Subscription to", subject)
	}
	c.link.mu.Lock()
	if c.subs.bySid[sid] != nil {
		c.link.mu.Unlock()
		c.ok()
		return nil // as the broker has it: the first stays
	}
	if len(c.subs.bySid) >= c.in.opt.Limits.Subscriptions {
		c.link.mu.Unlock()
		return c.tooMany()
	}
	if !wire.IsPattern(subject) {
		c.link.mu.Unlock()
		c.link.sendLine("-ERR 'Invalid Subject'\r\n")
		return nil
	}
	err := c.subs.add(&subscription{sid: sid, subject: string(subject)})
	c.link.mu.Unlock()
	if err != nil {
		return err
	}
	c.ok()
	return nil
}

func (c *client) tooMany() error {
	c.in.refusals.count(c.user.String(), "too_many_subscriptions", "")
	c.link.sendLine("-ERR 'maximum subscriptions exceeded'\r\n")
	return nil
}

// unsubscribe handles UNSUB.
func (c *client) unsubscribe(args [][]byte) error {
	if len(args) < 1 || len(args) > 2 {
		return errParser
	}
	most := 0
	if len(args) == 2 {
		n, ok := wire.Size(args[1])
		if !ok {
			return errParser
		}
		most = n
	}
	if len(c.user.Serve) > 0 {
		c.serveNoMore(string(args[0]), most)
		c.ok()
		return nil
	}
	c.link.mu.Lock()
	if sub := c.subs.bySid[string(args[0])]; sub != nil {
		if sub.most = most; most <= sub.got { // those before count, as at a broker
			c.subs.remove(sub)
		}
	}
	c.link.mu.Unlock()
	c.ok()
	return nil
}

// noResponders begins the header block of the broker's reply to a message without a receiver.
var noResponders = []byte("NATS/1.0 503")

// deliver sends a message to each subscription that a subject matches, and reports whether there was room for all of
// it. The caller has the link's lock.
func (s *subscriptions) deliver(l *link, subject []byte, m wire.Message, o *wire.ConnectOptions) bool {
	if l.ended || s.matches == nil {
		return true
	}
	if bytes.HasPrefix(m.Header, noResponders) && !o.NoResponders {
		return true
	}
	s.matches.MatchBytes(subject, func(sub *subscription) {
		if len(l.out) >= mostOut {
			return
		}
		l.out = wire.AppendMessage(l.out, subject, sub.sid, nil, m, o.Headers)
		if sub.got++; sub.got == sub.most {
			s.done = append(s.done, sub)
		}
	})
	for _, sub := range s.done { // not while they are being matched
		s.remove(sub)
	}
	s.done = s.done[:0]
	if len(l.out) > 0 {
		l.sendLocked()
	}
	return len(l.out) < mostOut
}

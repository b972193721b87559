package ingress

import (
	"fmt"
	"slices"
	"time"

	"leasehold/internal/admission"
	"leasehold/server/ingress/wire"
)

// service is a subscription to the requests of a group.
type service struct {
	client  *client
	sid     string // the client's
	ours    uint64
	subject string
	got     int // requests; with most, of the client's lock
	most    int // after which it ends, 0: no end
}

// Bounds of a service's connection.
const (
	serviceLimit = 23 * time.Hour // within which a request may be answered; the broker knows it for an hour more
	maxRequests  = 4096           // that may wait for an answer; beyond it the oldest may be answered no more
	maxQueue     = 64             // bytes of a queue group's name
)

// serveRequests subscribes at the broker: it is the broker that spreads requests over the services of all nodes.
func (c *client) serveRequests(subject, queue []byte, sid string) error {
	if !slices.Contains(c.user.Serve, string(subject)) || len(queue) > maxQueue || admission.Subject(text(queue)) != nil &&
		queue != nil {
		return c.forbid(notPermitted, "Subscription to", subject)
	}
	c.mu.Lock()
	if _, twice := c.served[sid]; twice || len(c.served) >= c.in.opt.Limits.Subscriptions {
		c.mu.Unlock()
		if !twice {
			return c.tooMany()
		}
		c.ok()
		return nil
	}
	s := c.up.serve(c, sid, string(subject))
	if c.served == nil {
		c.served, c.replies = map[string]*service{}, map[string]int64{}
	}
	c.served[sid] = s
	c.mu.Unlock()
	c.batch = fmt.Appendf(c.batch, "SUB %s %s %d\r\n", subject, queue, s.ours)
	c.ok()
	return nil
}

func (up *upstream) serve(c *client, sid, subject string) *service {
	up.mu.Lock()
	defer up.mu.Unlock()
	up.lastSid++
	s := &service{client: c, sid: sid, ours: up.lastSid, subject: subject}
	up.served[s.ours] = s
	return s
}

// serveNoMore ends a subscription, at once or after so many requests. Those that the broker has sent by then still
// arrive.
func (c *client) serveNoMore(sid string, most int) {
	c.mu.Lock()
	s := c.served[sid]
	over := false
	if s != nil {
		s.most = most
		if over = most <= s.got; over {
			delete(c.served, sid)
		}
	}
	c.mu.Unlock()
	switch {
	case s == nil:
	case over:
		c.batch = fmt.Appendf(c.batch, "UNSUB %d\r\n", s.ours)
		up := c.up
		c.askBroker(func() { up.forget(s) })
	default:
		c.batch = fmt.Appendf(c.batch, "UNSUB %d %d\r\n", s.ours, most)
	}
}

// askBroker has something done once the broker has taken all that the client said so far.
func (c *client) askBroker(then func()) {
	c.batch = append(c.batch, "PING\r\n"...)
	c.pongs = append(c.pongs, then)
}

// forget ends a subscription of which the broker will send no more.
func (up *upstream) forget(s *service) {
	up.mu.Lock()
	defer up.mu.Unlock()
	delete(up.served, s.ours)
}

// leave ends the subscriptions of a client whose reading goroutine has sent its last.
func (up *upstream) leave(c *client) {
	var lines []byte
	up.mu.Lock()
	for sid, s := range up.served {
		if s.client == c {
			delete(up.served, sid)
			lines = fmt.Appendf(lines, "UNSUB %d\r\n", sid)
		}
	}
	up.mu.Unlock()
	if len(lines) > 0 {
		up.post(string(lines))
	}
}

// request gives a service a request. One that reads too slowly loses its connection, as at a broker: requests are asked
// again.
func (c *client) request(s *service, m wire.Message) {
	c.mu.Lock()
	if s.got++; s.got == s.most {
		if c.served[s.sid] == s {
			delete(c.served, s.sid)
		}
		defer c.up.forget(s)
	}
	if len(c.out) > maxOut+2*c.in.opt.Limits.MaxPayload {
		c.mu.Unlock()
		c.endSlow()
		return
	}
	if !c.ended {
		if len(m.Reply) > 0 {
			c.remember(string(m.Reply))
		}
		c.out = wire.AppendMessage(c.out, m.Subject, s.sid, m.Reply, m, c.opt.Headers)
		c.send()
	}
	c.mu.Unlock()
}

func (c *client) remember(reply string) {
	if len(c.replies) >= maxRequests {
		oldest := ""
		for r, at := range c.replies {
			if oldest == "" || at < c.replies[oldest] {
				oldest = r
			}
		}
		delete(c.replies, oldest)
	}
	c.replies[reply] = c.in.now.Load()
}

// asked reports, once, whether a service answers a request that it was given. An answer is not answered.
func (c *client) asked(reply, subject []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.replies[string(subject)]
	delete(c.replies, string(subject))
	return ok && len(reply) == 0
}

// rebuild rebuilds a header block from what is allowed to the user.
func (c *client) rebuild(dst, block []byte) ([]byte, *admission.Refusal) {
	if len(c.user.Serve) > 0 {
		return admission.RebuildAnswer(dst, block)
	}
	return admission.Rebuild(dst, block)
}

package ingress

import (
	"fmt"
	"slices"
	"time"

	"leasehold/internal/admission"
)

// service is a subscription to the requests of a group.
type service struct {
	client  *client
	sid     string // the client's
	ours    uint64
	subject string
}

// Bounds of a service's connection.
const (
	serviceLimit = 24 * time.Hour // within which a request may be answered
	maxRequests  = 4096           // that may wait for an answer; beyond it the oldest may be answered no more
	maxQueue     = 64             // bytes of a queue group's name
)

// serveRequests subscribes at the broker: it is the broker that spreads requests over the services of all nodes.
func (c *client) serveRequests(subject, queue []byte, sid string) error {
	if !slices.Contains(c.user.Serve, string(subject)) || len(queue) > maxQueue || admission.Subject(text(queue)) != nil && queue != nil {
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
		c.served, c.replies = map[string]service{}, map[string]int64{}
	}
	c.served[sid] = s
	c.mu.Unlock()
	c.batch = fmt.Appendf(c.batch, "SUB %s %s %d\r\n", subject, queue, s.ours)
	c.ok()
	return nil
}

func (up *upstream) serve(c *client, sid, subject string) service {
	up.mu.Lock()
	defer up.mu.Unlock()
	up.lastSid++
	s := service{client: c, sid: sid, ours: up.lastSid, subject: subject}
	up.served[s.ours] = s
	return s
}

func (c *client) serveNoMore(sid string, left int) {
	c.mu.Lock()
	s, ok := c.served[sid]
	if ok && left == 0 {
		delete(c.served, sid)
	}
	c.mu.Unlock()
	switch {
	case !ok:
	case left == 0:
		c.batch = fmt.Appendf(c.batch, "UNSUB %d\r\n", s.ours)
	default:
		c.batch = fmt.Appendf(c.batch, "UNSUB %d %d\r\n", s.ours, left)
	}
}

// request gives a service a request. One that reads too slowly loses its connection, as at a broker: requests are asked
// again.
func (c *client) request(s service, m message) {
	c.mu.Lock()
	if len(c.out) > maxOut+2*c.in.opt.Limits.MaxPayload {
		c.mu.Unlock()
		c.endSlow()
		return
	}
	if !c.ended {
		if len(m.reply) > 0 {
			c.remember(string(m.reply))
		}
		c.out = appendMessage(c.out, m.subject, s.sid, m.reply, m, c.opt.Headers)
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

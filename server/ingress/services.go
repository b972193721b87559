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
	serviceLimit = 23 * time.Hour // within which a request may be answered; the broker remembers it an hour longer
	maxRequests  = 4096           // that may wait for an answer; beyond it the oldest can no longer be answered
	maxQueue     = 64             // bytes of a queue group's name
)

// serveRequests subscribes at the broker, which distributes the requests over the services of all nodes.
func (c *client) serveRequests(subject, queue []byte, sid string) error {
	if !slices.Contains(c.user.Serve, string(subject)) || len(queue) > maxQueue || admission.Subject(text(queue)) != nil &&
		queue != nil {
		return c.forbid(notPermitted, "Subscription to", subject)
	}
	c.link.mu.Lock()
	if _, twice := c.serving.bySid[sid]; twice || len(c.serving.bySid) >= c.in.opt.Limits.Subscriptions {
		c.link.mu.Unlock()
		if !twice {
			return c.tooMany()
		}
		c.ok()
		return nil
	}
	s := c.up.serve(c, sid, string(subject))
	c.serving.add(s)
	c.link.mu.Unlock()
	c.batch.data = fmt.Appendf(c.batch.data, "SUB %s %s %d\r\n", subject, queue, s.ours)
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
	c.link.mu.Lock()
	s, over := c.serving.limit(sid, most)
	c.link.mu.Unlock()
	switch {
	case s == nil:
	case over:
		c.batch.data = fmt.Appendf(c.batch.data, "UNSUB %d\r\n", s.ours)
		up := c.up
		c.batch.askBroker(func() { up.forget(s) })
	default:
		c.batch.data = fmt.Appendf(c.batch.data, "UNSUB %d %d\r\n", s.ours, most)
	}
}

// forget removes a subscription for which the broker will send no more.
func (up *upstream) forget(s *service) {
	up.mu.Lock()
	defer up.mu.Unlock()
	delete(up.served, s.ours)
}

// leave ends the subscriptions of a client whose reading goroutine has ended.
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

// request sends a service a request. One that reads too slowly loses its connection, as at a broker: requests are
// repeated.
func (c *client) request(s *service, m wire.Message) {
	l := &c.link
	l.mu.Lock()
	if c.serving.got(s) {
		defer c.up.forget(s)
	}
	if len(l.out) > maxOut+2*c.in.opt.Limits.MaxPayload {
		l.mu.Unlock()
		c.endSlow()
		return
	}
	if !l.ended {
		if len(m.Reply) > 0 {
			c.serving.remember(string(m.Reply), c.in.now.Load())
		}
		l.out = wire.AppendMessage(l.out, m.Subject, s.sid, m.Reply, m, c.opt.Headers)
		l.sendLocked()
	}
	l.mu.Unlock()
}

// answers reports, once, whether a message of a service answers a request that it was given. A message with a reply
// subject does not.
func (c *client) answers(p publication) bool {
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	return c.serving.settle(text(p.subject)) && len(p.reply) == 0
}

// serving is what a client serves: its subscriptions to requests, and the requests that it may answer. The lock of the
// client's link guards it.
type serving struct {
	bySid   map[string]*service // by the client's sid
	replies map[string]int64    // reply subjects of requests that wait for the answer, with their time
}

func (v *serving) add(s *service) {
	if v.bySid == nil {
		v.bySid, v.replies = map[string]*service{}, map[string]int64{}
	}
	v.bySid[s.sid] = s
}

// limit ends a subscription after most requests: at once (over) if it has had as many. It returns nil if there is none.
func (v *serving) limit(sid string, most int) (s *service, over bool) {
	if s = v.bySid[sid]; s == nil {
		return nil, false
	}
	s.most = most
	if over = most <= s.got; over {
		delete(v.bySid, sid)
	}
	return s, over
}

// got counts a request of a service, and reports whether it was its last.
func (v *serving) got(s *service) (last bool) {
	s.got++
	if last = s.got == s.most; last && v.bySid[s.sid] == s {
		delete(v.bySid, s.sid)
	}
	return last
}

// remember notes the reply subject of a request, in place of the oldest if there are too many.
func (v *serving) remember(reply string, now int64) {
	if len(v.replies) >= maxRequests {
		oldest := ""
		for r, at := range v.replies {
			if oldest == "" || at < v.replies[oldest] {
				oldest = r
			}
		}
		delete(v.replies, oldest)
	}
	v.replies[reply] = now
}

// settle forgets the reply subject of a request, and reports whether it was known. It does not keep reply.
func (v *serving) settle(reply string) bool {
	_, ok := v.replies[reply]
	delete(v.replies, reply)
	return ok
}

// expire forgets requests that came before a time.
func (v *serving) expire(before int64) {
	for reply, at := range v.replies {
		if at < before {
			delete(v.replies, reply)
		}
	}
}

// rebuild rebuilds a header block, appended to dst, from what the user is allowed to send.
func (u *user) rebuild(dst, block []byte) ([]byte, *admission.Refusal) {
	if len(u.Serve) > 0 {
		return admission.RebuildAnswer(dst, block)
	}
	return admission.Rebuild(dst, block)
}

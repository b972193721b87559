package subprocess

import (
	"slices"

	"leasehold/worker/handler"
)

// errFenced ends a call whose lane lost the right to start it while it waited for the child. It was not made.
var errFenced = handler.NewNotCalled("the partition may not start a call any more")

// enqueue queues a call for the child. It returns false if the child is about to die.
//
// Only the oldest line that the child has is timed, and only that one is to blame when the child dies: the others may
// not even have been read. A child that works on several at once is timed in the same way, a little late.
func (c *child) enqueue(r *call) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end != nil || c.closing {
		return false
	}
	r.done = make(chan struct{})
	if r.isMessage && !c.parallel && len(c.pending)+len(c.waiting) > 0 {
		c.waiting = append(c.waiting, r)
		r.turn.Queued(true)
		return true
	}
	c.sendLocked(r)
	return true
}

// sendLocked has the writer write a call's line, with mu held.
func (c *child) sendLocked(r *call) {
	c.pending = append(c.pending, r)
	c.outbox = append(c.outbox, r)
	if r.isMessage {
		c.messages++
	}
	c.rearmLocked()
	c.wakeWriter()
}

// advanceLocked sends the next message once the child has replied to all that it has, with mu held.
//
// A line in the pipe cannot be withdrawn. If the messages of many partitions waited there, a partition that is
// drained would have to wait for all before it, and cancelling its call would kill the child during a call of
// another. Control lines are sent at once: they are short, and a drained partition never waits for one.
//
// The lane's fence check is old by now, perhaps by the length of a stop of this process, so there is another one.
func (c *child) advanceLocked() {
	for c.end == nil && !c.closing && len(c.pending) == 0 && len(c.waiting) > 0 {
		r := c.waiting[0]
		c.waiting = slices.Delete(c.waiting, 0, 1)
		r.turn.Queued(false)
		if r.turn.MayStart() {
			c.sendLocked(r)
			return
		}
		r.refused = true
		close(r.done)
	}
}

func (c *child) wakeWriter() {
	select {
	case c.queued <- struct{}{}:
	default:
	}
}

// nextLine takes a line from the outbox: nil if there is none, and no more if stdin is to be closed.
func (c *child) nextLine() (line []byte, more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.outbox) == 0 {
		return nil, !c.closing
	}
	r := c.outbox[0]
	c.outbox = slices.Delete(c.outbox, 0, 1)
	return r.line, true
}

// withdraw takes back a call that the writer has not begun to write. It returns false if it is too late.
func (c *child) withdraw(r *call) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(c.waiting, r); i >= 0 {
		c.waiting = slices.Delete(c.waiting, i, i+1)
		r.turn.Queued(false)
		return true
	}
	i := slices.Index(c.outbox, r)
	if i < 0 {
		return false
	}
	c.outbox = slices.Delete(c.outbox, i, i+1)
	c.dropLocked(r)
	return true
}

// forget stops waiting for a reply.
func (c *child) forget(r *call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropLocked(r)
}

// dropLocked removes r from pending, with mu held; false if it is not there.
func (c *child) dropLocked(r *call) bool {
	i := slices.Index(c.pending, r)
	if i < 0 {
		return false
	}
	c.pending = slices.Delete(c.pending, i, i+1)
	c.rearmLocked()
	c.advanceLocked()
	return true
}

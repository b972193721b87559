package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// giveControl makes a request of a control line, whose id it chooses.
func (c *child) giveControl(timeout time.Duration, line func(id string) any) (*request, error) {
	id := c.newID()
	text, err := encodeLine(line(id))
	if err != nil {
		return nil, err
	}
	r := &request{id: id, line: text, timeout: timeout}
	if !c.give(r) {
		<-c.dead
		return nil, errInnocent
	}
	return r, nil
}

// begin sends the init line and waits until the child is ready.
func (c *child) begin(ctx context.Context, line initLine, limit time.Duration) error {
	r, err := c.giveControl(limit, func(id string) any { line.ID = id; return line })
	if err == nil {
		err = c.await(ctx, r)
	}
	if err == nil {
		err = c.welcome(r.answer, line.Token)
	}
	if err == nil {
		return nil
	}
	c.kill(&ending{how: stopped})
	<-c.dead
	switch e := c.ended(); e.how {
	case timedOut:
		return errors.New(c.withStderr(c.withUnused(fmt.Sprintf("handler child not ready within %s", limit))))
	case crashed: // Perhaps before it was given the line.
		return errors.New(e.text)
	}
	return err
}

// welcome notes what a child's acknowledgement of init says about it.
func (c *child) welcome(ack *answer, token string) error {
	if ack.Token != "" && ack.Token != token {
		return fmt.Errorf("handler child acknowledged init with the token %q, which is not that of init: repeat that one or none", cut(ack.Token, 64))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.batches, c.parallel = slices.Contains(ack.Wants, wantsBatch), slices.Contains(ack.Wants, wantsParallel)
	c.token = ack.Token
	return nil
}

// assign tells the child about a partition and waits for its acknowledgement, unless it knows already: then sent is
// false.
func (c *child) assign(ctx context.Context, a Assignment, limit time.Duration) (sent bool, err error) {
	c.mu.Lock()
	epoch, known := c.assigned[a.Partition]
	c.mu.Unlock()
	if known && epoch == a.Epoch {
		return false, nil
	}
	r, err := c.giveControl(limit, func(id string) any {
		return newAssignLine(a, id)
	})
	if err != nil {
		return false, err
	}
	if err := c.await(ctx, r); err != nil {
		return true, fmt.Errorf("assign partition %d to handler child: %w", a.Partition, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.assigned[a.Partition] = a.Epoch
	return true, nil
}

// revoke tells the child that a partition is no longer its own. The acknowledgement is waited for until ctx ends.
func (c *child) revoke(ctx context.Context, a Assignment, reason string) error {
	c.mu.Lock()
	epoch, known := c.assigned[a.Partition]
	delete(c.assigned, a.Partition)
	c.mu.Unlock()
	if !known || epoch != a.Epoch {
		return nil
	}
	r, err := c.giveControl(0, func(id string) any {
		return newRevokeLine(a, reason, id)
	})
	if err != nil {
		return nil // It is dying, and a dead child holds nothing.
	}
	return c.await(ctx, r)
}

// await waits for the acknowledgement of a control line. One that is given up is forgotten: it harms nobody late.
func (c *child) await(ctx context.Context, r *request) error {
	select {
	case <-r.done:
	case <-ctx.Done():
		c.forget(r)
		return context.Cause(ctx)
	}
	if r.answer != nil {
		return nil
	}
	if e := c.ended(); e.culprit == r {
		return errors.New(e.text)
	}
	return errInnocent
}

// say queues a line whose answer nobody waits for; false if the child takes no more.
func (c *child) say(line []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end != nil || c.closing {
		return false
	}
	c.outbox = append(c.outbox, &request{line: line})
	c.wakeWriter()
	return true
}

// sayStop queues the stop line, after which stdin is closed.
func (c *child) sayStop(id string) {
	line, err := encodeLine(stopLine{Type: "stop", ID: id})
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end == nil {
		c.end = &ending{how: stopped}
	}
	if err == nil && !c.closing {
		c.outbox = append(c.outbox, &request{line: line})
	}
	c.closing = true
	c.wakeWriter()
}

// newID returns the id of the next control line: "0" for init.
func (c *child) newID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nextID++
	return strconv.Itoa(c.nextID - 1)
}

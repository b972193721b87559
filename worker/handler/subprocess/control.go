package subprocess

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"leasehold/worker/handler"
	"leasehold/worker/handler/wire"
	"leasehold/worker/header"
)

// enqueueControl queues a control line, whose id it chooses.
func (c *child) enqueueControl(timeout time.Duration, line func(id string) any) (*call, error) {
	id := c.newID()
	text, err := wire.EncodeLine(line(id))
	if err != nil {
		return nil, err
	}
	r := &call{id: id, line: text, timeout: timeout}
	if !c.enqueue(r) {
		<-c.dead
		return nil, errOtherPartition
	}
	return r, nil
}

// begin sends the init line and waits until the child is ready.
func (c *child) begin(ctx context.Context, line wire.InitLine, limit time.Duration) error {
	r, err := c.enqueueControl(limit, func(id string) any { line.ID = id; return line })
	if err == nil {
		err = c.awaitAck(ctx, r)
	}
	if err == nil {
		err = c.applyInitAck(r.answer, line.Token)
	}
	if err == nil {
		return nil
	}
	c.kill(&exitCause{kind: stopped})
	<-c.dead
	switch e := c.exitCause(); e.kind {
	case timedOut:
		return errors.New(c.withStderr(c.withUnmatched(fmt.Sprintf("handler child not ready within %s", limit))))
	case crashed: // Perhaps before it was given the line.
		return errors.New(e.text)
	}
	return err
}

// applyInitAck notes what a child's acknowledgement of init says about it.
func (c *child) applyInitAck(ack *wire.Reply, token string) error {
	if ack.Token != "" && ack.Token != token {
		return fmt.Errorf("handler child acknowledged init with the token %q, which is not that of init: repeat that one "+
			"or none", header.Cut(ack.Token, 64))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.batches, c.parallel = slices.Contains(ack.Wants, wire.WantsBatch), slices.Contains(ack.Wants, wire.WantsParallel)
	c.token = ack.Token
	return nil
}

// assign tells the child about a partition and waits for its acknowledgement, unless it knows already: then sent is
// false.
func (c *child) assign(ctx context.Context, a handler.Assignment, limit time.Duration) (sent bool, err error) {
	c.mu.Lock()
	epoch, known := c.assigned[a.Partition]
	c.mu.Unlock()
	if known && epoch == a.Epoch {
		return false, nil
	}
	r, err := c.enqueueControl(limit, func(id string) any {
		return wire.NewAssignLine(a, id)
	})
	if err != nil {
		return false, err
	}
	if err := c.awaitAck(ctx, r); err != nil {
		return true, fmt.Errorf("assign partition %d to handler child: %w", a.Partition, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.assigned[a.Partition] = a.Epoch
	return true, nil
}

// revoke tells the child that it has lost a partition, and waits for the acknowledgement until ctx ends.
func (c *child) revoke(ctx context.Context, a handler.Assignment, reason string) error {
	c.mu.Lock()
	epoch, known := c.assigned[a.Partition]
	delete(c.assigned, a.Partition)
	c.mu.Unlock()
	if !known || epoch != a.Epoch {
		return nil
	}
	r, err := c.enqueueControl(0, func(id string) any {
		return wire.NewRevokeLine(a, reason, id)
	})
	if err != nil {
		return nil // It is dying, and a dead child holds nothing.
	}
	return c.awaitAck(ctx, r)
}

// awaitAck waits for the acknowledgement of a control line. Once it gives up, a late one is ignored.
func (c *child) awaitAck(ctx context.Context, r *call) error {
	select {
	case <-r.done:
	case <-ctx.Done():
		c.forget(r)
		return context.Cause(ctx)
	}
	if r.answer != nil {
		return nil
	}
	if e := c.exitCause(); e.culprit == r {
		return errors.New(e.text)
	}
	return errOtherPartition
}

// sendLine queues a line that needs no reply. It returns false if the child accepts no more.
func (c *child) sendLine(line []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end != nil || c.closing {
		return false
	}
	c.outbox = append(c.outbox, &call{line: line})
	c.wakeWriter()
	return true
}

// sendStop queues the stop line, after which stdin is closed.
func (c *child) sendStop(id string) {
	line, err := wire.EncodeLine(wire.StopLine{Type: "stop", ID: id})
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end == nil {
		c.end = &exitCause{kind: stopped}
	}
	if err == nil && !c.closing {
		c.outbox = append(c.outbox, &call{line: line})
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

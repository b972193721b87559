package subprocess

import (
	"context"
	"fmt"
	"slices"
	"time"

	"leasehold/worker/handler"
	"leasehold/worker/handler/wire"
	"leasehold/worker/header"
)

// call is a line that a child must answer.
type call struct {
	id        string
	line      []byte
	isMessage bool          // Or a batch of them.
	attempt   int           // Of a message, 0 for anything else.
	timeout   time.Duration // How long the child may work on it; 0 is not limited.
	turn      *handler.Turn // Of a message.
	due       time.Time     // Set when it gets to the head of the child's queue.
	done      chan struct{} // Closed when it has an answer, was refused, or the child is dead.
	answer    *wire.Reply   // nil: the child died first, or it was refused. Read after done.
	refused   bool          // The fence had passed when its turn came: the child was never sent it. Read after done.
}

// exitCause says why a child died.
type exitCause struct {
	kind    exitKind
	culprit *call  // The call that is to blame, if any.
	text    string // For operators.
}

type exitKind int

const (
	crashed   exitKind = iota // By itself, or because it could not continue.
	timedOut                  // Killed, since the culprit was not answered in time.
	cancelled                 // Killed, since the culprit's call had to end.
	stopped                   // Stopped by us with nothing going on.
)

// errOtherPartition ends a call whose child died because of another call. It is repeated at once.
var errOtherPartition = handler.NewNotCalled("handler child was restarted because of another partition")

// errJustStarted ends a call that came before its child was ready for it. It is repeated at once.
var errJustStarted = handler.NewNotCalled("handler child has only just been started")

// receive reads a line of the child's stdout. A reply that no call waits for (unknown, repeated, to an earlier attempt,
// of the wrong type) is counted and ignored: matching it to any call would be a guess.
func (c *child) receive(line []byte) {
	if c.onLine != nil {
		c.onLine(line)
	}
	a, ok := wire.ParseReply(line)
	if !ok {
		c.noteUnmatched(line)
		c.out.Stdout(line)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if a.Type == "result" && a.Token != c.token && c.token != "" {
		c.receiveUnsigned(line)
		return
	}
	i := slices.IndexFunc(c.pending, func(r *call) bool { return r.answeredBy(a) })
	if i < 0 {
		c.noteUnmatchedLocked(line)
		c.ignored++
		c.log.Debug("unmatched answer ignored", "type", a.Type, "id", header.Cut(a.ID, 128), "ignored", c.ignored)
		return
	}
	r := c.pending[i]
	c.dropLocked(r)
	r.answer, c.unmatched = &a, ""
	close(r.done)
}

// receiveUnsigned handles a line that looks like a result and lacks the child's token, such as a payload that the child
// printed. mu is held.
func (c *child) receiveUnsigned(line []byte) {
	if c.unsigned++; c.unsigned == 1 {
		c.log.Warn("result without the init token treated as output: a child that acknowledges the token must repeat it in " +
			"every result")
	}
	c.out.Stdout(line)
}

// answeredBy reports whether a answers r.
func (r *call) answeredBy(a wire.Reply) bool {
	return a.ID == r.id && (a.Type == "result") == r.isMessage &&
		(a.Attempt == 0 || r.attempt == 0 || a.Attempt == r.attempt)
}

// rearmLocked sets the timer for the oldest call, with mu held.
func (c *child) rearmLocked() {
	c.clock.Stop()
	if len(c.pending) == 0 || c.end != nil || c.pending[0].timeout <= 0 {
		return
	}
	r := c.pending[0]
	if r.due.IsZero() {
		r.due = time.Now().Add(r.timeout)
	}
	c.clock.Reset(time.Until(r.due))
}

// expire kills a child that has not replied to its oldest call in time.
func (c *child) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.pending) == 0 || c.end != nil {
		return
	}
	r := c.pending[0]
	if r.due.IsZero() || time.Now().Before(r.due) { // The timer was reset as it fired.
		c.rearmLocked()
		return
	}
	text := fmt.Sprintf("no answer within %s", r.timeout)
	if c.unsigned > 0 {
		text += fmt.Sprintf(" (%d lines were results without the init token)", c.unsigned)
	}
	c.killLocked(&exitCause{kind: timedOut, culprit: r, text: c.withUnmatchedLocked(text)})
}

// cancel kills the child because r must end, unless it just has.
func (c *child) cancel(r *call, cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if slices.Contains(c.pending, r) {
		c.killLocked(&exitCause{kind: cancelled, culprit: r, text: cause.Error()})
	}
}

// failPending ends the calls that a dead child leaves unanswered.
func (c *child) failPending() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clock.Stop()
	if c.end.kind == crashed {
		c.blameLocked()
	}
	for _, r := range c.waiting {
		r.turn.Queued(false)
	}
	for _, r := range slices.Concat(c.pending, c.waiting) {
		close(r.done)
	}
	c.pending, c.waiting, c.outbox = nil, nil, nil
}

// blameLocked completes the cause of a crash with the call to blame, with mu held.
func (c *child) blameLocked() {
	if len(c.pending) > 0 {
		c.end.culprit = c.pending[0]
	}
	text := "handler child ended: " + c.Cmd.ProcessState.String()
	if c.end.text != "" {
		text = "handler child killed: " + c.end.text
	}
	c.end.text = c.out.Explain(text)
}

// exitCause returns why the child died. Valid once dead is closed, or a call's done without an answer.
func (c *child) exitCause() exitCause {
	c.mu.Lock()
	defer c.mu.Unlock()
	return *c.end
}

// call has the child handle a message.
func (c *child) call(ctx context.Context, m *handler.Message) handler.Result {
	line, err := wire.EncodeMessage(m)
	if err != nil {
		return handler.NewFailure(err)
	}
	r := &call{id: m.ID, line: line, isMessage: true, attempt: m.Attempt, timeout: m.Timeout}
	if failed, ok := c.ask(ctx, r); !ok {
		return failed
	}
	return r.answer.Result()
}

// callBatch has the child handle several messages in one call.
func (c *child) callBatch(ctx context.Context, ms []*handler.Message) handler.BatchResult {
	batch := wire.BatchLine{Type: "batch", ID: "b" + c.newID(), Partition: ms[0].Partition, Epoch: ms[0].Epoch}
	for _, m := range ms {
		batch.Messages = append(batch.Messages, wire.NewMessageLine(m))
	}
	line, err := wire.EncodeLine(batch)
	if err != nil {
		return handler.BatchResult{Result: handler.NewFailure(err)}
	}
	r := &call{id: batch.ID, line: line, isMessage: true, timeout: ms[0].Timeout}
	if failed, ok := c.ask(ctx, r); !ok {
		return handler.BatchResult{Result: failed}
	}
	return r.answer.BatchResult(ms)
}

// ask sends the child a message or a batch, and waits until the child has replied or is dead; then it returns false and
// the result. A call that has not been sent yet ends as soon as the lane may start no calls. To end one that has been
// sent, the child is killed: a line in its pipe cannot be recalled.
func (c *child) ask(ctx context.Context, r *call) (failed handler.Result, ok bool) {
	r.turn = handler.TurnOf(ctx)
	if !c.enqueue(r) {
		<-c.dead
		return handler.NewRetryNow(errOtherPartition), false
	}
	select {
	case <-r.done:
	case <-r.turn.Live.Done():
		if c.withdraw(r) {
			return handler.ContextEnded(r.turn.Live), false //nolint:contextcheck // Of the lane, as ctx is.
		}
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		c.cancel(r, context.Cause(ctx))
		<-r.done
	}
	if r.answer != nil {
		return handler.Result{}, true
	}
	return c.unanswered(ctx, r), false
}

// unanswered says what the child's death means for r.
func (c *child) unanswered(ctx context.Context, r *call) handler.Result {
	if r.refused {
		return handler.NewRetryNow(errFenced)
	}
	switch e := c.exitCause(); {
	case ctx.Err() != nil:
		return handler.ContextEnded(ctx)
	case e.culprit != r:
		return handler.NewRetryNow(errOtherPartition)
	case e.kind == timedOut:
		return handler.Result{Status: handler.Timeout, Reason: c.withStderr(e.text)}
	default:
		return handler.Result{Status: handler.Retry, Reason: e.text}
	}
}

// withStderr adds the child's last words to a reason.
func (c *child) withStderr(reason string) string {
	if last := c.out.Last(); last != "" {
		return reason + "; last stderr: " + last
	}
	return reason
}

// takesBatches reports whether the child has asked for batches.
func (c *child) takesBatches() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.batches
}

// given returns how many messages the child has been sent; a batch counts as one.
func (c *child) given() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.messages
}

// dying reports whether the child accepts no more calls.
func (c *child) dying() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.end != nil
}

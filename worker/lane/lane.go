// Package lane handles the messages of one partition, one call at a time and strictly in order: attempts, backoff,
// dead letters, parked keys, and the progress that the partition's lease stores.
package lane

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"

	"leasehold/internal/ownership"
	"leasehold/worker/handler"
	"leasehold/worker/header"
	"leasehold/worker/stream"
)

// What a lane is doing, as status shows it.
const (
	StateStarting    = "starting"    // The partition has not been assigned to the handler yet.
	StateHeld        = "held"        // Handling messages, or waiting for some.
	StateRetrying    = "retrying"    // Waiting to try the head message again.
	StateUnavailable = "unavailable" // The handler says that it or its backend is down.
	StateBlocked     = "blocked"     // The head message cannot be handled; an operator must look.
	// An operator, or the handler, asked for nothing to be handled until somebody resumes.
	StatePaused    = "paused"
	StateReleasing = "releasing" // Handling parked messages of keys that an operator released.
	StateGap       = "gap"       // The next message is missing in the topic's stream.
	StateFenced    = "fenced"    // The node may not start calls; the lane is about to be cancelled.
	StateOverdue   = "overdue"   // The handler has not returned, long after its deadline.
	StateDraining  = "draining"  // Finishing the call in flight.
	StateStopped   = "stopped"   // The lane's goroutine has returned.
)

// Options are what the lanes of a group have in common.
type Options struct {
	Policy     Policy
	Handler    handler.Handler
	NewMessage func(g ownership.Grant, e *stream.Entry) (handler.Message, error) // Builds the envelope.
	// Closed once the handler may be called; nil: from the start.
	Ready  <-chan struct{}
	Reason func() string // Why a drained partition is revoked.
	Node   string        // This node's name.
	// Nil only where nothing is ever dead-lettered.
	DeadLetters DeadLetters
	Breaker     *Breaker
	Logger      hclog.Logger
	MaxEntries  int
	MaxBytes    int
	OnCapacity  func() // A queue that was full can take more. Called without the lane's lock; nil does nothing.
	OnStop      func() // The lane has stopped. Called before Stopped is closed; nil does nothing.
}

// Lane is the worker of one held partition: one goroutine, one call at a time, strictly increasing sequences.
//
// After Cancel no result counts, not even an OK: the caller of Cancel may already be about to name another owner, so
// only the progress from before is safe. The next owner handles the message again.
//
// The ledger has the lane's only lock. All other parts belong to the lane's goroutine or never change.
type Lane struct {
	o      Options
	grant  ownership.Grant
	op     operatorCommands
	log    hclog.Logger
	ledger ledger
	life   lifetime

	intake      intake
	caller      caller
	attempts    attempts
	dead        deadLetterer
	parked      parkedKeys
	singleLeft  int  // That many of the next messages are called one by one, because a batch with them failed.
	checkedHead bool // The first message was looked up among the dead letters, if its attempts are used up.
}

// New builds a lane. It does nothing until Run.
func New(o Options, g ownership.Grant) *Lane {
	if g.MayStart == nil {
		g.MayStart = func() bool { return true }
	}
	if g.Wake == nil {
		g.Wake = func() {}
	}
	if o.OnCapacity == nil {
		o.OnCapacity = func() {}
	}
	if o.OnStop == nil {
		o.OnStop = func() {}
	}
	l := &Lane{
		o: o, grant: g, op: operatorCommands{group: o.Policy.Group, partition: g.Partition},
		log: o.Logger.With("partition", g.Partition, "epoch", g.Epoch),
	}
	if o.Breaker == nil {
		l.o.Breaker = NewBreaker(l.log)
	}
	l.ledger.state, l.ledger.progress, l.ledger.progressedAt = StateStarting, g.Progress, time.Now()
	l.ledger.inbox = inbox{queue: queue{maxEntries: o.MaxEntries, maxBytes: o.MaxBytes}, last: g.Checkpoint}
	l.life = newLifetime(&l.ledger, &l.grant, l.op, l.log)
	l.intake = intake{o: &l.o, grant: &l.grant, ledger: &l.ledger, life: &l.life}
	l.caller = caller{o: &l.o, grant: &l.grant, ledger: &l.ledger, life: &l.life, log: l.log}
	l.attempts = attempts{
		policy: &l.o.Policy, breaker: l.o.Breaker, grant: &l.grant, ledger: &l.ledger, life: &l.life, log: l.log,
	}
	l.dead = deadLetterer{o: &l.o, grant: &l.grant, ledger: &l.ledger, life: &l.life, op: l.op, log: l.log}
	l.parked = parkedKeys{ledger: &l.ledger, dead: &l.dead}
	return l
}

// Drain starts no further call. The lane stops once the result of the call in flight is applied.
func (l *Lane) Drain() {
	l.ledger.drain()
	l.life.endLive(handler.ErrDraining)
}

// Cancel ends the lane now: the context of the call in flight ends with cause, and its result does not count.
func (l *Lane) Cancel(cause error) {
	if cause == nil {
		cause = context.Canceled
	}
	l.ledger.cancel(cause)
	l.life.cancel(cause)
}

// Stopped returns a channel that is closed once the lane's goroutine has returned and no call is in flight.
func (l *Lane) Stopped() <-chan struct{} { return l.life.stopped }

// Progress returns how far the lane has come, and whether it waits for that to be committed.
func (l *Lane) Progress() (p ownership.Progress, urgent bool) { return l.ledger.current() }

// Committed tells the lane that p is stored.
func (l *Lane) Committed(p ownership.Progress) {
	if l.ledger.committed(p) {
		l.life.signal()
	}
}

// Push adds a message to the queue. It returns false for ok if the queue is full: the reader then waits for OnCapacity,
// and pushes this message again. It returns true for wake if the lane waits for a message: the reader must then call
// Signal, which it can do once for many messages.
func (l *Lane) Push(e *stream.Entry) (ok, wake bool) { return l.ledger.push(e) }

// Signal wakes up a waiting lane.
func (l *Lane) Signal() { l.life.signal() }

// Run is the lane's goroutine.
func (l *Lane) Run() {
	defer l.finishRun()
	if !l.life.awaitReady(l.o.Ready) {
		return
	}
	if l.grant.Paused != "" {
		l.life.awaitResume(l.grant.Paused)
		return
	}
	if l.caller.assign() && l.parked.load(&l.grant) && l.release() {
		l.work()
	}
	l.caller.revoke()
}

// release handles the messages of the keys that an operator released. It returns false if the lane ends first.
func (l *Lane) release() bool {
	r := releaser{
		o: &l.o, grant: &l.grant, ledger: &l.ledger, life: &l.life, caller: &l.caller, attempts: &l.attempts,
		dead: &l.dead, parked: &l.parked, log: l.log,
	}
	return r.run()
}

// finishRun leaves a lane that only answers questions.
func (l *Lane) finishRun() {
	l.ledger.stop()
	l.life.cancel(context.Canceled)
	l.o.OnStop()
	close(l.life.stopped)
}

// work handles messages until the lane ends.
func (l *Lane) work() {
	l.ledger.setState(StateHeld, "")
	for {
		e, ok := l.intake.next()
		if !ok || !l.finish(l.intake.gather(&e, l.singleLeft > 0)) {
			return
		}
		l.intake.release()
	}
}

// finish handles messages until each is finished. It returns false when the lane ends first.
func (l *Lane) finish(jobs []job) bool {
	for len(jobs) > 0 {
		n, ok := l.handle(jobs)
		if !ok {
			return false
		}
		l.singleLeft = max(0, l.singleLeft-n)
		jobs = jobs[n:]
	}
	return true
}

// handle takes the next step with the first of the messages, or with several if they make a batch. It returns how many
// of them are finished, and false when the lane ends.
func (l *Lane) handle(jobs []job) (finished int, ok bool) {
	head := &jobs[0]
	switch {
	case head.err != nil:
		return outcome(l.life.halt(StateBlocked, fmt.Sprintf("message %d: %v; %s", head.m.Seq, head.err,
			l.op.remedies(head.m.Seq))))
	case l.isForOtherGroup(head.m):
		l.log.Debug("message skipped: requeued for another group", "seq", head.m.Seq, "only_group",
			header.First(head.m.Headers, header.OnlyGroup))
		return outcome(l.advance(head.m.Seq, 1, 0))
	case l.parked.has(head.m.Key):
		return outcome(l.park(head))
	case !l.checkedHead && l.grant.Attempt >= l.o.Policy.MaxAttempts:
		l.checkedHead = true
		if next, done := l.alreadyDeadLettered(head); done {
			return outcome(next)
		}
	}
	l.checkedHead = true
	if n := l.batchSize(jobs); n > 1 {
		return l.callBatch(jobs[:n])
	}
	r, called := l.caller.one(head.m)
	if !called {
		return 0, false
	}
	return outcome(l.applyResult(head, r))
}

// isForOtherGroup reports whether a message was requeued for another group alone. This group is finished with it
// without a call, and does not park it.
func (l *Lane) isForOtherGroup(m *handler.Message) bool {
	only := header.First(m.Headers, header.OnlyGroup)
	return only != "" && only != l.o.Policy.Group
}

// Package lane handles the messages of one partition, one call at a time and strictly in order: attempts, backoff,
// dead letters, parked keys, and what the lane's lease has to store.
package lane

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"leasehold/internal/ownership"
	"leasehold/partitioner"
	"leasehold/worker/handler"
	"leasehold/worker/header"
	"leasehold/worker/stream"
)

// What a lane is doing, as status shows it.
const (
	StateStarting    = "starting"    // The handler has not been told of the partition yet.
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
	StateStopped   = "stopped"   // Nothing works for the lane any more.
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
// Cancel means that nothing which returns from then on is counted, an OK neither: whoever cancels may already be about
// to name another owner, so the only safe progress is that which was there before. The message is handled again.
type Lane struct {
	o     Options
	grant ownership.Grant
	log   hclog.Logger

	calls   context.Context // Parent of the calls' contexts; ends with Cancel.
	cancel  context.CancelCauseFunc
	live    context.Context // Ends with Drain too: every wait of the lane but the call itself.
	endLive context.CancelCauseFunc
	wake    chan struct{} // Something changed for a parked lane: a message, a commit.
	stopped chan struct{}

	// What only the lane's goroutine uses.
	lastDown    int                            // Times in a row that the handler was unavailable.
	parked      map[partitioner.LetterKey]bool // Parked keys: their messages go to the dead letters.
	jobs        []job                          // Messages at hand.
	singleLeft  int                            // So many of them are called one by one, because a batch with them failed.
	checkedHead bool                           // The head message's attempts were looked at once.
	// Of the head message, as far as this lane knows; zero if it has not failed here.
	firstFail time.Time
	evidence  evidence // Against the head message.

	mu            sync.Mutex
	queue         queue
	backpressured bool               // The reader could not push, and waits for onCapacity.
	waiting       bool               // The goroutine waits for wake.
	last          uint64             // Highest sequence pushed; > p.Done, or equal to it.
	progress      ownership.Progress // p.Done ≥ grant.Checkpoint; never goes back.
	progressedAt  time.Time          // When p.Done was last moved, or the lane began.
	urgent        bool               // The lane waits until p is committed.
	current       int                // Messages that have been taken from the queue and are not finished.
	parkedKeys    int                // Length of parked.
	inCall        bool               // A call is in flight.
	callSince     time.Time          // When the latest call began, or its handler last let it wait.
	queued        bool               // The handler lets the call wait for calls of other partitions.
	cause         error              // Why the lane was cancelled; nil if it was not.
	draining      bool
	state         string
	fault         string    // Error text that goes with state.
	retryAt       time.Time // When a lane that waits tries again; zero if it does not wait for a time.
	gap           string    // Which messages are missing; "" if none.
	overdue       bool      // The call in flight has been reported as overdue.
	unreleased    string    // Why the last released message that used up its attempts failed; "" if none has.
}

// New builds a lane. It does nothing until run.
func New(o Options, g ownership.Grant) *Lane {
	if g.MayStart == nil {
		g.MayStart = func() bool { return true }
	}
	if g.Wake == nil {
		g.Wake = func() {}
	}
	l := &Lane{
		o: o, grant: g,
		log:     o.Logger.With("partition", g.Partition, "epoch", g.Epoch),
		wake:    make(chan struct{}, 1),
		stopped: make(chan struct{}),
		queue:   queue{maxEntries: o.MaxEntries, maxBytes: o.MaxBytes},
		last:    g.Checkpoint, progress: g.Progress, progressedAt: time.Now(),
		state: StateStarting,
	}
	if l.o.OnCapacity == nil {
		l.o.OnCapacity = func() {}
	}
	if l.o.OnStop == nil {
		l.o.OnStop = func() {}
	}
	if l.o.Breaker == nil {
		l.o.Breaker = NewBreaker(l.log)
	}
	t := &handler.Turn{MayStart: g.MayStart, Queued: l.setQueued}
	l.calls, l.cancel = context.WithCancelCause(handler.WithTurn(context.Background(), t))
	l.live, l.endLive = context.WithCancelCause(l.calls)
	t.Live = l.live
	return l
}

// Drain starts no further call. The lane stops after the one in flight is settled.
func (l *Lane) Drain() {
	l.mu.Lock()
	l.draining = true
	l.mu.Unlock()
	l.endLive(handler.ErrDraining)
}

// Cancel ends the lane now: the context of the call in flight ends with cause, and its result is not counted.
func (l *Lane) Cancel(cause error) {
	if cause == nil {
		cause = context.Canceled
	}
	l.mu.Lock()
	if l.cause == nil {
		l.cause = cause
	}
	l.mu.Unlock()
	l.cancel(cause)
}

// Stopped is closed once no goroutine and no call works for the lane any more.
func (l *Lane) Stopped() <-chan struct{} { return l.stopped }

// Progress returns how far the lane has come, and whether it waits for that to be committed.
func (l *Lane) Progress() (p ownership.Progress, urgent bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.progress, l.urgent
}

// Committed says that this much is stored.
func (l *Lane) Committed(p ownership.Progress) {
	l.mu.Lock()
	satisfied := l.urgent && p == l.progress
	if satisfied {
		l.urgent = false
	}
	l.mu.Unlock()
	if satisfied {
		l.Signal()
	}
}

// Run is the lane's goroutine.
func (l *Lane) Run() {
	defer l.finishRun()
	if !l.awaitReady() {
		return
	}
	if l.grant.Paused != "" {
		l.awaitResume(l.grant.Paused)
		return
	}
	if l.assign() && l.loadParkedKeys() && l.release() {
		l.work()
	}
	l.revoke()
}

// finishRun leaves a lane that only answers questions.
func (l *Lane) finishRun() {
	l.mu.Lock()
	l.queue.drop()
	l.state, l.urgent, l.current, l.inCall = StateStopped, false, 0, false
	l.mu.Unlock()
	l.cancel(context.Canceled)
	l.o.OnStop()
	close(l.stopped)
}

func (l *Lane) awaitReady() bool {
	if l.o.Ready == nil {
		return l.live.Err() == nil
	}
	select {
	case <-l.o.Ready:
		return l.live.Err() == nil
	case <-l.live.Done():
		return false
	}
}

// work handles messages until the lane ends.
func (l *Lane) work() {
	l.setState(StateHeld, "")
	for {
		e, ok := l.next()
		if !ok || !l.finish(l.gather(&e)) {
			return
		}
		clear(l.jobs) // An idle lane holds no payloads.
	}
}

// next takes the next message from the queue, waiting for one. It returns false when the lane ends.
func (l *Lane) next() (stream.Entry, bool) {
	for {
		l.mu.Lock()
		if l.draining || l.cause != nil {
			l.mu.Unlock()
			return stream.Entry{}, false
		}
		e, ok := l.queue.pop()
		l.waiting = !ok
		if ok {
			l.current++
		}
		fed := l.capacityFreedLocked()
		l.mu.Unlock()
		if fed {
			l.o.OnCapacity()
		}
		if ok {
			return e, true
		}
		select {
		case <-l.wake:
		case <-l.live.Done():
		}
	}
}

// capacityFreedLocked reports whether a reader that found the queue full is to be told that there is room, with mu
// held.
func (l *Lane) capacityFreedLocked() bool {
	fed := l.backpressured && l.queue.roomy()
	if fed {
		l.backpressured = false
	}
	return fed
}

// Push adds a message to the queue. It returns false if there is no room: the reader then hears of room by
// onCapacity, and begins again with this message. A lane that must be woken up by signal is reported by wake, so that
// the reader can do it once for many messages.
func (l *Lane) Push(e *stream.Entry) (ok, wake bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.Seq <= l.last {
		return true, false // Strictly increasing, whatever a reader does.
	}
	if !l.queue.push(e) {
		l.backpressured = true
		return false, false
	}
	l.last = e.Seq
	wake, l.waiting = l.waiting, false
	return true, wake
}

// Signal wakes up a waiting lane.
func (l *Lane) Signal() {
	select {
	case l.wake <- struct{}{}:
	default:
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

// handle does what comes next with the first of the messages, and perhaps some more. It returns how many of them are
// finished, and false when the lane ends.
func (l *Lane) handle(jobs []job) (finished int, ok bool) {
	head := &jobs[0]
	switch {
	case head.err != nil:
		return 0, l.halt(StateBlocked, fmt.Sprintf("message %d: %v; %s", head.m.Seq, head.err, l.remedies(head.m.Seq)))
	case l.isForOtherGroup(head.m):
		l.log.Debug("message skipped: requeued for another group", "seq", head.m.Seq, "only_group",
			header.First(head.m.Headers, header.OnlyGroup))
		return outcome(l.advance(head.m.Seq, 1, 0))
	case l.isParked(head.m.Key):
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
	r, called := l.callOnce(head.m)
	if !called {
		return 0, false
	}
	return outcome(l.applyResult(head, r))
}

// isForOthers reports whether a message was requeued for another group alone. This one is done with it, without a
// call and without parking it.
func (l *Lane) isForOtherGroup(m *handler.Message) bool {
	only := header.First(m.Headers, header.OnlyGroup)
	return only != "" && only != l.o.Policy.Group
}

// outcome is the outcome of a step with one message.
func outcome(next step) (finished int, ok bool) {
	if next == stepNext {
		return 1, true
	}
	return 0, next == stepAgain
}

// callOnce makes one call, unless the lane ends or the fence forbids it. The fence check is the start of the
// call: nothing that can take time comes between the two.
func (l *Lane) callOnce(m *handler.Message) (handler.Result, bool) {
	now := time.Now()
	if !l.begin(m, now) {
		return handler.Result{}, false
	}
	if !l.grant.MayStart() {
		l.awaitEnd(StateFenced, "")
		return handler.Result{}, false
	}
	return l.call(now, m), true
}

// begin notes that a call begins, and fills in its attempt. It returns false if the lane ends.
func (l *Lane) begin(m *handler.Message, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.draining || l.cause != nil {
		return false
	}
	// A call beyond the limit is a probe, or an operator's wish: it counts no more than the last.
	m.Attempt = min(l.progress.Attempt, m.MaxAttempts-1) + 1
	l.inCall, l.callSince = true, now
	return true
}

// awaitEnd does nothing until the lane ends.
func (l *Lane) awaitEnd(state, fault string) {
	l.setState(state, fault)
	<-l.live.Done()
}

// call calls the handler. The call is joined however late it returns: a second one beside it would break the order.
func (l *Lane) call(now time.Time, m *handler.Message) (r handler.Result) {
	defer l.recoverPanic(m.Seq, func(reason string) { r = handler.Result{Status: handler.Retry, Reason: reason} })
	ctx, end := l.callContext(now, m.Timeout)
	defer end()
	return l.o.Handler.Handle(ctx, m)
}

// recoverPanic turns a panic of the handler into an answer.
func (l *Lane) recoverPanic(seq uint64, answer func(reason string)) {
	if p := recover(); p != nil {
		l.log.Error("handler panicked", "seq", seq, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		answer(fmt.Sprintf("handler panicked: %v", p))
	}
}

// setState says what the lane is doing instead of a call.
func (l *Lane) setState(state, fault string) {
	l.mu.Lock()
	l.state, l.fault, l.inCall, l.retryAt = state, fault, false, time.Time{}
	l.mu.Unlock()
}

// callContext is the context of a call, and what ends it.
func (l *Lane) callContext(now time.Time, timeout time.Duration) (context.Context, func()) {
	if k, ok := l.o.Handler.(handler.DeadlineOwner); ok && k.OwnsDeadline() {
		return l.calls, func() {}
	}
	ctx := handler.NewCallContext(l.calls, now.Add(timeout))
	return ctx, ctx.End
}

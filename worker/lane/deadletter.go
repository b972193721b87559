package lane

import (
	"context"
	"errors"
	"fmt"
	"time"

	"leasehold/internal/brokererr"
	"leasehold/internal/failpoint"
	"leasehold/internal/plural"
	"leasehold/partitioner"
	"leasehold/worker/deadletter"
	"leasehold/worker/handler"
)

// deadLetterTimeout bounds one try to store, find or remove a dead letter.
const deadLetterTimeout = 2 * time.Second

// applyRejected dead-letters a message that will never work, unless the group skips nothing.
func (l *Lane) applyRejected(j *job, r handler.Result) step {
	if l.o.Policy.OnExhausted == ExhaustedBlock || l.o.DeadLetters == nil {
		return l.haltAndEnd(StateBlocked, fmt.Sprintf("message %d was rejected: %s; %s", j.m.Seq, r.Text(),
			l.remedies(j.m.Seq)))
	}
	now := time.Now()
	if l.firstFail.IsZero() {
		l.firstFail = now
	}
	record := l.newDeadLetter(j, deadletter.ReasonRejected, r)
	record.Attempts++
	return l.deadLetter(record)
}

// applyExhausted does with a message that used up its attempts what the group is configured to do.
func (l *Lane) applyExhausted(j *job, r handler.Result) step {
	if l.o.Policy.OnExhausted == ExhaustedBlock || l.o.DeadLetters == nil {
		l.grant.Wake()
		return l.haltAndEnd(StateBlocked, fmt.Sprintf("message %d failed %s: %s; %s", j.m.Seq,
			plural.Of(l.o.Policy.MaxAttempts, "time"), r.Text(), l.remedies(j.m.Seq)))
	}
	l.grant.Wake()
	if !l.awaitCommit() { // findParked and alreadyDeadLettered rest on it.
		return stepEnd
	}
	switch l.o.Breaker.classify(l.callBegan(), l.evidence.against(l.o.Policy.MaxAttempts)) {
	case nobodyAtFault:
		if !l.sleep(l.o.Policy.Backoff.Initial) {
			return stepEnd
		}
		return stepAgain
	case handlerAtFault:
		r.Reason = fmt.Sprintf("circuit breaker open: %d messages in a row exhausted their attempts; retrying message %d "+
			"until it succeeds: %s; %s",
			tripThreshold, j.m.Seq, r.Text(), l.remedies(j.m.Seq))
		return l.stall(j.m.Seq, r)
	case messageAtFault:
	}
	record := l.newDeadLetter(j, deadletter.ReasonMaxAttempts, r)
	if l.o.Policy.OnExhausted == ExhaustedPark {
		record.Kind = partitioner.Parked
		l.addParked(record.LetterKey)
	}
	return l.deadLetter(record)
}

// began is when the latest call did.
func (l *Lane) callBegan() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.callSince
}

// park dead-letters a message because an earlier one of its key was.
func (l *Lane) park(j *job) step {
	record := l.newDeadLetter(j, deadletter.ReasonParked,
		handler.Result{Reason: "an earlier message of its key is parked"})
	record.Kind, record.Attempts = partitioner.Parked, 0
	return l.deadLetter(record)
}

// alreadyDeadLettered finds a message that a former owner dead-lettered but did not live to record that it is
// finished. Without this look it would be called again though nobody asked for it.
func (l *Lane) alreadyDeadLettered(j *job) (next step, done bool) {
	if l.o.DeadLetters == nil || l.o.Policy.OnExhausted == ExhaustedBlock {
		return stepNext, false
	}
	record := l.newDeadLetter(j, deadletter.ReasonMaxAttempts, handler.Result{})
	found := false
	ok := l.retryOrBlock("look for the dead letter of the head message", func(ctx context.Context) (err error) {
		found, err = l.o.DeadLetters.Has(ctx, record.DeadLetterPlace)
		return err
	})
	switch {
	case !ok:
		return stepEnd, true
	case !found:
		return stepNext, false
	}
	return l.advance(j.m.Seq, 1, 0), true
}

// newDeadLetter is the dead letter of a message.
func (l *Lane) newDeadLetter(j *job, why deadletter.Reason, r handler.Result) *deadletter.Record {
	l.mu.Lock()
	attempts := l.progress.Attempt
	l.mu.Unlock()
	record := &deadletter.Record{
		DeadLetterPlace: partitioner.DeadLetterPlace{
			Group: j.m.Group, Partition: l.grant.Partition, Kind: partitioner.Dead, LetterKey: partitioner.NewLetterKey(j.m.Key),
			Seq: j.m.Seq,
		},
		Key: j.m.Key, Topic: j.m.Topic, Subject: j.m.Subject, Reason: why, Error: r.Text(), Attempts: attempts,
		FirstFail: l.firstFail,
		Node:      j.m.Node, Epoch: l.grant.Epoch, Published: j.m.Published, Requeues: deadletter.RequeuesOf(j.m.Headers),
		Headers: j.m.Headers, Data: j.m.Data,
	}
	if !l.firstFail.IsZero() {
		record.LastFail = time.Now()
	}
	return record
}

// deadLetter stores a dead letter and then counts its message as finished: in this order, for only what is stored may
// be passed.
func (l *Lane) deadLetter(record *deadletter.Record) step {
	stored, ok := l.store(record)
	if !ok {
		return stepEnd
	}
	failpoint.Hit(failpoint.LetterStored)
	l.lastDown = 0
	if record.Reason != deadletter.ReasonParked {
		l.log.Warn("message dead-lettered", "seq", record.Seq, "reason", string(record.Reason), "kind", string(record.Kind),
			"attempts", record.Attempts, "error", record.Error)
	}
	return l.advance(record.Seq, 1, stored)
}

// store stores a dead letter and returns its sequence among them. One that can never be stored as it is goes without
// the publisher's headers. If not even that is possible, the partition stops at the message: nothing is passed that
// is not stored. It returns false if the lane ends first.
func (l *Lane) store(record *deadletter.Record) (stored uint64, ok bool) {
	put := func(ctx context.Context) (err error) {
		stored, err = l.o.DeadLetters.Put(ctx, record)
		return err
	}
	err := l.retryUntilDone("store a dead letter", put)
	if errors.Is(err, deadletter.ErrRefused) {
		record = record.WithoutHeaders(err)
		l.log.Error("dead letter stored without the headers of its message", "seq", record.Seq, "error", err)
		err = l.retryUntilDone("store a dead letter", put)
	}
	if errors.Is(err, deadletter.ErrRefused) {
		l.halt(StateBlocked, fmt.Sprintf("message %d cannot become a dead letter, %v; to go on without it: %s", record.Seq,
			err, l.seekPastCommand(record.Seq)))
	}
	if err == nil {
		l.warnIfLate(record, stored)
	}
	return stored, err == nil
}

// warnIfLate tells of a dead letter that was on its way when the fence passed, as in a process that was stopped. The
// next owner may have handled its message, and nothing can make the write depend on the epoch: the dead letters are
// another stream than the lease. To take the dead letter back could take the next owner's own.
func (l *Lane) warnIfLate(record *deadletter.Record, stored uint64) {
	if l.grant.MayStart() {
		return
	}
	l.log.Warn("dead letter stored late: its partition may have a new owner that has handled the message; if so, drop "+
		"the dead letter",
		"seq", record.Seq, "dead_letter", stored, "kind", string(record.Kind), "show",
		fmt.Sprintf("leasehold dlq show %s %d", l.o.Policy.Group, stored),
		"drop", fmt.Sprintf("leasehold dlq drop %s %d", l.o.Policy.Group, stored))
}

// waysOut says how an operator gets the partition going again that waits at a message.
func (l *Lane) remedies(seq uint64) string {
	return fmt.Sprintf("%s tries it again, %s steps over it", l.resumeCommand(), l.seekPastCommand(seq))
}

// resume is the command that has the partition continue.
func (l *Lane) resumeCommand() string {
	return fmt.Sprintf("`leasehold resume %s --partition %d`", l.o.Policy.Group, l.grant.Partition)
}

// seekPast is the command that has the partition continue behind a message.
func (l *Lane) seekPastCommand(seq uint64) string {
	return fmt.Sprintf("`leasehold seek %s --partition %d --to seq:%d`", l.o.Policy.Group, l.grant.Partition, seq+1)
}

// retryOrBlock is insist for what cannot be refused forever, whatever a message holds.
func (l *Lane) retryOrBlock(what string, do func(ctx context.Context) error) bool {
	err := l.retryUntilDone(what, do)
	if errors.Is(err, deadletter.ErrRefused) {
		l.halt(StateBlocked, fmt.Sprintf("%s: %v; see `leasehold dlq list %s --partition %d`", what, err, l.o.Policy.Group,
			l.grant.Partition))
	}
	return err == nil
}

// errLaneEnded is insist's error when the lane ends first.
var errLaneEnded = errors.New("the lane ends")

// retryUntilDone does something with the dead letters until it works or can never work (ErrRefused), after a fence
// check each time, for it is as much a deed of the owner as a call is. Meanwhile the partition stands, and says why.
func (l *Lane) retryUntilDone(what string, do func(ctx context.Context) error) error {
	for n := 1; ; n++ {
		if !l.grant.MayStart() {
			l.awaitEnd(StateFenced, "")
			return errLaneEnded
		}
		ctx, cancel := context.WithTimeout(l.calls, deadLetterTimeout)
		err := do(ctx)
		cancel()
		if err == nil || errors.Is(err, deadletter.ErrRefused) {
			return err
		}
		if l.live.Err() != nil {
			return errLaneEnded
		}
		if errors.Is(err, deadletter.ErrFull) {
			err = fmt.Errorf("%w; see `leasehold dlq list %s`", err, l.o.Policy.Group)
		}
		l.setState(StateUnavailable, fmt.Sprintf("%s: %s", what, brokererr.Text(err)))
		if n == 1 {
			l.log.Error("partition stalled: dead-letter store unavailable", "doing", what, "error", err, "full",
				errors.Is(err, deadletter.ErrFull))
		}
		if !l.sleep(l.o.Policy.Backoff.wait(n)) {
			return errLaneEnded
		}
	}
}

// addParked notes that messages of a key are dead-lettered from now on.
func (l *Lane) addParked(key partitioner.LetterKey) {
	if l.parked == nil {
		l.parked = map[partitioner.LetterKey]bool{}
	}
	l.parked[key] = true
	l.countParked()
}

// isParked reports whether messages of a key become dead letters without a call.
func (l *Lane) isParked(key string) bool {
	return len(l.parked) > 0 && l.parked[partitioner.NewLetterKey(key)]
}

func (l *Lane) countParked() {
	l.mu.Lock()
	l.parkedKeys = len(l.parked)
	l.mu.Unlock()
}

// DeadLetters is where lanes put what their handler cannot handle, and find it again.
type DeadLetters interface {
	// Put stores a dead letter and returns its sequence. One that is there already is stored: it counts as this one.
	Put(ctx context.Context, l *deadletter.Record) (stored uint64, err error)
	// Has reports whether there is a dead letter at a place.
	Has(ctx context.Context, p partitioner.DeadLetterPlace) (bool, error)
	// Parked lists the parked dead letters of a partition. The answer knows all that was stored up to last, which is
	// not below least.
	Parked(ctx context.Context, partition int, least uint64) (found deadletter.Places, last uint64, err error)
	// Get reads the dead letter at a place.
	Get(ctx context.Context, p partitioner.DeadLetterPlace) (*deadletter.Record, error)
	// Remove deletes a dead letter that was read.
	Remove(ctx context.Context, stored uint64) error
}

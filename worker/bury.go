package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"leasehold/internal/brokererr"
	"leasehold/internal/failpoint"
	"leasehold/internal/plural"
	"leasehold/partitioner"
)

// letterLimit bounds one try to store, find or remove a dead letter.
const letterLimit = 2 * time.Second

// settleRejected sets a message aside that will never work, unless the group skips nothing.
func (l *Lane) settleRejected(j *job, r Result) step {
	if l.policy.OnExhausted == ExhaustedBlock || l.letters == nil {
		return l.haltStep(StateBlocked, fmt.Sprintf("message %d was rejected: %s; %s", j.m.Seq, r.text(), l.waysOut(j.m.Seq)))
	}
	now := time.Now()
	if l.firstFail.IsZero() {
		l.firstFail = now
	}
	letter := l.letter(j, ReasonRejected, r)
	letter.Attempts++
	return l.bury(letter)
}

// settleExhausted does with a message that used up its attempts what the group is configured to do.
func (l *Lane) settleExhausted(j *job, r Result) step {
	if l.policy.OnExhausted == ExhaustedBlock || l.letters == nil {
		l.grant.Wake()
		return l.haltStep(StateBlocked, fmt.Sprintf("message %d failed %s: %s; %s", j.m.Seq, plural.Of(l.policy.MaxAttempts, "time"), r.text(), l.waysOut(j.m.Seq)))
	}
	l.grant.Wake()
	if !l.awaitCommit() { // findParked and wasBuried rest on it.
		return stepEnd
	}
	switch l.health.judge(l.began(), l.evidence.against(l.policy.MaxAttempts)) {
	case nobodyAtFault:
		if !l.sleep(l.policy.Backoff.Initial) {
			return stepEnd
		}
		return stepAgain
	case handlerAtFault:
		r.Reason = fmt.Sprintf("%d messages in a row used up their attempts, the handler is taken for broken; trying message %d until it succeeds: %s; %s",
			buriedInARow, j.m.Seq, r.text(), l.waysOut(j.m.Seq))
		return l.stall(j.m.Seq, r)
	case messageAtFault:
	}
	letter := l.letter(j, ReasonMaxAttempts, r)
	if l.policy.OnExhausted == ExhaustedPark {
		letter.Kind = partitioner.Parked
		l.addParked(letter.LetterKey)
	}
	return l.bury(letter)
}

// began is when the latest call did.
func (l *Lane) began() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.callSince
}

// park sets a message aside because an earlier one of its key was.
func (l *Lane) park(j *job) step {
	letter := l.letter(j, ReasonParked, Result{Reason: "an earlier message of its key is parked"})
	letter.Kind, letter.Attempts = partitioner.Parked, 0
	return l.bury(letter)
}

// wasBuried finds a message that a former owner set aside without living to store that it is finished. Without this look
// it would be called again though nobody asked for it.
func (l *Lane) wasBuried(j *job) (next step, done bool) {
	if l.letters == nil || l.policy.OnExhausted == ExhaustedBlock {
		return stepNext, false
	}
	letter := l.letter(j, ReasonMaxAttempts, Result{})
	found := false
	ok := l.must("look for the dead letter of the head message", func(ctx context.Context) (err error) {
		found, err = l.letters.Has(ctx, letter.DeadLetterPlace)
		return err
	})
	switch {
	case !ok:
		return stepEnd, true
	case !found:
		return stepNext, false
	}
	return l.finished(j.m.Seq, 1, 0), true
}

// letter is the dead letter of a message.
func (l *Lane) letter(j *job, why LetterReason, r Result) *Letter {
	l.mu.Lock()
	attempts := l.p.Attempt
	l.mu.Unlock()
	letter := &Letter{
		DeadLetterPlace: partitioner.DeadLetterPlace{
			Group: j.m.Group, Partition: l.grant.Partition, Kind: partitioner.Dead, LetterKey: partitioner.NewLetterKey(j.m.Key), Seq: j.m.Seq,
		},
		Key: j.m.Key, Topic: j.m.Topic, Subject: j.m.Subject, Reason: why, Error: r.text(), Attempts: attempts, FirstFail: l.firstFail,
		Node: j.m.Node, Epoch: l.grant.Epoch, Published: j.m.Published, Requeues: requeues(j.m.Headers), Headers: j.m.Headers, Data: j.m.Data,
	}
	if !l.firstFail.IsZero() {
		letter.LastFail = time.Now()
	}
	return letter
}

// bury stores a dead letter and then counts its message as finished: in this order, for only what is stored may be passed.
func (l *Lane) bury(letter *Letter) step {
	stored, ok := l.store(letter)
	if !ok {
		return stepEnd
	}
	failpoint.Hit(failpoint.LetterStored)
	l.lastDown = 0
	if letter.Reason != ReasonParked {
		l.log.Warn("message set aside", "seq", letter.Seq, "reason", string(letter.Reason), "kind", string(letter.Kind),
			"attempts", letter.Attempts, "error", letter.Error)
	}
	return l.finished(letter.Seq, 1, stored)
}

// store stores a dead letter and returns its sequence among them. One that can never be stored as it is goes without the
// publisher's headers. If not even that is possible, the partition stops at the message: nothing is passed that is not
// stored. It returns false if the lane ends first.
func (l *Lane) store(letter *Letter) (stored uint64, ok bool) {
	put := func(ctx context.Context) (err error) {
		stored, err = l.letters.Put(ctx, letter)
		return err
	}
	err := l.insist("store a dead letter", put)
	if errors.Is(err, errFinal) {
		letter = letter.bare(err)
		l.log.Error("dead letter is stored without the headers of its message", "seq", letter.Seq, "error", err)
		err = l.insist("store a dead letter", put)
	}
	if errors.Is(err, errFinal) {
		l.halt(StateBlocked, fmt.Sprintf("message %d cannot become a dead letter, %v; to go on without it: %s", letter.Seq, err, l.stepOver(letter.Seq)))
	}
	if err == nil {
		l.checkLate(letter, stored)
	}
	return stored, err == nil
}

// checkLate tells of a dead letter that was on its way when the fence passed, as in a process that was stopped. The next owner
// may have handled its message, and nothing can make the write depend on the epoch: the letters are another stream than the
// lease. To take the letter back could take the next owner's own.
func (l *Lane) checkLate(letter *Letter, stored uint64) {
	if l.grant.MayStart() {
		return
	}
	l.log.Warn("dead letter stored late: its partition may have a new owner that has handled the message; if so, drop the letter",
		"seq", letter.Seq, "letter", stored, "kind", string(letter.Kind), "show", fmt.Sprintf("leasehold dlq show %s %d", l.policy.Group, stored),
		"drop", fmt.Sprintf("leasehold dlq drop %s %d", l.policy.Group, stored))
}

// waysOut says how an operator gets the partition going again that waits at a message.
func (l *Lane) waysOut(seq uint64) string {
	return fmt.Sprintf("%s tries it again, %s steps over it", l.resume(), l.stepOver(seq))
}

// resume is the command that has the partition go on.
func (l *Lane) resume() string {
	return fmt.Sprintf("`leasehold resume %s --partition %d`", l.policy.Group, l.grant.Partition)
}

// stepOver is the command that has the partition go on behind a message.
func (l *Lane) stepOver(seq uint64) string {
	return fmt.Sprintf("`leasehold seek %s --partition %d --to seq:%d`", l.policy.Group, l.grant.Partition, seq+1)
}

// must is insist for what cannot be refused for ever, whatever a message holds.
func (l *Lane) must(what string, do func(ctx context.Context) error) bool {
	err := l.insist(what, do)
	if errors.Is(err, errFinal) {
		l.halt(StateBlocked, fmt.Sprintf("%s: %v; see `leasehold dlq list %s --partition %d`", what, err, l.policy.Group, l.grant.Partition))
	}
	return err == nil
}

// errLaneEnds is insist's error when the lane ends first.
var errLaneEnds = errors.New("the lane ends")

// insist does something with the dead letters until it works or can never work (errFinal), after a look at the fence each
// time, for it is as much a deed of the owner as a call is. Meanwhile the partition stands, and says why.
func (l *Lane) insist(what string, do func(ctx context.Context) error) error {
	for n := 1; ; n++ {
		if !l.grant.MayStart() {
			l.awaitEnd(StateFenced, "")
			return errLaneEnds
		}
		ctx, cancel := context.WithTimeout(l.calls, letterLimit)
		err := do(ctx)
		cancel()
		if err == nil || errors.Is(err, errFinal) {
			return err
		}
		if l.live.Err() != nil {
			return errLaneEnds
		}
		if errors.Is(err, ErrLettersFull) {
			err = fmt.Errorf("%w; see `leasehold dlq list %s`", err, l.policy.Group)
		}
		l.setState(StateUnavailable, fmt.Sprintf("%s: %s", what, brokererr.Text(err)))
		if n == 1 {
			l.log.Error("the partition waits for its dead letters", "doing", what, "error", err, "full", errors.Is(err, ErrLettersFull))
		}
		if !l.sleep(l.policy.Backoff.wait(n)) {
			return errLaneEnds
		}
	}
}

// addParked notes that messages of a key are set aside from now on.
func (l *Lane) addParked(key partitioner.LetterKey) {
	if l.setAside == nil {
		l.setAside = map[partitioner.LetterKey]bool{}
	}
	l.setAside[key] = true
	l.countParked()
}

// isParked reports whether messages of a key become dead letters without a call.
func (l *Lane) isParked(key string) bool {
	return len(l.setAside) > 0 && l.setAside[partitioner.NewLetterKey(key)]
}

func (l *Lane) countParked() {
	l.mu.Lock()
	l.parkedKeys = len(l.setAside)
	l.mu.Unlock()
}

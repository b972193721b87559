package worker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"leasehold/internal/failpoint"
	"leasehold/internal/ownership"
	"leasehold/partitioner"
)

// findParked reads which keys of the partition are parked. It returns false if the lane ends first.
//
// Where no message was ever dead-lettered there is nothing to read, and a takeover need not wait for the leader of one more
// stream. An owner that parks its first message and dies has stored before that attempts are used up. The limit may have been
// another one then; and a resume or a seek takes them back, but says so.
func (l *Lane) findParked() bool {
	never := l.grant.DeadLetterSeq == 0 && l.grant.Attempt == 0 && !l.grant.CheckDeadLetters && l.grant.Release == ""
	if l.letters == nil || never {
		return true
	}
	return l.must("look for parked keys", func(ctx context.Context) error {
		found, last, err := l.letters.Parked(ctx, l.grant.Partition, l.grant.DeadLetterSeq)
		if err == nil {
			l.foundParked(found, last)
		}
		return err
	})
}

// foundParked takes in which keys are parked, as the dead letters up to last have it. The next owner has to look too if
// there are any, so from now on the lease names a letter.
func (l *Lane) foundParked(found parkedPlaces, last uint64) {
	for key := range found {
		l.addParked(key)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.p.CheckDeadLetters = false
	if len(found) > 0 {
		l.p.DeadLetterSeq = max(l.p.DeadLetterSeq, last)
	}
}

// release handles the parked messages of the keys that a person released, each key's in order, before any live message.
// What is left to do is in the lease, so the next owner goes on if this one does not come to the end. It returns false if
// the lane ends first.
func (l *Lane) release() bool {
	for {
		keys := strings.Fields(l.p.Release) // Only this goroutine writes it.
		if l.letters == nil || len(keys) == 0 {
			return true
		}
		todo := []partitioner.LetterKey{partitioner.LetterKey(keys[0])}
		if keys[0] == ownership.AllKeys {
			todo = slices.Sorted(maps.Keys(l.setAside))
		}
		for _, key := range todo {
			if !l.releaseKey(key) {
				return false
			}
		}
		if !l.released(keys[1:]) {
			return false
		}
	}
}

// released stores which keys are left to release.
func (l *Lane) released(left []string) bool {
	l.mu.Lock()
	l.p.Release, l.urgent = strings.Join(left, " "), true
	l.mu.Unlock()
	l.grant.Wake()
	return l.awaitCommit()
}

// releaseKey handles a key's parked messages. If one of them fails for good, it and those after it stay parked. It returns
// false if the lane ends first.
func (l *Lane) releaseKey(key partitioner.LetterKey) bool {
	var places []partitioner.DeadLetterPlace
	ok := l.must("look for parked messages", func(ctx context.Context) error {
		found, _, err := l.letters.Parked(ctx, l.grant.Partition, l.p.DeadLetterSeq)
		places = found[key]
		return err
	})
	if !ok {
		return false
	}
	for i, p := range places {
		switch l.releaseOne(p) {
		case stepEnd:
			return false
		case stepAgain:
			l.log.Error("a released message failed for good again: its key stays parked", "key", string(key), "seq", p.Seq, "left", len(places)-i)
			return true
		case stepNext:
		}
	}
	delete(l.setAside, key)
	l.countParked()
	l.log.Info("key released", "key", string(key), "messages", len(places))
	return true
}

// releaseOne handles one parked message and removes it: stepNext. stepAgain says that it failed for good.
func (l *Lane) releaseOne(p partitioner.DeadLetterPlace) step {
	var letter *Letter
	ok := l.must("read a parked message", func(ctx context.Context) (err error) {
		letter, err = l.letters.Get(ctx, p)
		if errors.Is(err, ErrNoLetter) {
			err = nil // Dropped meanwhile.
		}
		return err
	})
	if !ok {
		return stepEnd
	}
	if letter == nil {
		return stepNext
	}
	m := l.releasedMessage(letter)
	if next := l.callReleased(&m, letter); next != stepNext {
		return next
	}
	failpoint.Hit(failpoint.Released)
	return l.removeLetter(letter)
}

func (l *Lane) removeLetter(letter *Letter) step {
	ok := l.must("remove a parked message", func(ctx context.Context) error { return l.letters.Remove(ctx, letter.Stored) })
	if !ok {
		return stepEnd
	}
	return stepNext
}

// releasedMessage is the envelope of a parked message: as it was, under this owner's epoch.
func (l *Lane) releasedMessage(letter *Letter) Message {
	m := Message{
		ID: fmt.Sprintf("%s/%d/%d", letter.Topic, letter.Partition, letter.Seq), Topic: letter.Topic, Group: letter.Group, Node: l.node,
		Partition: letter.Partition, Seq: letter.Seq, Epoch: l.grant.Epoch, MaxAttempts: l.policy.MaxAttempts, Key: letter.Key,
		Subject: letter.Subject, Timeout: l.policy.Timeout, Published: letter.Published, Headers: letter.Headers, Data: letter.Data,
		Released: true,
	}
	m.fromHeaders()
	return m
}

// callReleased calls the handler until the message succeeds, or fails for good: stepAgain. Its attempts are counted here
// only; a new owner begins anew.
func (l *Lane) callReleased(m *Message, letter *Letter) step {
	for n := 1; ; {
		m.Attempt = n
		r, called := l.callOneReleased(m)
		switch {
		case !called || l.cancelled():
			return stepEnd
		case r.Status == OK:
			l.health.ok()
			return stepNext
		case r.Status == Reject:
			return l.rejectReleased(letter, r)
		case r.Status == Pause:
			return l.settlePause(&job{m: m}, r)
		case r.Status == Unavailable:
			if l.settleUnavailable(m.Seq, r) == stepEnd {
				return stepEnd
			}
		case n >= m.MaxAttempts:
			l.mu.Lock()
			l.unreleased = fmt.Sprintf("released message %d failed %d times: %s", m.Seq, n, r.text())
			l.mu.Unlock()
			return stepAgain
		default:
			l.setState(StateReleasing, fmt.Sprintf("released message %d failed: %s", m.Seq, r.text()))
			if !l.sleep(l.pause(r, n)) {
				return stepEnd
			}
			n++
		}
	}
}

func (l *Lane) callOneReleased(m *Message) (Result, bool) {
	l.setState(StateReleasing, "")
	l.mu.Lock()
	ended := l.draining || l.cause != nil
	now := time.Now()
	l.inCall, l.callSince = !ended, now
	l.mu.Unlock()
	if ended {
		return Result{}, false
	}
	if !l.grant.MayStart() {
		l.awaitEnd(StateFenced, "")
		return Result{}, false
	}
	return l.call(now, m), true
}

// rejectReleased makes a dead letter of a parked message that will never work: its key goes on without it.
func (l *Lane) rejectReleased(letter *Letter, r Result) step {
	dead := *letter
	dead.Kind, dead.Reason, dead.Error, dead.Node, dead.Epoch = partitioner.Dead, ReasonRejected, r.text(), l.node, l.grant.Epoch
	dead.Attempts++
	if _, ok := l.store(&dead); !ok {
		return stepEnd
	}
	return stepNext
}

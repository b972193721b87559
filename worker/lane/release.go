package lane

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
	"leasehold/worker/deadletter"
	"leasehold/worker/handler"
)

// findParked reads which keys of the partition are parked. It returns false if the lane ends first.
//
// Where no message was ever dead-lettered there is nothing to read, and a takeover need not wait for the leader of
// one more stream. An owner that parks its first message and dies has stored before that attempts are used up. The
// limit may have been another one then; and a resume or a seek takes them back, but says so.
func (l *Lane) loadParkedKeys() bool {
	never := l.grant.DeadLetterSeq == 0 && l.grant.Attempt == 0 && !l.grant.CheckDeadLetters && l.grant.Release == ""
	if l.o.DeadLetters == nil || never {
		return true
	}
	return l.retryOrBlock("look for parked keys", func(ctx context.Context) error {
		found, last, err := l.o.DeadLetters.Parked(ctx, l.grant.Partition, l.grant.DeadLetterSeq)
		if err == nil {
			l.noteParked(found, last)
		}
		return err
	})
}

// foundParked takes in which keys are parked, as the dead letters up to last have it. The next owner has to look too if
// there are any, so from now on the lease names a dead letter.
func (l *Lane) noteParked(found deadletter.Places, last uint64) {
	for key := range found {
		l.addParked(key)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.progress.CheckDeadLetters = false
	if len(found) > 0 {
		l.progress.DeadLetterSeq = max(l.progress.DeadLetterSeq, last)
	}
}

// release handles the parked messages of the keys that an operator released, each key's in order, before any live
// message. What is left to do is in the lease, so the next owner continues if this one does not come to the end. It
// returns false if the lane ends first.
func (l *Lane) release() bool {
	for {
		keys := strings.Fields(l.progress.Release) // Only this goroutine writes it.
		if l.o.DeadLetters == nil || len(keys) == 0 {
			return true
		}
		todo := []partitioner.LetterKey{partitioner.LetterKey(keys[0])}
		if keys[0] == ownership.AllKeys {
			todo = slices.Sorted(maps.Keys(l.parked))
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
	l.progress.Release, l.urgent = strings.Join(left, " "), true
	l.mu.Unlock()
	l.grant.Wake()
	return l.awaitCommit()
}

// releaseKey handles a key's parked messages. If one of them fails permanently, it and those after it stay parked. It
// returns false if the lane ends first.
func (l *Lane) releaseKey(key partitioner.LetterKey) bool {
	var places []partitioner.DeadLetterPlace
	ok := l.retryOrBlock("look for parked messages", func(ctx context.Context) error {
		found, _, err := l.o.DeadLetters.Parked(ctx, l.grant.Partition, l.progress.DeadLetterSeq)
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
			l.log.Error("released message exhausted its attempts again; its key stays parked", "key", string(key), "seq", p.Seq,
				"left", len(places)-i)
			return true
		case stepNext:
		}
	}
	delete(l.parked, key)
	l.countParked()
	l.log.Info("key released", "key", string(key), "messages", len(places))
	return true
}

// releaseOne handles one parked message and removes it: stepNext. stepAgain says that it failed permanently.
func (l *Lane) releaseOne(p partitioner.DeadLetterPlace) step {
	var record *deadletter.Record
	ok := l.retryOrBlock("read a parked message", func(ctx context.Context) (err error) {
		record, err = l.o.DeadLetters.Get(ctx, p)
		if errors.Is(err, deadletter.ErrNotFound) {
			err = nil // Dropped meanwhile.
		}
		return err
	})
	if !ok {
		return stepEnd
	}
	if record == nil {
		return stepNext
	}
	m := l.releasedMessage(record)
	if next := l.callReleased(&m, record); next != stepNext {
		return next
	}
	failpoint.Hit(failpoint.Released)
	return l.removeDeadLetter(record)
}

func (l *Lane) removeDeadLetter(record *deadletter.Record) step {
	ok := l.retryOrBlock("remove a parked message", func(ctx context.Context) error {
		return l.o.DeadLetters.Remove(ctx, record.Stored)
	})
	if !ok {
		return stepEnd
	}
	return stepNext
}

// releasedMessage is the envelope of a parked message: as it was, under this owner's epoch.
func (l *Lane) releasedMessage(record *deadletter.Record) handler.Message {
	m := handler.Message{
		ID: fmt.Sprintf("%s/%d/%d", record.Topic, record.Partition, record.Seq), Topic: record.Topic, Group: record.Group,
		Node:      l.o.Node,
		Partition: record.Partition, Seq: record.Seq, Epoch: l.grant.Epoch, MaxAttempts: l.o.Policy.MaxAttempts,
		Key:     record.Key,
		Subject: record.Subject, Timeout: l.o.Policy.Timeout, Published: record.Published, Headers: record.Headers,
		Data:     record.Data,
		Released: true,
	}
	m.ReadHeaders()
	return m
}

// callReleased calls the handler until the message succeeds, or fails permanently: stepAgain. Its attempts are
// counted here only; a new owner starts over.
func (l *Lane) callReleased(m *handler.Message, record *deadletter.Record) step {
	for n := 1; ; {
		m.Attempt = n
		r, called := l.callOneReleased(m)
		switch {
		case !called || l.cancelled():
			return stepEnd
		case r.Status == handler.OK:
			l.o.Breaker.succeeded()
			return stepNext
		case r.Status == handler.Reject:
			return l.rejectReleased(record, r)
		case r.Status == handler.Pause:
			return l.applyPause(&job{m: m}, r)
		case r.Status == handler.Unavailable:
			if l.applyUnavailable(m.Seq, r) == stepEnd {
				return stepEnd
			}
		case n >= m.MaxAttempts:
			l.mu.Lock()
			l.unreleased = fmt.Sprintf("released message %d failed %d times: %s", m.Seq, n, r.Text())
			l.mu.Unlock()
			return stepAgain
		default:
			l.setState(StateReleasing, fmt.Sprintf("released message %d failed: %s", m.Seq, r.Text()))
			if !l.sleep(l.delay(r, n)) {
				return stepEnd
			}
			n++
		}
	}
}

func (l *Lane) callOneReleased(m *handler.Message) (handler.Result, bool) {
	l.setState(StateReleasing, "")
	l.mu.Lock()
	ended := l.draining || l.cause != nil
	now := time.Now()
	l.inCall, l.callSince = !ended, now
	l.mu.Unlock()
	if ended {
		return handler.Result{}, false
	}
	if !l.grant.MayStart() {
		l.awaitEnd(StateFenced, "")
		return handler.Result{}, false
	}
	return l.call(now, m), true
}

// rejectReleased makes a dead letter of a parked message that will never work: its key continues without it.
func (l *Lane) rejectReleased(record *deadletter.Record, r handler.Result) step {
	dead := *record
	dead.Kind, dead.Reason, dead.Error, dead.Node, dead.Epoch = partitioner.Dead, deadletter.ReasonRejected, r.Text(),
		l.o.Node, l.grant.Epoch
	dead.Attempts++
	if _, ok := l.store(&dead); !ok {
		return stepEnd
	}
	return stepNext
}

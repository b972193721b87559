package lane

import (
	"fmt"

	"github.com/hashicorp/go-hclog"

	"leasehold/internal/failpoint"
	"leasehold/internal/ownership"
	"leasehold/partitioner"
	"leasehold/worker/deadletter"
	"leasehold/worker/handler"
)

// releaser handles the parked messages of the keys that an operator released, before any live message. Only the lane's
// goroutine uses it; what is left to release is in the ledger.
type releaser struct {
	o        *Options
	grant    *ownership.Grant
	ledger   *ledger
	life     *lifetime
	caller   *caller
	attempts *attempts
	dead     *deadLetterer
	parked   *parkedKeys
	log      hclog.Logger
}

// run handles the parked messages of the released keys, each key's in order. What is left to do is in the lease, so
// the next owner continues if this one does not come to the end. It returns false if the lane ends first.
func (r *releaser) run() bool {
	for {
		keys := r.ledger.toRelease()
		if r.o.DeadLetters == nil || len(keys) == 0 {
			return true
		}
		todo := []partitioner.LetterKey{partitioner.LetterKey(keys[0])}
		if keys[0] == ownership.AllKeys {
			todo = r.parked.sorted()
		}
		for _, key := range todo {
			if !r.releaseKey(key) {
				return false
			}
		}
		r.ledger.setToRelease(keys[1:])
		r.grant.Wake()
		if !r.life.awaitCommit() {
			return false
		}
	}
}

// releaseKey handles a key's parked messages. If one of them fails permanently, it and those after it stay parked. It
// returns false if the lane ends first.
func (r *releaser) releaseKey(key partitioner.LetterKey) bool {
	places, ok := r.dead.parked(key)
	if !ok {
		return false
	}
	for i, p := range places {
		switch r.releaseOne(p) {
		case stepEnd:
			return false
		case stepAgain:
			r.log.Error("released message exhausted its attempts again; its key stays parked", "key", string(key), "seq", p.Seq,
				"left", len(places)-i)
			return true
		case stepNext:
		}
	}
	r.parked.remove(key)
	r.log.Info("key released", "key", string(key), "messages", len(places))
	return true
}

// releaseOne handles one parked message and removes it: stepNext. stepAgain says that it failed permanently.
func (r *releaser) releaseOne(p partitioner.DeadLetterPlace) step {
	record, ok := r.dead.get(p)
	if !ok {
		return stepEnd
	}
	if record == nil {
		return stepNext
	}
	m := r.message(record)
	if next := r.call(&m, record); next != stepNext {
		return next
	}
	failpoint.Hit(failpoint.Released)
	if !r.dead.remove(record) {
		return stepEnd
	}
	return stepNext
}

// message returns the envelope of a parked message: as it was, under this owner's epoch.
func (r *releaser) message(record *deadletter.Record) handler.Message {
	m := handler.Message{
		ID: fmt.Sprintf("%s/%d/%d", record.Topic, record.Partition, record.Seq), Topic: record.Topic, Group: record.Group,
		Node: r.o.Node, Partition: record.Partition, Seq: record.Seq, Epoch: r.grant.Epoch,
		MaxAttempts: r.o.Policy.MaxAttempts, Key: record.Key, Subject: record.Subject, Timeout: r.o.Policy.Timeout,
		Published: record.Published, Headers: record.Headers, Data: record.Data, Released: true,
	}
	m.ReadHeaders()
	return m
}

// call calls the handler until the message succeeds, or fails permanently: stepAgain. Its attempts are counted here
// only; a new owner starts over.
func (r *releaser) call(m *handler.Message, record *deadletter.Record) step {
	for n := 1; ; {
		m.Attempt = n
		result, called := r.caller.released(m)
		switch {
		case !called || r.ledger.cancelled():
			return stepEnd
		case result.Status == handler.OK:
			r.o.Breaker.succeeded()
			return stepNext
		case result.Status == handler.Reject:
			return r.reject(record, result)
		case result.Status == handler.Pause:
			return r.life.pause(pauseReason(m.Seq, result))
		case result.Status == handler.Unavailable:
			if r.attempts.unavailable(m.Seq, result) == stepEnd {
				return stepEnd
			}
		case n >= m.MaxAttempts:
			r.ledger.setUnreleased(fmt.Sprintf("released message %d failed %d times: %s", m.Seq, n, result.Text()))
			return stepAgain
		default:
			r.ledger.setState(StateReleasing, fmt.Sprintf("released message %d failed: %s", m.Seq, result.Text()))
			if !r.life.sleep(r.attempts.delay(result, n)) {
				return stepEnd
			}
			n++
		}
	}
}

// reject makes a dead letter of a parked message that will never work: its key continues without it.
func (r *releaser) reject(record *deadletter.Record, result handler.Result) step {
	dead := *record
	dead.Kind, dead.Reason, dead.Error = partitioner.Dead, deadletter.ReasonRejected, result.Text()
	dead.Node, dead.Epoch = r.o.Node, r.grant.Epoch
	dead.Attempts++
	if _, ok := r.dead.store(&dead); !ok {
		return stepEnd
	}
	return stepNext
}

package lane

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"

	"leasehold/internal/brokererr"
	"leasehold/internal/ownership"
	"leasehold/partitioner"
	"leasehold/worker/deadletter"
	"leasehold/worker/handler"
)

// deadLetterTimeout bounds one try to store, find or remove a dead letter.
const deadLetterTimeout = 2 * time.Second

// deadLetterer reads and writes a partition's dead letters: each operation is repeated, with the policy's backoff,
// until it works or never can. Only the lane's goroutine uses it.
type deadLetterer struct {
	o      *Options
	grant  *ownership.Grant
	ledger *ledger
	life   *lifetime
	op     operatorCommands
	log    hclog.Logger
}

// skipsNothing reports whether the group never dead-letters a message.
func (d *deadLetterer) skipsNothing() bool {
	return d.o.Policy.OnExhausted == ExhaustedBlock || d.o.DeadLetters == nil
}

// record returns the dead letter of a message that failed first at firstFail, zero if it did not fail.
func (d *deadLetterer) record(j *job, why deadletter.Reason, r handler.Result, firstFail time.Time) *deadletter.Record {
	record := &deadletter.Record{
		DeadLetterPlace: partitioner.DeadLetterPlace{
			Group: j.m.Group, Partition: d.grant.Partition, Kind: partitioner.Dead, LetterKey: partitioner.NewLetterKey(j.m.Key),
			Seq: j.m.Seq,
		},
		Key: j.m.Key, Topic: j.m.Topic, Subject: j.m.Subject, Reason: why, Error: r.Text(),
		Attempts: d.ledger.failedAttempts(), FirstFail: firstFail,
		Node: j.m.Node, Epoch: d.grant.Epoch, Published: j.m.Published, Requeues: deadletter.RequeuesOf(j.m.Headers),
		Headers: j.m.Headers, Data: j.m.Data,
	}
	if !firstFail.IsZero() {
		record.LastFail = time.Now()
	}
	return record
}

// has reports whether there is a dead letter of the head message. It returns false for ok if the lane ends first.
func (d *deadLetterer) has(p partitioner.DeadLetterPlace) (found, ok bool) {
	ok = d.retryOrBlock("look for the dead letter of the head message", func(ctx context.Context) (err error) {
		found, err = d.o.DeadLetters.Has(ctx, p)
		return err
	})
	return found, ok
}

// parked lists a key's parked messages in order. It returns false if the lane ends first.
func (d *deadLetterer) parked(key partitioner.LetterKey) (places []partitioner.DeadLetterPlace, ok bool) {
	ok = d.retryOrBlock("look for parked messages", func(ctx context.Context) error {
		found, _, err := d.o.DeadLetters.Parked(ctx, d.grant.Partition, d.ledger.deadLetterSeq())
		places = found[key]
		return err
	})
	return places, ok
}

// get reads a parked message: nil if it has been dropped. It returns false if the lane ends first.
func (d *deadLetterer) get(p partitioner.DeadLetterPlace) (record *deadletter.Record, ok bool) {
	ok = d.retryOrBlock("read a parked message", func(ctx context.Context) (err error) {
		record, err = d.o.DeadLetters.Get(ctx, p)
		if errors.Is(err, deadletter.ErrNotFound) {
			err = nil // Dropped meanwhile.
		}
		return err
	})
	return record, ok
}

// remove deletes a parked message that was read. It returns false if the lane ends first.
func (d *deadLetterer) remove(record *deadletter.Record) bool {
	return d.retryOrBlock("remove a parked message", func(ctx context.Context) error {
		return d.o.DeadLetters.Remove(ctx, record.Stored)
	})
}

// store stores a dead letter and returns its sequence among the dead letters. One that can never be stored as it is
// loses its publisher's headers. If not even that helps, the partition stops at the message: nothing is passed that
// is not stored. It returns false if the lane ends first.
func (d *deadLetterer) store(record *deadletter.Record) (stored uint64, ok bool) {
	put := func(ctx context.Context) (err error) {
		stored, err = d.o.DeadLetters.Put(ctx, record)
		return err
	}
	err := d.retryUntilDone("store a dead letter", put)
	if errors.Is(err, deadletter.ErrRefused) {
		record = record.WithoutHeaders(err)
		d.log.Error("dead letter stored without the headers of its message", "seq", record.Seq, "error", err)
		err = d.retryUntilDone("store a dead letter", put)
	}
	if errors.Is(err, deadletter.ErrRefused) {
		d.life.halt(StateBlocked, fmt.Sprintf("message %d cannot become a dead letter, %v; to go on without it: %s",
			record.Seq, err, d.op.seekPast(record.Seq)))
	}
	if err == nil {
		d.warnIfLate(record, stored)
	}
	return stored, err == nil
}

// warnIfLate logs a dead letter whose write was under way when the fence passed, as in a process that was stopped. The
// next owner may have handled its message, and nothing can make the write depend on the epoch: dead letters and leases
// are in different streams. Removing the dead letter could remove the next owner's own.
func (d *deadLetterer) warnIfLate(record *deadletter.Record, stored uint64) {
	if d.grant.MayStart() {
		return
	}
	d.log.Warn("dead letter stored late: its partition may have a new owner that has handled the message; if so, drop "+
		"the dead letter",
		"seq", record.Seq, "dead_letter", stored, "kind", string(record.Kind), "show",
		fmt.Sprintf("leasehold dlq show %s %d", d.o.Policy.Group, stored),
		"drop", fmt.Sprintf("leasehold dlq drop %s %d", d.o.Policy.Group, stored))
}

// retryOrBlock is retryUntilDone for what no message's content can make the store refuse: if it is refused all the
// same, the partition is blocked. It returns false if the lane ends first.
func (d *deadLetterer) retryOrBlock(what string, do func(ctx context.Context) error) bool {
	err := d.retryUntilDone(what, do)
	if errors.Is(err, deadletter.ErrRefused) {
		d.life.halt(StateBlocked, fmt.Sprintf("%s: %v; see `leasehold dlq list %s --partition %d`", what, err,
			d.o.Policy.Group, d.grant.Partition))
	}
	return err == nil
}

// errLaneEnded is retryUntilDone's error when the lane ends first.
var errLaneEnded = errors.New("the lane ends")

// retryUntilDone calls do until it works or never can (ErrRefused). It checks the fence before each try: like a call,
// only the current owner may do it. Meanwhile the partition is stalled, and its status says why.
func (d *deadLetterer) retryUntilDone(what string, do func(ctx context.Context) error) error {
	for n := 1; ; n++ {
		if !d.life.passFence() {
			return errLaneEnded
		}
		ctx, cancel := context.WithTimeout(d.life.calls, deadLetterTimeout)
		err := do(ctx)
		cancel()
		if err == nil || errors.Is(err, deadletter.ErrRefused) {
			return err
		}
		if d.life.ended() {
			return errLaneEnded
		}
		if errors.Is(err, deadletter.ErrFull) {
			err = fmt.Errorf("%w; see `leasehold dlq list %s`", err, d.o.Policy.Group)
		}
		d.ledger.setState(StateUnavailable, fmt.Sprintf("%s: %s", what, brokererr.Text(err)))
		if n == 1 {
			d.log.Error("partition stalled: dead-letter store unavailable", "doing", what, "error", err, "full",
				errors.Is(err, deadletter.ErrFull))
		}
		if !d.life.sleep(d.o.Policy.Backoff.wait(n)) {
			return errLaneEnded
		}
	}
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

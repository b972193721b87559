// Package deadletter stores the messages that a group's handler could not handle, and finds, lists and removes them
// again.
package deadletter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"leasehold/partitioner"
	"leasehold/worker/stream"
)

// Errors of dead letters.
var (
	ErrFull = errors.New("the group's dead letters are full (dlq_max_bytes): requeue, release or drop some, or " +
		"raise it")
	ErrNotFound = errors.New("there is no such dead letter")

	// ErrRefused is for a write that can never succeed as it is.
	ErrRefused = errors.New("refused whenever it is tried")
)

// Store holds a group's dead letters. All methods ask the stream's leader and are safe for concurrent use.
type Store struct {
	Group string
	JS    jetstream.JetStream

	mu   sync.Mutex
	next *parkedRead // Begins when the one under way has ended; nil if nobody waits.
	busy bool
}

// Codes of nats-server's errors.json.
const (
	codeStoreFailed = 10077 // Any limit of the stream; only the text tells which.
	codeMsgTooLarge = 10054
	codeHeaderSize  = 10097
	codeNoSequence  = 10043
	codeNotDeleted  = 10057 // Only the text tells why.
)

// tooLarge is the text of codeStoreFailed for a message that a stream's files cannot hold (nats-server's
// ErrMsgTooLarge).
const tooLarge = "message too large"

// notFound is the text of codeNotDeleted for a message older than any that the stream still holds
// (nats-server's ErrStoreMsgNotFound).
const notFound = "no message found"

// Put publishes to a subject that holds one message: a second one is refused as long as the first is there.
func (d *Store) Put(ctx context.Context, l *Record) (uint64, error) {
	headers, data := l.encode()
	m := &nats.Msg{Subject: l.DeadLetterPlace.Subject(), Header: headers, Data: data}
	answer, err := d.JS.Conn().RequestMsgWithContext(ctx, m)
	if err != nil {
		return 0, fmt.Errorf("store dead letter: %w", finalOf(err))
	}
	var ack struct {
		Seq   uint64           `json:"seq"`
		Error *stream.APIError `json:"error"`
	}
	if err := json.Unmarshal(answer.Data, &ack); err != nil {
		return 0, fmt.Errorf("store dead letter: answer %q: %w", answer.Data, err)
	}
	switch {
	case ack.Error == nil && ack.Seq > 0:
		return ack.Seq, nil
	case ack.Error == nil || ack.Error.Code != codeStoreFailed:
		return 0, fmt.Errorf("store dead letter: %w", finalOf(ack.Error))
	case strings.Contains(ack.Error.Text, "per subject"):
		stored, err := d.Get(ctx, l.DeadLetterPlace)
		if err != nil {
			return 0, err
		}
		return stored.Stored, nil
	case strings.Contains(ack.Error.Text, "maximum bytes"):
		return 0, ErrFull
	}
	return 0, fmt.Errorf("store dead letter: %w", finalOf(ack.Error))
}

// finalOf wraps an error with ErrRefused if it means that a message can never be stored as it is.
func finalOf(err error) error {
	var api *stream.APIError
	switch {
	case errors.As(err, &api) && api != nil && (api.Code == codeMsgTooLarge || api.Code == codeHeaderSize ||
		strings.Contains(api.Text, tooLarge)):
	case errors.Is(err, nats.ErrMaxPayload), errors.Is(err, nats.ErrBadHeaderMsg), errors.Is(err, nats.ErrBadSubject),
		errors.Is(err, nats.ErrHeadersNotSupported):
	default:
		return err
	}
	return fmt.Errorf("%w: %w", ErrRefused, err)
}

// Has reports whether there is a dead letter at a place.
func (d *Store) Has(ctx context.Context, p partitioner.DeadLetterPlace) (bool, error) {
	_, err := d.Get(ctx, p)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Get reads the dead letter at a place. The error is ErrNotFound if there is none.
func (d *Store) Get(ctx context.Context, p partitioner.DeadLetterPlace) (*Record, error) {
	e, err := d.read(ctx, fmt.Appendf(nil, `{"last_by_subj":%q}`, p.Subject()))
	if err != nil {
		return nil, err
	}
	return decode(p, e.Seq, e.Headers, e.Data), nil
}

// Of reads the dead letter of a message of a topic, whatever its kind.
func (d *Store) Of(ctx context.Context, partition int, key partitioner.LetterKey, seq uint64) (*Record, error) {
	for _, kind := range []partitioner.DeadLetterKind{partitioner.Dead, partitioner.Parked} {
		l, err := d.Get(ctx, partitioner.DeadLetterPlace{Group: d.Group, Partition: partition, Kind: kind, LetterKey: key,
			Seq: seq})
		if !errors.Is(err, ErrNotFound) {
			return l, err
		}
	}
	return nil, ErrNotFound
}

// At reads the dead letter with a sequence.
func (d *Store) At(ctx context.Context, stored uint64) (*Record, error) {
	e, err := d.read(ctx, fmt.Appendf(nil, `{"seq":%d}`, stored))
	if err != nil {
		return nil, err
	}
	p, err := partitioner.ParseDeadLetter(e.Subject)
	if err != nil {
		return nil, err
	}
	return decode(p, e.Seq, e.Headers, e.Data), nil
}

func (d *Store) read(ctx context.Context, request []byte) (*stream.Entry, error) {
	e, err := stream.GetMessage(ctx, d.JS.Conn(), d.stream(), request)
	if errors.Is(err, stream.ErrNotFound) {
		return nil, ErrNotFound
	}
	return e, err
}

func (d *Store) stream() string { return partitioner.DeadLetterStream(d.Group) }

// Remove deletes the dead letter with a stream sequence. It is not an error if it is gone already.
func (d *Store) Remove(ctx context.Context, stored uint64) error {
	var answer struct {
		Error *stream.APIError `json:"error"`
	}
	// Erasing would overwrite the bytes on every replica's disk; a dead letter is not a secret.
	request := fmt.Appendf(nil, `{"seq":%d,"no_erase":true}`, stored)
	if err := stream.Request(ctx, d.JS.Conn(), "STREAM.MSG.DELETE", d.stream(), request, &answer); err != nil {
		return fmt.Errorf("remove dead letter %d: %w", stored, err)
	}
	switch e := answer.Error; {
	case e == nil, e.Code == codeNoSequence, e.Code == codeNotDeleted && strings.Contains(e.Text, notFound):
		// It is gone: an attempt before this one, whose answer was lost or came from a node without a leader, has removed it.
		return nil
	default:
		return fmt.Errorf("remove dead letter %d: %w", stored, e)
	}
}

package replicas

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"
	"unsafe"

	broker "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Errors of replicas.
var (
	// ErrNoReplica: this node keeps no replica of the stream, or has not loaded it yet.
	ErrNoReplica = errors.New("this node has no replica of it")
	// ErrNotInReplica: the replica does not hold the message.
	ErrNotInReplica = errors.New("this node's replica does not hold it")
)

// As in storecache.go. Where the linker does not find it any more, TestReplicaIsReadWithoutALeader does not pass.
//
//go:linkname accountStream github.com/nats-io/nats-server/v2/server.(*Account).lookupStream
func accountStream(*broker.Account, string) (unsafe.Pointer, error)

// Replica is this node's own replica of a stream. Reading it asks no leader and needs no quorum, only that the broker
// of this process runs: what is stored on this disk and committed as far as this node has heard. The newest messages of
// the stream may be missing. It is for reading only.
type Replica struct {
	stream string
	store  broker.StreamStore
}

// Message is one stored message. Its slices are the caller's.
type Message struct {
	Seq     uint64
	Subject string
	Header  map[string][]string
	Data    []byte
	Stored  time.Time
}

// Open finds this node's replica of a stream. The error wraps ErrNoReplica if there is none.
func (l *Local) Open(stream string) (*Replica, error) {
	account, err := l.broker.LookupAccount(l.account)
	if err != nil {
		return nil, fmt.Errorf("read the replica of %s: %w", stream, err)
	}
	found, err := accountStream(account, stream)
	if err != nil || found == nil {
		return nil, fmt.Errorf("read the replica of %s: %w", stream, ErrNoReplica)
	}
	store := streamStore(found)
	if store == nil {
		return nil, fmt.Errorf("read the replica of %s: %w", stream, ErrNoReplica)
	}
	return &Replica{stream: stream, store: store}, nil
}

// State is what the replica holds.
func (r *Replica) State() State {
	var state broker.StreamState
	r.store.FastState(&state)
	return State{Messages: state.Msgs, Bytes: state.Bytes, First: state.FirstSeq, Last: state.LastSeq}
}

// Next reads the first message at or behind a sequence whose subject matches the filter ("" matches all), or io.EOF.
func (r *Replica) Next(filter string, from uint64) (*Message, error) {
	var into broker.StoreMsg
	m, _, err := r.store.LoadNextMsg(filter, strings.ContainsAny(filter, "*>"), from, &into)
	if errors.Is(err, broker.ErrStoreEOF) {
		return nil, io.EOF
	}
	return r.message(m, err)
}

// At reads the message with a sequence. The error wraps ErrNotInReplica if it is not there.
func (r *Replica) At(seq uint64) (*Message, error) {
	var into broker.StoreMsg
	m, err := r.store.LoadMsg(seq, &into)
	if errors.Is(err, broker.ErrStoreMsgNotFound) || errors.Is(err, broker.ErrStoreEOF) {
		return nil, fmt.Errorf("message %d of %s: %w", seq, r.stream, ErrNotInReplica)
	}
	return r.message(m, err)
}

// Count counts the messages at and behind a sequence that match the filter.
func (r *Replica) Count(filter string, from uint64) (uint64, error) {
	n, _, err := r.store.NumPending(from, filter, false)
	if err != nil {
		return 0, fmt.Errorf("count messages in the replica of %s: %w", r.stream, err)
	}
	return n, nil
}

// FirstAt is the sequence of the first message stored at or after a moment, or the one behind the last.
func (r *Replica) FirstAt(at time.Time) uint64 { return r.store.GetSeqFromTime(at) }

// message copies what the broker's store has read. Its fields have no accessors.
func (r *Replica) message(m *broker.StoreMsg, loaded error) (out *Message, err error) {
	if loaded != nil {
		return nil, fmt.Errorf("read the replica of %s: %w", r.stream, loaded)
	}
	defer func() { // reflect panics at what it does not find
		if p := recover(); p != nil {
			out, err = nil, fmt.Errorf("%w: %v", errLayout, p)
		}
	}()
	of := reflect.ValueOf(m).Elem()
	out = &Message{
		Seq: *field[uint64](of, "seq"), Subject: strings.Clone(*field[string](of, "subj")),
		Data: append([]byte{}, *field[[]byte](of, "msg")...), Stored: time.Unix(0, *field[int64](of, "ts")),
	}
	if block := *field[[]byte](of, "hdr"); len(block) > 0 {
		header, err := nats.DecodeHeadersMsg(append([]byte{}, block...))
		if err != nil {
			return nil, fmt.Errorf("read the headers of message %d of %s: %w", out.Seq, r.stream, err)
		}
		out.Header = header
	}
	return out, nil
}

package stream

import (
	"strconv"
	"time"

	"leasehold/partitioner"
	"leasehold/worker/handler"
	"leasehold/worker/header"
)

// Entry is a message as it is stored.
type Entry struct {
	Seq       uint64
	Published time.Time
	Subject   string
	Headers   map[string][]string
	Data      []byte
}

// EntryOverhead is about what an entry weighs beside its payload and subject: itself, the client's message that it was
// cut from, its reply subject.
const EntryOverhead = 512

// Size is about how much memory the entry takes, in bytes.
func (e *Entry) Size() int { return len(e.Data) + len(e.Subject) + EntryOverhead }

// Message builds what an envelope says of a message wherever it is handled.
func Message(t *partitioner.Topic, e *Entry) (handler.Message, error) {
	place, err := t.Parse(e.Subject)
	if err != nil {
		return handler.Message{}, err
	}
	var buf [96]byte
	id := append(buf[:0], t.Name...)
	id = strconv.AppendInt(append(id, '/'), int64(place.Partition), 10)
	id = strconv.AppendUint(append(id, '/'), e.Seq, 10)
	m := handler.Message{
		ID: string(id), Topic: t.Name, Partition: place.Partition, Seq: e.Seq,
		Key: place.Key, Subject: place.Subject, Published: e.Published, Headers: header.Restore(e.Headers), Data: e.Data,
	}
	m.ReadHeaders()
	return m, nil
}

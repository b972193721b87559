package stream

import (
	"strconv"
	"time"

	"leasehold/partitioner"
	"leasehold/worker/handler"
	"leasehold/worker/header"
)

// Entry is a stored message.
type Entry struct {
	Seq       uint64
	Published time.Time
	Subject   string
	Headers   map[string][]string
	Data      []byte
}

// EntryOverhead is about how many bytes an entry takes beside its payload and subject: the entry itself, the client's
// message that it was made from, its reply subject.
const EntryOverhead = 512

// Size is about how much memory the entry takes, in bytes.
func (e *Entry) Size() int { return len(e.Data) + len(e.Subject) + EntryOverhead }

// Message builds the part of a message's envelope that does not depend on who handles it.
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

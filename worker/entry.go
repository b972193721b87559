package worker

import (
	"leasehold/partitioner"
	"strconv"
	"time"
)

// entry is a message as it is stored.
type entry struct {
	seq       uint64
	published time.Time
	subject   string
	headers   map[string][]string
	data      []byte
}

// entryOverhead is about what an entry weighs beside its payload and subject: itself, the client's message that it was
// cut from, its reply subject.
const entryOverhead = 512

func (e *entry) size() int { return len(e.data) + len(e.subject) + entryOverhead }

// storedMessage builds what an envelope says of a message wherever it is handled.
func storedMessage(t *partitioner.Topic, e *entry) (Message, error) {
	place, err := t.Parse(e.subject)
	if err != nil {
		return Message{}, err
	}
	var buf [96]byte
	id := append(buf[:0], t.Name...)
	id = strconv.AppendInt(append(id, '/'), int64(place.Partition), 10)
	id = strconv.AppendUint(append(id, '/'), e.seq, 10)
	m := Message{
		ID: string(id), Topic: t.Name, Partition: place.Partition, Seq: e.seq,
		Key: place.Key, Subject: place.Subject, Published: e.published, Headers: restored(e.headers), Data: e.data,
	}
	m.fromHeaders()
	return m, nil
}

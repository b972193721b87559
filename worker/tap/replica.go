package tap

import (
	"io"

	"leasehold/partitioner"
	"leasehold/worker/handler"
	"leasehold/worker/stream"
)

// ReplicaTap shows the messages of a topic that a replica holds, from the options' beginning to the replica's end. It
// belongs to one goroutine.
type ReplicaTap struct {
	topic   partitioner.Topic
	replica stream.Replica
	filter  string
	next    uint64
	skip    uint64 // Messages that come before the first to show.
	until   uint64 // Last sequence to show.
}

// OpenReplica opens a tap. It ignores the options JS and Follow.
func OpenReplica(r stream.Replica, o Options) (*ReplicaTap, error) {
	first, last := r.Span()
	t := &ReplicaTap{topic: o.Topic, replica: r, filter: o.Filter, until: last}
	if t.filter == "" {
		t.filter = o.Topic.StoredFilter()
	}
	switch {
	case o.From > 0:
		t.next = o.From
		return t, nil
	case !o.Since.IsZero():
		t.next = r.FirstAt(o.Since)
		return t, nil
	case o.Last == 0:
		t.next = last + 1
		return t, nil
	}
	count := func(from uint64) (uint64, error) { return r.Count(t.filter, from) }
	var err error
	t.next, t.skip, err = lastMatching(max(first, 1), last+1, uint64(o.Last), uint64(o.Last*o.Topic.Partitions), count)
	return t, err
}

// Next returns the next message, or io.EOF.
func (t *ReplicaTap) Next() (*handler.Message, error) {
	for t.next <= t.until {
		m, err := t.replica.Next(t.filter, t.next)
		if err != nil {
			return nil, err
		}
		t.next = m.Seq + 1
		if t.skip > 0 {
			t.skip--
			continue
		}
		return messageOf(t.topic, stream.Entry{Seq: m.Seq, Published: m.Stored, Subject: m.Subject, Headers: m.Header,
			Data: m.Data})
	}
	return nil, io.EOF
}

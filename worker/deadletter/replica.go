package deadletter

import (
	"errors"
	"io"

	"leasehold/partitioner"
	"leasehold/worker/stream"
)

// ListReplica is Store.List on a replica of the group's dead letters.
func ListReplica(r stream.Replica, group string, q Query, f func(*Record) bool) (next uint64, err error) {
	filter := partitioner.DeadLetterFilter(group, q.Partition, q.Kind, q.Key)
	for after := q.After; ; {
		m, err := r.Next(filter, after+1)
		if errors.Is(err, io.EOF) {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		after = m.Seq
		place, err := partitioner.ParseDeadLetter(m.Subject)
		if err != nil {
			continue
		}
		if !f(decode(place, m.Seq, m.Header, m.Data)) {
			return after, nil
		}
	}
}

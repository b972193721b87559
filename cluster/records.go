package cluster

import (
	"context"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"leasehold/cluster/lease"
)

// Record is a record of the bucket as it is stored.
type Record struct {
	Kind     string // What precedes the first dot of its key: "topic" of "topic.orders".
	Name     string // What follows it: "orders".
	Revision uint64
	Data     []byte
}

// Key is its key in the bucket.
func (r Record) Key() string { return r.Kind + "." + r.Name }

// Session decodes the record of a session.
func (r Record) Session() (lease.Session, error) {
	saw, err := decode(lease.SessionKey(r.Name), r.Revision, r.Data)
	if err != nil {
		return lease.Session{}, err
	}
	return *saw.Session, nil
}

// Records reads every record of these kinds that some replica has, by key. One replica answers for all of them. Deleted
// records are left out.
func (s *KV) Records(ctx context.Context, kinds ...string) ([]Record, error) {
	var keys []string
	for _, kind := range kinds {
		keys = append(keys, subjects+kind+".*")
	}
	var all []Record
	err := s.lastMessages(ctx, keys, func(m *jetstream.RawStreamMsg) error {
		if len(m.Data) > 0 && m.Header.Get("KV-Operation") == "" {
			kind, name, _ := strings.Cut(strings.TrimPrefix(m.Subject, subjects), ".")
			all = append(all, Record{Kind: kind, Name: name, Revision: m.Sequence, Data: m.Data})
		}
		return nil
	})
	slices.SortFunc(all, func(a, b Record) int { return strings.Compare(a.Key(), b.Key()) })
	return all, err
}

// Get reads the newest value of a key that some replica has: revision 0 if there is none, no data if it was deleted.
func (s *KV) Get(ctx context.Context, key string) (revision uint64, data []byte, err error) {
	return s.get(ctx, key)
}

package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"leasehold/cluster/lease"
)

// tryLimit is how long an answer is waited for that costs nothing to ask for again. While a stream has no leader, as
// right after a start, nobody answers, then or later; and a node that is to have its partitions back must not wait for
// long.
const tryLimit = time.Second

// Errors of ending another node's session.
var (
	ErrAlive   = errors.New("it is alive")
	ErrUnknown = errors.New("nothing is known of it")
)

// AttachKV returns the store on a bucket that may not be there yet, to read from.
func AttachKV(nc *nats.Conn) (*KV, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("look into the bucket %s: %w", bucket, err)
	}
	return &KV{nc: nc, js: js}, nil
}

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
	obs, err := decode(lease.SessionKey(r.Name), r.Revision, r.Data)
	if err != nil {
		return lease.Session{}, err
	}
	return *obs.Session, nil
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

// Put stores a value on condition that the key is at the revision, which is 0 for a new key. An error leaves open
// whether it was stored.
func (s *KV) Put(ctx context.Context, key string, revision uint64, value any) error {
	_, err := s.put(ctx, key, revision, value)
	return err
}

// EndSession says for a node that was removed that its session life is over. Only a dead one can be ended by others: a
// live session is refused with ErrAlive, and the compare-and-set loses against a renewal or a new life in between. Boot
// stays as it is, so that no later life of that name can use the number again.
func (s *KV) EndSession(ctx context.Context, node string) error {
	k := lease.SessionKey(node)
	obs, err := s.Read(ctx, k)
	switch {
	case err != nil:
		return err
	case obs.Invalid != "":
		return errors.New(obs.Invalid)
	case obs.Session == nil:
		return ErrUnknown
	case obs.Session.State == lease.Live:
		return ErrAlive
	case obs.Session.State == lease.Ended:
		return nil
	}
	rec := *obs.Session
	rec.State, rec.Nonce = lease.Ended, ""
	rev, err := s.Write(ctx, lease.Write{Key: k, Revision: obs.Revision, Session: &rec})
	if err != nil {
		return err
	}
	s.Announce(lease.Observed{Key: k, Revision: rev, Session: &rec})
	return nil
}

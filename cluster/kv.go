package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"leasehold/cluster/lease"
	"leasehold/internal/every"
)

// The bucket's names. It has the layout of a NATS key-value bucket, so that the usual tools can read it.
const (
	bucket            = "leasehold"
	Stream            = "KV_" + bucket // The bucket's stream.
	subjects          = "$KV." + bucket + "."
	announceSubject   = "leasehold.internal.record"
	chunk             = 512             // Keys read in one request.
	readTimeout       = 5 * time.Second // For one such request, if the caller has no shorter limit.
	codeWrongSequence = 10071           // Error codes of a refused compare-and-set: the stored sequence differs,
	codeInFlight      = 10164           // or another write is in flight.
)

// KV is the Store on a JetStream key-value bucket: compare-and-set through the stream's leader, reads by direct get
// from any replica, so that they go on during an election, and announcements as plain messages.
type KV struct {
	nc *nats.Conn
	js jetstream.JetStream
}

// BucketOptions say how the bucket is to be.
type BucketOptions struct {
	Replicas int
	MaxBytes int64
	Waiting  func(error) // Called with the reason before each further attempt to open it. May be nil.
}

// OpenKV returns the store, and creates the bucket if there is none. It tries until ctx ends: a cluster's first create
// often fails before the nodes know each other's resources.
func OpenKV(ctx context.Context, nc *nats.Conn, o BucketOptions) (*KV, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("open the bucket %s: %w", bucket, err)
	}
	cfg := jetstream.StreamConfig{
		Name: Stream, Description: "Leasehold: sessions, leases and definitions", Subjects: []string{subjects + ">"},
		Storage: jetstream.FileStorage, Replicas: o.Replicas, MaxMsgsPerSubject: 1, MaxBytes: o.MaxBytes,
		Discard: jetstream.DiscardNew, AllowDirect: true, DenyDelete: true, AllowRollup: true,
	}
	for {
		have, err := openBucket(ctx, js, cfg)
		if err == nil {
			return &KV{nc: nc, js: js}, checkBucket(have, cfg)
		}
		if o.Waiting != nil {
			o.Waiting(err)
		}
		if !every.Sleep(ctx, 200*time.Millisecond) {
			return nil, fmt.Errorf("create the bucket %s: %w", bucket, err)
		}
	}
}

// openBucket tries once to find or create the bucket, and returns its configuration. It looks for the bucket first: the
// server refuses to create a stream that exists if there is no space for another one like it.
func openBucket(ctx context.Context, js jetstream.JetStream,
	cfg jetstream.StreamConfig) (jetstream.StreamConfig, error) {
	stream, err := findBucket(ctx, js)
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		stream, err = js.CreateStream(ctx, cfg)
	}
	if err != nil {
		return jetstream.StreamConfig{}, err
	}
	return stream.CachedInfo().Config, nil
}

func findBucket(ctx context.Context, js jetstream.JetStream) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, tryLimit)
	defer cancel()
	return js.Stream(ctx, Stream)
}

// checkBucket refuses a bucket on which the guarantees would not hold.
func checkBucket(got, want jetstream.StreamConfig) error {
	if got.Replicas != want.Replicas || got.Storage != want.Storage || got.MaxMsgsPerSubject != want.MaxMsgsPerSubject {
		return fmt.Errorf("bucket %s has %d replicas on %v storage with history %d, want %d on %v with %d",
			bucket, got.Replicas, got.Storage, got.MaxMsgsPerSubject, want.Replicas, want.Storage, want.MaxMsgsPerSubject)
	}
	return nil
}

// Write publishes on condition that the key is at the revision. The request is sent once.
func (s *KV) Write(ctx context.Context, w lease.Write) (uint64, error) {
	var value any = w.Session
	switch {
	case w.Lease != nil:
		value = w.Lease
	case w.Commands != nil:
		value = w.Commands
	}
	return s.put(ctx, w.Key.String(), w.Revision, value)
}

func (s *KV) put(ctx context.Context, key string, revision uint64, value any) (uint64, error) {
	data, err := json.Marshal(value)
	if err != nil {
		return 0, fmt.Errorf("encode %s: %w", key, err)
	}
	msg := nats.NewMsg(subjects + key)
	msg.Data = data
	msg.Header.Set(nats.ExpectedLastSubjSeqHdr, strconv.FormatUint(revision, 10))
	reply, err := s.nc.RequestMsgWithContext(ctx, msg)
	if err != nil {
		return 0, fmt.Errorf("write %s: %w", key, err)
	}
	var ack struct {
		Seq   uint64              `json:"seq"`
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(reply.Data, &ack); err != nil {
		return 0, fmt.Errorf("write %s: reply %q: %w", key, reply.Data, err)
	}
	switch {
	case ack.Error == nil && ack.Seq > 0:
		return ack.Seq, nil
	case ack.Error != nil && (ack.Error.ErrorCode == codeWrongSequence || ack.Error.ErrorCode == codeInFlight):
		return 0, fmt.Errorf("write %s on revision %d: %w", key, revision, ErrConflict)
	default:
		return 0, fmt.Errorf("write %s: %w", key, ack.Error)
	}
}

// get reads the newest value of a key that some replica has; revision 0 and no value if there is none.
func (s *KV) get(ctx context.Context, key string) (uint64, []byte, error) {
	reply, err := s.nc.RequestWithContext(ctx, "$JS.API.DIRECT.GET."+Stream+"."+subjects+key, nil)
	if err != nil {
		return 0, nil, fmt.Errorf("read %s: %w", key, err)
	}
	switch status := reply.Header.Get("Status"); {
	case status == "404":
		return 0, nil, nil
	case status != "":
		return 0, nil, fmt.Errorf("read %s: %s %s", key, status, reply.Header.Get("Description"))
	}
	rev, err := strconv.ParseUint(reply.Header.Get(jetstream.SequenceHeader), 10, 64)
	if err != nil {
		return 0, nil, fmt.Errorf("read %s: revision: %w", key, err)
	}
	if reply.Header.Get("KV-Operation") != "" { // a delete marker that a tool left in place of the record
		return rev, nil, nil
	}
	return rev, reply.Data, nil
}

// Read reads one record.
func (s *KV) Read(ctx context.Context, k lease.Key) (lease.Observed, error) {
	rev, data, err := s.get(ctx, k.String())
	if err != nil {
		return lease.Observed{}, err
	}
	obs, _ := decode(k, rev, data)
	return obs, nil
}

// Sessions reads every session record, and the groups' commands.
func (s *KV) Sessions(ctx context.Context) ([]lease.Observed, error) {
	return s.last(ctx, []string{subjects + "session.*", subjects + "control.*"})
}

// Leases reads a group's leases, a chunk of keys at a time.
func (s *KV) Leases(ctx context.Context, group string, partitions int) ([]lease.Observed, error) {
	var all []lease.Observed
	for from := 0; from < partitions; from += chunk {
		var keys []string
		for p := from; p < min(from+chunk, partitions); p++ {
			keys = append(keys, subjects+lease.Key{Group: group, Partition: p}.String())
		}
		observed, err := s.last(ctx, keys)
		if err != nil {
			return nil, err
		}
		all = append(all, observed...)
	}
	return all, nil
}

// last reads the newest record of each subject in one request.
func (s *KV) last(ctx context.Context, keys []string) ([]lease.Observed, error) {
	var observed []lease.Observed
	err := s.lastMessages(ctx, keys, func(m *jetstream.RawStreamMsg) error {
		k, ok := parseKey(strings.TrimPrefix(m.Subject, subjects))
		if !ok {
			return nil
		}
		if m.Header.Get("KV-Operation") != "" {
			m.Data = nil
		}
		obs, _ := decode(k, m.Sequence, m.Data) // an invalid record says so itself, and must not hide the others
		observed = append(observed, obs)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return observed, nil
}

// lastMessages calls f with the newest message of each subject. If it returns no error, those were all that some
// replica has: jetstreamext ends a reply that a deadline, of ctx or its own, cut short as if it were complete.
func (s *KV) lastMessages(ctx context.Context, subjects []string, f func(*jetstream.RawStreamMsg) error) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	msgs, err := jetstreamext.GetLastMsgsFor(ctx, s.js, Stream, subjects)
	if err != nil {
		return fmt.Errorf("read records: %w", err)
	}
	for m, err := range msgs {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			break
		}
		if err == nil {
			err = f(m)
		}
		if err != nil {
			return fmt.Errorf("read records: %w", err)
		}
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("read records: %w", err)
	}
	return nil
}

// Announce publishes a record to the other nodes.
func (s *KV) Announce(obs lease.Observed) {
	data, err := json.Marshal(announcement{obs.Key.String(), obs.Revision, obs.Session, obs.Lease, obs.Commands})
	if err == nil {
		_ = s.nc.Publish(announceSubject, data) // best effort: polling finds the record
	}
}

// announcement is a record as it is sent to the other nodes.
type announcement struct {
	Key      string          `json:"key"`
	Revision uint64          `json:"rev"`
	Session  *lease.Session  `json:"session,omitempty"`
	Lease    *lease.Lease    `json:"lease,omitempty"`
	Commands *lease.Commands `json:"commands,omitempty"`
}

// observed returns the record of the announcement; false if it is not valid.
func (a announcement) observed() (lease.Observed, bool) {
	k, ok := parseKey(a.Key)
	obs := lease.Observed{Key: k, Revision: a.Revision, Session: a.Session, Lease: a.Lease, Commands: a.Commands}
	commands := k == lease.CommandsKey(k.Group)
	fits := (k.Node != "") == (a.Session != nil) && commands == (a.Commands != nil) &&
		(k.Node == "" && !commands) == (a.Lease != nil)
	return obs, ok && a.Revision > 0 && fits && valid(obs) == nil
}

// Listen calls f with the announcements of other nodes.
func (s *KV) Listen(ctx context.Context, f func(lease.Observed)) error {
	sub, err := s.nc.Subscribe(announceSubject, func(m *nats.Msg) {
		var a announcement
		if json.Unmarshal(m.Data, &a) != nil {
			return
		}
		if obs, ok := a.observed(); ok {
			f(obs)
		}
	})
	if err != nil {
		return fmt.Errorf("listen for announcements: %w", err)
	}
	defer sub.Unsubscribe() //nolint:errcheck // the connection is going away
	<-ctx.Done()
	return nil
}

// parseKey reads a key as Key.String spells it.
func parseKey(s string) (lease.Key, bool) {
	kind, rest, _ := strings.Cut(s, ".")
	switch kind {
	case "session":
		return lease.SessionKey(rest), rest != ""
	case "control":
		return lease.CommandsKey(rest), rest != ""
	case "lease":
		group, p, _ := strings.Cut(rest, ".")
		n, err := strconv.Atoi(p)
		return lease.Key{Group: group, Partition: n}, err == nil && group != "" && n >= 0
	}
	return lease.Key{}, false
}

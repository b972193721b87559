// Package registry keeps every record of the cluster's bucket that is not of the lease protocol: the definitions of the
// cluster, its topics and its groups, who its peers are, and what nodes say about corrupt replicas. It is the only
// place that spells their keys and the only one that knows what is stored under them.
//
// Reads may be stale, since any replica answers them. Writes are compare-and-set.
package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"leasehold/cluster"
	"leasehold/cluster/lease"
	"leasehold/internal/every"
)

// tryLimit bounds one attempt at something that costs nothing to ask for again. While a stream has no leader, as right
// after a start, nobody answers, then or later.
const tryLimit = time.Second

// Kinds of records that there are several of. A key is "<kind>.<name>".
const (
	topicKind      = "topic"
	groupKind      = "group"
	peerKind       = "peer"
	corruptionKind = "corruption"
	sessionKind    = "session" // Of the lease protocol; read here for who serves what.
)

// Keys of records that there is one of.
const (
	clusterKey = "cluster"
	repairKey  = "repair"
)

// housekeeping begins the name of the group whose one lease says who does a topic's housekeeping. Users' groups cannot
// begin with "_".
const housekeeping = "_housekeeping_"

// HousekeepingGroup is the group whose one lease says who does a topic's housekeeping. Every node whose config has the
// topic lists it in its session.
func HousekeepingGroup(topic string) string { return housekeeping + topic }

// HousekeepingTopic is the topic of a housekeeping group; false for a group of a user.
func HousekeepingTopic(group string) (topic string, ok bool) {
	return strings.CutPrefix(group, housekeeping)
}

// IsHousekeeping reports whether a group is not one of a user.
func IsHousekeeping(group string) bool { return strings.HasPrefix(group, housekeeping) }

// Registry reads and writes these records.
type Registry struct{ kv *cluster.KV }

// New returns the registry in a bucket, which need not exist yet to read from it.
func New(kv *cluster.KV) *Registry { return &Registry{kv: kv} }

// Cluster is what all nodes must agree on.
func (r *Registry) Cluster() Record[Cluster] { return Record[Cluster]{r.kv, clusterKey} }

// Topic is the record of a topic.
func (r *Registry) Topic(name string) Record[Topic] {
	return Record[Topic]{r.kv, topicKind + "." + name}
}

// Group is the record of a group.
func (r *Registry) Group(name string) Record[Group] {
	return Record[Group]{r.kv, groupKind + "." + name}
}

// Peer is the record of a voter, by its id among the broker's peers.
func (r *Registry) Peer(id string) Record[Peer] { return Record[Peer]{r.kv, peerKind + "." + id} }

// Corruption is what a node says about its corrupt replicas.
func (r *Registry) Corruption(node string) Record[Corruption] {
	return Record[Corruption]{r.kv, corruptionKind + "." + node}
}

// RepairTurn is whose turn it is to repair a replica.
func (r *Registry) RepairTurn() Record[RepairTurn] { return Record[RepairTurn]{r.kv, repairKey} }

// Topics reads every topic that was ever defined, by name. One record that is not valid fails it.
func (r *Registry) Topics(ctx context.Context) (map[string]Topic, error) {
	return all[Topic](ctx, r.kv, topicKind)
}

// Groups reads every group that was ever defined, by name. One record that is not valid fails it.
func (r *Registry) Groups(ctx context.Context) (map[string]Group, error) {
	return all[Group](ctx, r.kv, groupKind)
}

// Corruptions reads what the nodes say about their corrupt replicas, by node. One record that is not valid fails it.
func (r *Registry) Corruptions(ctx context.Context) (map[string]Corruption, error) {
	return all[Corruption](ctx, r.kv, corruptionKind)
}

// Peers reads the records of all peers, by id. One that is not valid names no node and is left out.
func (r *Registry) Peers(ctx context.Context) (map[string]Peer, error) {
	records, err := r.kv.Records(ctx, peerKind)
	if err != nil {
		return nil, err
	}
	peers := map[string]Peer{}
	for _, d := range records {
		var p Peer
		if decode(d, &p) == nil {
			peers[d.Name] = p
		}
	}
	return peers, nil
}

// GroupsOf lists the groups whose record names the topic. A record that is not valid fails it, unless skip holds for
// its group: it may be of this topic.
func (r *Registry) GroupsOf(ctx context.Context, topic string,
	skip func(group string) bool) (groups []string, err error) {
	records, err := r.kv.Records(ctx, groupKind)
	if err != nil {
		return nil, err
	}
	for _, d := range records {
		if skip(d.Name) {
			continue
		}
		var g Group
		if err := decode(d, &g); err != nil {
			return nil, err
		}
		if g.Topic == topic {
			groups = append(groups, d.Name)
		}
	}
	return groups, nil
}

func all[T any](ctx context.Context, kv *cluster.KV, kind string) (map[string]T, error) {
	records, err := kv.Records(ctx, kind)
	if err != nil {
		return nil, err
	}
	values := map[string]T{}
	for _, d := range records {
		var v T
		if err := decode(d, &v); err != nil {
			return nil, err
		}
		values[d.Name] = v
	}
	return values, nil
}

func decode(d cluster.Record, value any) error {
	return cluster.Decode(d.Key(), d.Revision, d.Data, value)
}

// Record is one stored record.
type Record[T any] struct {
	kv  *cluster.KV
	key string
}

// Key is the record's key in the bucket.
func (r Record[T]) Key() string { return r.key }

// Read returns what is stored and its revision, which is 0 if there is none. One that is not valid, or was deleted, is
// a cluster.ErrNotARecord, with the revision to write over.
func (r Record[T]) Read(ctx context.Context) (value T, revision uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, tryLimit)
	defer cancel()
	revision, data, err := r.kv.Get(ctx, r.key)
	if err != nil || revision == 0 {
		return value, 0, err
	}
	err = cluster.Decode(r.key, revision, data, &value)
	return value, revision, err
}

// Define stores a value unless there is one already, and returns what is stored, ours or an earlier one. The first to
// define wins; a node with another config compares and refuses to start. It tries until ctx ends.
func (r Record[T]) Define(ctx context.Context, want T) (stored T, err error) {
	for {
		rev, data, err := r.defineOnce(ctx, want)
		if err == nil && rev > 0 {
			return stored, cluster.Decode(r.key, rev, data, &stored)
		}
		if !every.Sleep(ctx, 100*time.Millisecond) {
			return stored, fmt.Errorf("define %s: %w", r.key, errors.Join(err, ctx.Err()))
		}
	}
}

func (r Record[T]) defineOnce(ctx context.Context, want T) (rev uint64, data []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, tryLimit)
	defer cancel()
	if err = r.kv.Put(ctx, r.key, 0, want); err == nil || errors.Is(err, cluster.ErrConflict) {
		rev, data, err = r.kv.Get(ctx, r.key)
	}
	return rev, data, err
}

// Replace overwrites a record that is not valid, and returns what is stored then. It leaves a valid one alone. It tries
// until ctx ends.
func (r Record[T]) Replace(ctx context.Context, want T) (stored T, err error) {
	for {
		stored, rev, err := r.Read(ctx)
		if err == nil && rev > 0 {
			return stored, nil
		}
		if err == nil || errors.Is(err, cluster.ErrNotARecord) {
			try, cancel := context.WithTimeout(ctx, tryLimit)
			err = r.kv.Put(try, r.key, rev, want)
			cancel()
		}
		if err == nil {
			continue // what is stored counts
		}
		if !every.Sleep(ctx, 100*time.Millisecond) {
			return stored, fmt.Errorf("replace %s: %w", r.key, errors.Join(err, ctx.Err()))
		}
	}
}

// Put stores a value on the revision that its decision rests on. An error leaves open whether it was stored.
func (r Record[T]) Put(ctx context.Context, revision uint64, value T) error {
	return r.kv.Put(ctx, r.key, revision, value)
}

// Update reads the value, calls change with it, or with a zero one if there is none, and stores it on the revision that
// was read. An error leaves open whether it was stored.
func (r Record[T]) Update(ctx context.Context, change func(*T) error) error {
	ctx, cancel := context.WithTimeout(ctx, tryLimit)
	defer cancel()
	rev, data, err := r.kv.Get(ctx, r.key)
	if err != nil {
		return err
	}
	var value T
	if len(data) > 0 {
		if err := cluster.Decode(r.key, rev, data, &value); err != nil {
			return err
		}
	}
	if err := change(&value); err != nil {
		return err
	}
	return r.Put(ctx, rev, value)
}

// Sessions reads the session records of all nodes, by node. Those that are not valid are left out.
func Sessions(ctx context.Context, kv *cluster.KV) (map[string]lease.Session, error) {
	records, err := kv.Sessions(ctx)
	if err != nil {
		return nil, err
	}
	sessions := map[string]lease.Session{}
	for _, s := range records {
		if s.Session != nil {
			sessions[s.Key.Node] = *s.Session
		}
	}
	return sessions, nil
}

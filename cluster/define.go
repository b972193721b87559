package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"leasehold/internal/every"
)

// tryLimit is how long an answer is waited for that costs nothing to ask for again. While a stream has no leader, as right
// after a start, nobody answers, then or later; and a node that is to have its partitions back must not wait for long.
const tryLimit = time.Second

// Define stores a definition under a key of its own, such as "topic.orders", unless there is one already, and decodes
// what is stored, ours or an earlier one, into stored. It tries until ctx ends.
//
// The first to define wins for good; whoever has another definition in its config compares and refuses.
func (s *KV) Define(ctx context.Context, key string, definition, stored any) error {
	for {
		rev, data, err := s.defineOnce(ctx, key, definition)
		if err == nil && rev > 0 {
			return Decode(key, rev, data, stored)
		}
		if !every.Sleep(ctx, 100*time.Millisecond) {
			return fmt.Errorf("define %s: %w", key, errors.Join(err, ctx.Err()))
		}
	}
}

// Replace puts a definition in the place of one that is not a valid record, and decodes what is stored then into stored. It
// leaves a valid one alone. Like Define it tries until ctx ends.
func (s *KV) Replace(ctx context.Context, key string, definition, stored any) error {
	for {
		rev, err := s.ReadDefinition(ctx, key, stored)
		if err == nil && rev > 0 {
			return nil
		}
		if err == nil || errors.Is(err, ErrNotARecord) {
			try, cancel := context.WithTimeout(ctx, tryLimit)
			_, err = s.put(try, key, rev, definition)
			cancel()
		}
		if err == nil {
			continue // what is stored counts
		}
		if !every.Sleep(ctx, 100*time.Millisecond) {
			return fmt.Errorf("replace %s: %w", key, errors.Join(err, ctx.Err()))
		}
	}
}

func (s *KV) defineOnce(ctx context.Context, key string, definition any) (rev uint64, data []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, tryLimit)
	defer cancel()
	if _, err = s.put(ctx, key, 0, definition); err == nil || errors.Is(err, ErrConflict) {
		rev, data, err = s.get(ctx, key)
	}
	return rev, data, err
}

// Put stores a record of this node's choosing on the revision that its decision rests on. An error leaves open whether
// it was stored.
func (s *KV) Put(ctx context.Context, key string, revision uint64, value any) error {
	_, err := s.put(ctx, key, revision, value)
	return err
}

// Update changes a record of this node's choosing: it decodes what is stored under key into value, calls change, and
// stores value on that revision. An error leaves open whether it was stored.
func (s *KV) Update(ctx context.Context, key string, value any, change func() error) error {
	ctx, cancel := context.WithTimeout(ctx, tryLimit)
	defer cancel()
	rev, data, err := s.get(ctx, key)
	if err != nil {
		return err
	}
	if len(data) > 0 {
		if err := Decode(key, rev, data, value); err != nil {
			return err
		}
	}
	if err := change(); err != nil {
		return err
	}
	return s.Put(ctx, key, rev, value)
}

// Finished returns the sequence up to which all of these groups have finished every message, leaving out groups that
// were removed and that no live session lists. ok is false if no group is left, or one has partitions whose lease was
// never written. Reads may be stale: progress never falls but by a seek, and a removal that is not seen yet leaves a
// group in, so a stale answer is too low at most.
func (s *KV) Finished(ctx context.Context, groups []string, partitions int) (seq uint64, ok bool, err error) {
	if groups, err = s.withoutRemoved(ctx, groups); err != nil {
		return 0, false, err
	}
	seq = ^uint64(0)
	for _, g := range groups {
		leases, err := s.Leases(ctx, g, partitions)
		if err != nil || len(leases) < partitions {
			return 0, false, err
		}
		for _, l := range leases {
			if l.Lease == nil {
				return 0, false, nil
			}
			seq = min(seq, l.Lease.Checkpoint)
		}
	}
	return seq, len(groups) > 0, nil
}

// withoutRemoved leaves out the groups that were removed and that no live session lists.
func (s *KV) withoutRemoved(ctx context.Context, groups []string) ([]string, error) {
	defs, servers, err := s.definitionsAndServers(ctx, "group")
	if err != nil {
		return nil, err
	}
	var left []string
	for _, name := range groups {
		var def groupRecord
		if d, ok := defs[name]; ok {
			if err := Decode("group."+name, d.Revision, d.Data, &def); err != nil {
				return nil, err
			}
		}
		if !def.Removed || len(servers[name]) > 0 {
			left = append(left, name)
		}
	}
	return left, nil
}

package registry

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"leasehold/cluster"
	"leasehold/cluster/lease"
)

// Errors of removing a topic or a group.
var (
	ErrInUse   = errors.New("a live node has it in its config")
	ErrUnknown = errors.New("it was never defined")
)

// withServers reads the records of a kind, and which nodes list which group in a live session. One replica answers for
// both, so a node that is seen to have confirmed a definition is seen to be live as well.
func (r *Registry) withServers(ctx context.Context, kind string) (defs map[string]cluster.Record,
	servers map[string][]string, err error) {
	records, err := r.kv.Records(ctx, kind, sessionKind)
	if err != nil {
		return nil, nil, err
	}
	defs, servers = map[string]cluster.Record{}, map[string][]string{}
	for _, d := range records {
		if d.Kind == kind {
			defs[d.Name] = d
			continue
		}
		session, err := d.Session()
		if err != nil { // it may be that of a node that serves any group
			return nil, nil, err
		}
		if session.State == lease.Live {
			for _, g := range session.Groups {
				servers[g] = append(servers[g], session.Node)
			}
		}
	}
	for _, nodes := range servers {
		slices.Sort(nodes)
	}
	return defs, servers, nil
}

// RemoveGroup marks a group removed, unless a live session lists it: then it returns ErrInUse and the nodes. With
// dryRun it only looks. The record and the leases stay: a group of this name never starts over, for its leases would
// say that messages are finished that the new group has not seen.
//
// A node that starts with the group confirms the record once its session is live (Confirm), by a write. If it comes
// first, the compare-and-set here is refused, and the next try sees its session. If the removal comes first, the node
// finds it and stops.
func (r *Registry) RemoveGroup(ctx context.Context, group string, dryRun bool) (nodes []string, err error) {
	defs, servers, err := r.withServers(ctx, groupKind)
	if err != nil {
		return nil, err
	}
	var def Group
	return remove(ctx, removal[Group]{r.Group(group), defs[group], servers[group], &def, &def.Removed}, dryRun)
}

// RemoveTopic does the same for a topic. Its record stays too: otherwise a stream that is deleted late would be that of
// the next topic of this name.
func (r *Registry) RemoveTopic(ctx context.Context, topic string, dryRun bool) (nodes []string, err error) {
	defs, servers, err := r.withServers(ctx, topicKind)
	if err != nil {
		return nil, err
	}
	var def Topic
	return remove(ctx, removal[Topic]{r.Topic(topic), defs[topic], servers[HousekeepingGroup(topic)], &def, &def.Removed},
		dryRun)
}

// removal is a record to be marked.
type removal[T any] struct {
	record  Record[T]
	stored  cluster.Record // Revision 0 if there is none.
	nodes   []string       // Live nodes that need it.
	def     *T             // Decoded into.
	removed *bool          // In def.
}

func remove[T any](ctx context.Context, r removal[T], dryRun bool) (nodes []string, err error) {
	switch {
	case r.stored.Revision == 0:
		return nil, ErrUnknown
	case len(r.nodes) > 0:
		return r.nodes, ErrInUse
	}
	if err := decode(r.stored, r.def); err != nil || dryRun || *r.removed {
		return nil, err
	}
	*r.removed = true
	return nil, r.record.Put(ctx, r.stored.Revision, *r.def)
}

// ConfirmGroup writes the record of a group as it is, and reports whether the group has been removed. The answer is not
// a stale read: the write went through on the revision that was read.
func (r *Registry) ConfirmGroup(ctx context.Context, group string) (removed bool, err error) {
	return confirm(ctx, r.Group(group), func(g Group) bool { return g.Removed })
}

// ConfirmTopic does the same for a topic.
func (r *Registry) ConfirmTopic(ctx context.Context, topic string) (removed bool, err error) {
	return confirm(ctx, r.Topic(topic), func(t Topic) bool { return t.Removed })
}

func confirm[T any](ctx context.Context, r Record[T], isRemoved func(T) bool) (removed bool, err error) {
	rev, data, err := r.kv.Get(ctx, r.key)
	if err != nil {
		return false, err
	}
	var def T
	if err := cluster.Decode(r.key, rev, data, &def); err != nil {
		return false, err
	}
	if isRemoved(def) {
		return true, nil
	}
	return false, r.kv.Put(ctx, r.key, rev, json.RawMessage(data))
}

// Finished returns the sequence up to which all of these groups have finished every message, leaving out groups that
// were removed and that no live session lists. ok is false if no group is left, or one has partitions whose lease was
// never written. Reads may be stale: progress never falls but by a seek, and a removal that is not seen yet leaves a
// group in, so a stale answer is too low at most.
func (r *Registry) Finished(ctx context.Context, groups []string, partitions int) (seq uint64, ok bool, err error) {
	if groups, err = r.withoutRemoved(ctx, groups); err != nil {
		return 0, false, err
	}
	seq = ^uint64(0)
	for _, g := range groups {
		leases, err := r.kv.Leases(ctx, g, partitions)
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
func (r *Registry) withoutRemoved(ctx context.Context, groups []string) ([]string, error) {
	defs, servers, err := r.withServers(ctx, groupKind)
	if err != nil {
		return nil, err
	}
	var left []string
	for _, name := range groups {
		var def Group
		if d, ok := defs[name]; ok {
			if err := decode(d, &def); err != nil {
				return nil, err
			}
		}
		if !def.Removed || len(servers[name]) > 0 {
			left = append(left, name)
		}
	}
	return left, nil
}

package node

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"leasehold/cluster"
	"leasehold/cluster/lease"
	"leasehold/partitioner"
	"leasehold/worker"
)

// A definition that is not a valid record was written by something other than a node. It is written again from this node's config
// where all else that is stored agrees with that.

// rebuilt is a definition to be written again.
type rebuilt struct {
	key        string
	fault      error // What is wrong with the stored one.
	want, have any
}

// redefine puts a definition in the place of an invalid one. disagrees says what speaks against it, nil if nothing does.
func (n *Node) redefine(ctx context.Context, r rebuilt, disagrees error) error {
	if disagrees != nil {
		return fmt.Errorf("%w, and this node's config cannot take its place: %w; start a node first whose config agrees with what is "+
			"stored, and see \"A record is not valid\" in docs/operations.md", r.fault, disagrees)
	}
	n.log.Error("definition is not a valid record: it is written again from this node's config; look for what wrote it",
		"key", r.key, "fault", r.fault)
	return n.kv.Replace(ctx, r.key, r.want, r.have)
}

// sessionsAgree says which live session runs under another ttl than this node's config.
func (n *Node) sessionsAgree(ctx context.Context) error {
	known, err := n.retrySessions(ctx)
	if err != nil {
		return err
	}
	for name, rec := range known {
		if ttl := n.Config.Cluster.SessionTTL; rec.State == lease.Live && name != n.Config.Node.Name && rec.TTL != ttl {
			return fmt.Errorf("node %s is live with session_ttl %v, this config says %v", name, rec.TTL, ttl)
		}
	}
	return nil
}

// retrySessions reads the sessions until that works: a bucket that was made a moment ago may not answer yet.
func (n *Node) retrySessions(ctx context.Context) (known map[string]lease.Session, err error) {
	err = n.until(ctx, setupLimit/10, func() []string {
		var err error
		if known, err = sessions(ctx, n.kv); err != nil {
			return []string{"the sessions: " + err.Error()}
		}
		return nil
	})
	return known, err
}

// topicAgrees compares a topic with its stream, which holds the number of partitions, subject and key as well, and completes its
// definition: nothing that the stream still has was purged, and every group that was defined for it may hold a purge back.
func (n *Node) topicAgrees(ctx context.Context, t partitioner.Topic, want *topicDefinition) error {
	stream, err := n.ensureStream(ctx, t)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, setupLimit)
	defer cancel()
	info, err := stream.Info(ctx)
	if err != nil {
		return err
	}
	want.Floor = max(info.State.FirstSeq, 1) - 1
	for _, g := range n.Config.Groups {
		if g.Topic == t.Name {
			want.Groups = append(want.Groups, g.Name)
		}
	}
	defs, err := n.kv.Definitions(ctx, "group")
	if err != nil {
		return err
	}
	for _, d := range defs {
		var def groupDefinition
		ours := slices.Contains(want.Groups, d.Name)
		if err := cluster.Decode("group."+d.Name, d.Revision, d.Data, &def); err != nil && !ours {
			return err // it may be one of this topic
		}
		if def.Topic == t.Name && !ours {
			want.Groups = append(want.Groups, d.Name)
		}
	}
	slices.Sort(want.Groups)
	return nil
}

// groupAgrees completes a group's definition with where its partitions begin. That counts for those only whose lease was never
// written. If there are none, the least that was finished does; else it is known only of a group that begins with the first message.
func (n *Node) groupAgrees(ctx context.Context, name string, want *groupDefinition) error {
	partitions := n.topics[want.Topic].Partitions
	saws, err := n.kv.Leases(ctx, name, partitions)
	if err != nil {
		return err
	}
	done, seen := ^uint64(0), 0
	for _, s := range saws {
		if s.Lease != nil {
			done, seen = min(done, s.Lease.Checkpoint), seen+1
		}
	}
	info, err := n.streamInfo(ctx, want.Topic)
	switch {
	case err != nil:
		return err
	case seen == partitions:
		want.Done = done
	case want.Start == worker.StartLatest:
		return errors.New("where the group starts is not known: some of its partitions have no lease yet, and it did not begin with the first " +
			"message; give the group a new name")
	default:
		want.Done = max(info.State.FirstSeq, 1) - 1
	}
	return nil
}

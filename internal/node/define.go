package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go/jetstream"

	"leasehold/cluster"
	"leasehold/cluster/lease"
	"leasehold/internal/config"
	"leasehold/internal/diskguard"
	"leasehold/internal/membership"
	"leasehold/internal/registry"
	"leasehold/internal/supervise"
	"leasehold/partitioner"
	"leasehold/worker"
)

// What is stored about the cluster, its topics and its groups is what the first node defined. None of it changes
// afterwards but a topic's floor, groups and retain, and that a topic or a group was removed; a node whose config says
// otherwise refuses to start. A definition that is not a valid record was written by something other than a node: it is
// written again from this node's config where everything else that is stored agrees with that.

// setup makes or finds the streams and definitions of the cluster, its topics and its groups.
type setup struct {
	config   *config.Config
	log      hclog.Logger
	waiting  *supervise.Waiting
	js       jetstream.JetStream
	kv       *cluster.KV
	registry *registry.Registry
	capacity diskguard.Capacity
	replicas int
	topics   map[string]*topic // Filled by openTopics.
}

func (s *setup) defineCluster(ctx context.Context) error {
	c, record := s.config.Cluster, s.registry.Cluster()
	want := registry.Cluster{
		Version: registry.Version, Mode: s.config.Mode(), Timing: c.Timing, TTL: c.SessionTTL, Renew: c.Renew,
		Margin: c.Margin,
	}
	have, err := record.Define(ctx, want)
	if errors.Is(err, cluster.ErrNotARecord) {
		have, err = record.Redefine(ctx, s.log, err, want, s.sessionsAgree(ctx))
	}
	if err != nil {
		return err
	}
	if have != want {
		return fmt.Errorf("%w: the cluster runs with timing %s (session_ttl %v, renew %v, margin %v), this config "+
			"says %s (%v, %v, %v): every node must have the same", supervise.ErrConfig, have.Timing, have.TTL, have.Renew,
			have.Margin,
			want.Timing, want.TTL, want.Renew, want.Margin)
	}
	return nil
}

func (s *setup) defineTopic(ctx context.Context, t partitioner.Topic) error {
	record := s.registry.Topic(t.Name)
	want := registry.Topic{Version: registry.Version, Partitions: t.Partitions, Subject: t.Subject, Key: t.Key,
		Retain: t.Retain}
	have, err := record.Define(ctx, want)
	if errors.Is(err, cluster.ErrNotARecord) {
		fault := err
		err = s.topicAgrees(ctx, t, &want)
		have, err = record.Redefine(ctx, s.log, fault, want, err)
	}
	if err != nil {
		return err
	}
	if have.Removed {
		return membership.TopicRemoved(t.Name)
	}
	if !have.SameAs(want) {
		return fmt.Errorf("%w: topic %q exists with partitions %d, subject %q, key %v; this config says %d, %q, %v: they "+
			"are "+
			"fixed once a topic exists, so set them back or use a new name",
			supervise.ErrConfig, t.Name, have.Partitions, have.Subject, have.Key, want.Partitions, want.Subject, want.Key)
	}
	if t.RetainStated && have.Retain != t.Retain {
		return s.updateTopic(ctx, t.Name, "take retain "+t.Retain.String(),
			func(def *registry.Topic) { def.Retain = t.Retain })
	}
	return nil
}

// updateTopic changes a topic's record. It tries until ctx ends.
func (s *setup) updateTopic(ctx context.Context, topic, what string, change func(*registry.Topic)) error {
	removed := false
	err := s.waiting.Until(ctx, 100*time.Millisecond, func() []string {
		err := s.registry.Topic(topic).Update(ctx, func(def *registry.Topic) error {
			if removed = def.Removed; removed {
				return membership.TopicRemoved(topic)
			}
			if def.Version == 0 {
				return errors.New("its definition is gone")
			}
			change(def)
			return nil
		})
		if err != nil && !removed {
			return []string{fmt.Sprintf("topic %s to %s: %v", topic, what, err)}
		}
		return nil
	})
	if removed {
		return membership.TopicRemoved(topic)
	}
	return err
}

// defineGroups fixes where each new group starts, for all its partitions at one moment. It returns that by group.
func (s *setup) defineGroups(ctx context.Context) (map[string]uint64, error) {
	starts := map[string]uint64{}
	for _, g := range s.config.Groups {
		want := registry.Group{Version: registry.Version, Topic: g.Topic, Start: g.Start}
		have, err := s.defineGroup(ctx, want, g.Name)
		if err != nil {
			return nil, fmt.Errorf("group %q: %w", g.Name, err)
		}
		if have.Removed {
			return nil, membership.GroupRemoved(g.Name)
		}
		if have.Topic != want.Topic || have.Start != want.Start {
			return nil, fmt.Errorf("%w: group %q exists for topic %q with start %q; this config says %q, %q: they are fixed "+
				"once a group exists, so set them back or use a new name", supervise.ErrConfig, g.Name, have.Topic, have.Start,
				want.Topic, want.Start)
		}
		starts[g.Name] = have.StartAfter
	}
	return starts, nil
}

// defineGroup finds a group's definition, or makes it: first the topic's record names the group, then its start is
// looked up, and last it is defined. What was purged before the first step is below the recorded floor, and nothing is
// purged after it without asking the group.
func (s *setup) defineGroup(ctx context.Context, want registry.Group, name string) (have registry.Group, err error) {
	record := s.registry.Group(name)
	have, rev, err := record.Read(ctx)
	switch {
	case err == nil && rev > 0:
		return have, nil
	case errors.Is(err, cluster.ErrNotARecord):
		fault := err
		err = s.groupAgrees(ctx, name, &want)
		return record.Redefine(ctx, s.log, fault, want, err)
	}
	floor, err := s.joinTopic(ctx, want.Topic, name)
	if err != nil {
		return have, err
	}
	info, err := s.streamInfo(ctx, want.Topic)
	if err != nil {
		return have, err
	}
	want.StartAfter = max(info.State.FirstSeq, 1) - 1
	if want.Start == worker.StartLatest {
		want.StartAfter = info.State.LastSeq
	}
	want.StartAfter = max(want.StartAfter, floor)
	return record.Define(ctx, want)
}

// joinTopic adds a group to its topic's record and returns the floor that is recorded there.
func (s *setup) joinTopic(ctx context.Context, topic, group string) (floor uint64, err error) {
	err = s.updateTopic(ctx, topic, "take group "+group, func(def *registry.Topic) {
		if !slices.Contains(def.Groups, group) {
			def.Groups = append(def.Groups, group)
		}
		floor = def.Floor
	})
	return floor, err
}

// streamInfo asks for a topic's state until there is an answer: a stream that was made a moment ago, by this node or
// another, may not be known where the question arrives.
func (s *setup) streamInfo(ctx context.Context, topic string) (info *jetstream.StreamInfo, err error) {
	err = s.waiting.Until(ctx, 200*time.Millisecond, func() []string {
		try, cancel := context.WithTimeout(ctx, supervise.SetupLimit)
		defer cancel()
		if info, err = s.topics[topic].stream.Info(try); err != nil {
			return []string{fmt.Sprintf("topic %s: %v", topic, err)}
		}
		return nil
	})
	return info, err
}

// sessionsAgree says which live session runs under another ttl than this node's config.
func (s *setup) sessionsAgree(ctx context.Context) error {
	known, err := s.retrySessions(ctx)
	if err != nil {
		return err
	}
	for name, rec := range known {
		if ttl := s.config.Cluster.SessionTTL; rec.State == lease.Live && name != s.config.Node.Name && rec.TTL != ttl {
			return fmt.Errorf("node %s is live with session_ttl %v, this config says %v", name, rec.TTL, ttl)
		}
	}
	return nil
}

// retrySessions reads the sessions until that works: a bucket that was made a moment ago may not answer yet.
func (s *setup) retrySessions(ctx context.Context) (known map[string]lease.Session, err error) {
	err = s.waiting.Until(ctx, supervise.SetupLimit/10, func() []string {
		var err error
		if known, err = registry.Sessions(ctx, s.kv); err != nil {
			return []string{"the sessions: " + err.Error()}
		}
		return nil
	})
	return known, err
}

// topicAgrees compares a topic with its stream, which holds the number of partitions, subject and key as well, and
// completes its definition: nothing that the stream still has was purged, and every group that was defined for it may
// hold a purge back.
func (s *setup) topicAgrees(ctx context.Context, t partitioner.Topic, want *registry.Topic) error {
	stream, err := s.ensureStream(ctx, t)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, supervise.SetupLimit)
	defer cancel()
	info, err := stream.Info(ctx)
	if err != nil {
		return err
	}
	want.Floor = max(info.State.FirstSeq, 1) - 1
	for _, g := range s.config.Groups {
		if g.Topic == t.Name {
			want.Groups = append(want.Groups, g.Name)
		}
	}
	others, err := s.registry.GroupsOf(ctx, t.Name, func(group string) bool { return slices.Contains(want.Groups, group) })
	if err != nil {
		return err
	}
	want.Groups = append(want.Groups, others...)
	slices.Sort(want.Groups)
	return nil
}

// groupAgrees completes a group's definition with where its partitions begin. That counts for those only whose lease
// was never written. If there are none, the least that was finished does; else it is known only of a group that begins
// with the first message.
func (s *setup) groupAgrees(ctx context.Context, name string, want *registry.Group) error {
	partitions := s.topics[want.Topic].Partitions
	saws, err := s.kv.Leases(ctx, name, partitions)
	if err != nil {
		return err
	}
	done, seen := ^uint64(0), 0
	for _, saw := range saws {
		if saw.Lease != nil {
			done, seen = min(done, saw.Lease.Checkpoint), seen+1
		}
	}
	info, err := s.streamInfo(ctx, want.Topic)
	switch {
	case err != nil:
		return err
	case seen == partitions:
		want.StartAfter = done
	case want.Start == worker.StartLatest:
		return errors.New("where the group starts is not known: some of its partitions have no lease yet, and it did not " +
			"begin with the first " +
			"message; give the group a new name")
	default:
		want.StartAfter = max(info.State.FirstSeq, 1) - 1
	}
	return nil
}

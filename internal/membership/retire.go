package membership

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"leasehold/cluster/lease"
	"leasehold/internal/api"
	"leasehold/internal/registry"
	"leasehold/partitioner"
)

// RemoveGroup removes a group: it holds back no messages any more, its dead letters are deleted, and its name is used
// up. It can be repeated: what a node that died in between has left is deleted then.
func (m *Membership) RemoveGroup(ctx context.Context, name string, dryRun bool) (*api.GroupRemoval, error) {
	ctx, cancel := context.WithTimeout(ctx, removalLimit)
	defer cancel()
	c, err := m.catalog(ctx)
	if err != nil {
		return nil, err
	}
	letters, err := m.Capacity.Stored(ctx, partitioner.DeadLetterStream(name))
	if err != nil {
		return nil, err
	}
	def, ok := c.Groups[name]
	if !ok && letters.Stream != "" {
		def, ok = registry.NeverDefined(), true
	}
	if !ok || registry.IsHousekeeping(name) {
		return nil, api.Mark(api.ErrNotFound, fmt.Sprintf("there is no group %q", name))
	}
	all, err := registry.Leases(ctx, m.KV, name, c.Topics[def.Topic].Partitions, def.StartAfter)
	if err != nil {
		return nil, err
	}
	out := m.groupRemoval(ctx, named{name, def}, registry.FinishedAll(all, def.StartAfter))
	out.DryRun, out.Released, out.DeadLetters, out.Freed = dryRun, !dryRun, letters.Messages, int64(letters.Bytes)
	if err := m.markGroup(ctx, named{name, def}, dryRun); err != nil || dryRun {
		return out, err
	}
	if err := m.deleteLetters(ctx, name); err != nil {
		return nil, err
	}
	m.log.Info("group removed", "by", api.By(ctx), "group", name, "topic", def.Topic, "done", out.Done, "unread",
		out.Unread, "dead_letters", out.DeadLetters)
	return out, nil
}

func (m *Membership) deleteLetters(ctx context.Context, group string) error {
	if err := m.deleteStream(ctx, partitioner.DeadLetterStream(group)); err != nil {
		return fmt.Errorf("the group is removed; its dead letters are not deleted yet, so repeat the command: %w", err)
	}
	return nil
}

// groupRemoval says how far the group has come that is to be removed.
func (m *Membership) groupRemoval(ctx context.Context, g named, done uint64) *api.GroupRemoval {
	out := &api.GroupRemoval{V: api.Version, Name: g.name, Topic: g.def.Topic, Done: done}
	if last, ok := m.lastSeq(ctx, g.def.Topic); ok && last > done {
		out.Unread = last - done
	}
	return out
}

// lastSeq is the last sequence of a topic; false if it does not answer.
func (m *Membership) lastSeq(ctx context.Context, topic string) (uint64, bool) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	stream, err := m.JS.Stream(ctx, topic)
	if err != nil {
		return 0, false
	}
	return stream.CachedInfo().State.LastSeq, true
}

// catalog reads what was ever defined and who takes part in it.
func (m *Membership) catalog(ctx context.Context) (registry.Catalog, error) {
	sessions, err := registry.Sessions(ctx, m.KV)
	if err != nil {
		return registry.Catalog{}, err
	}
	return m.Registry.Catalog(ctx, sessions)
}

// named is a group's definition with its name.
type named struct {
	name string
	def  registry.Group
}

// markGroup marks the definition removed. A group whose first node died before it was defined is defined for that.
func (m *Membership) markGroup(ctx context.Context, g named, dryRun bool) error {
	if g.def.Undefined {
		if dryRun {
			return nil
		}
		if _, err := m.Registry.Group(g.name).Define(ctx, g.def); err != nil {
			return err
		}
	}
	return retryConflict(ctx, func() error {
		servers, err := m.Registry.RemoveGroup(ctx, g.name, dryRun)
		if errors.Is(err, registry.ErrInUse) {
			return refuse("group %q is served by %s: take it out of their configs and restart them first", g.name,
				strings.Join(servers, ", "))
		}
		return err
	})
}

// RemoveTopic removes a topic that no live node has and that no group reads, with all its messages. Its name is used
// up. It can be repeated, as RemoveGroup can.
func (m *Membership) RemoveTopic(ctx context.Context, name string, dryRun bool) (*api.TopicRemoval, error) {
	ctx, cancel := context.WithTimeout(ctx, removalLimit)
	defer cancel()
	c, err := m.catalog(ctx)
	if err != nil {
		return nil, err
	}
	if _, ok := c.Topics[name]; !ok {
		return nil, api.Mark(api.ErrNotFound, fmt.Sprintf("there is no topic %q", name))
	}
	if err := m.topicUnused(ctx, name); err != nil {
		return nil, err
	}
	if groups := c.GroupsOf(name); len(groups) > 0 {
		return nil, refuse("topic %q still has the groups %s: `leasehold group remove %s` first", name,
			strings.Join(groups, ", "), groups[0])
	}
	had, err := m.Capacity.Stored(ctx, name)
	if err != nil {
		return nil, err
	}
	out := &api.TopicRemoval{
		V: api.Version, Name: name, DryRun: dryRun, Messages: had.Messages, Bytes: uint64(had.Stored),
		Freed: int64(had.Bytes), Removed: !dryRun,
	}
	if err := m.markTopic(ctx, name, dryRun); err != nil || dryRun {
		return out, err
	}
	if err := m.deleteStream(ctx, name); err != nil {
		return nil, fmt.Errorf("the topic is removed; its messages are not deleted yet, so repeat the command: %w", err)
	}
	m.log.Info("topic removed", "by", api.By(ctx), "topic", name, "messages", out.Messages, "freed", had.Bytes)
	return out, nil
}

// topicUnused refuses a topic that some node has, be it down: such a node may be restarting just now, and with the
// topic in its config it could not start any more. Nodes that were removed from the cluster do not count.
func (m *Membership) topicUnused(ctx context.Context, topic string) error {
	known, err := registry.Sessions(ctx, m.KV)
	if err != nil {
		return err
	}
	var live []string
	var down []lease.Session
	for node, rec := range known {
		switch {
		case !slices.Contains(rec.Groups, registry.HousekeepingGroup(topic)):
		case rec.State == lease.Live:
			live = append(live, node)
		default:
			down = append(down, rec)
		}
	}
	if len(live) > 0 {
		slices.Sort(live)
		return topicInUse(topic, live)
	}
	return m.topicOfDown(ctx, topic, down)
}

func (m *Membership) topicOfDown(ctx context.Context, topic string, down []lease.Session) error {
	if len(down) == 0 {
		return nil
	}
	v, err := m.Voters(ctx)
	if err != nil {
		return err
	}
	for _, rec := range down {
		if !v.Removed(rec) {
			return refuse("topic %q was in the config of %s, which is down: start it without the topic, or `leasehold node "+
				"remove %s` first",
				topic, rec.Node, rec.Node)
		}
	}
	return nil
}

func (m *Membership) markTopic(ctx context.Context, name string, dryRun bool) error {
	return retryConflict(ctx, func() error {
		nodes, err := m.Registry.RemoveTopic(ctx, name, dryRun)
		if errors.Is(err, registry.ErrInUse) {
			return topicInUse(name, nodes)
		}
		return err
	})
}

func topicInUse(name string, nodes []string) error {
	return refuse("topic %q is in the config of %s: take it out of their configs and restart them first", name,
		strings.Join(nodes, ", "))
}

// deleteStream deletes a stream and gives what it reserved to those that want more.
func (m *Membership) deleteStream(ctx context.Context, stream string) error {
	return retry(ctx, func() error { return m.Capacity.DeleteStream(ctx, stream) })
}

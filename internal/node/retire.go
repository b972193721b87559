package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"leasehold/cluster"
	"leasehold/cluster/lease"
	"leasehold/internal/api"
	"leasehold/partitioner"
	"leasehold/partitioner/stream"
	"leasehold/worker"
)

// neverDefined is a group of which there are only dead letters: the node that was to define it died before. It is defined so when
// it is removed, so that its name is used up.
var neverDefined = groupDefinition{Version: 1, Topic: "(unknown)", Start: worker.StartEarliest, undefined: true}

// RemoveGroup removes a group: it holds back no messages any more, its dead letters are deleted, and its name is used
// up. It can be repeated: what a node that died in between has left is deleted then.
func (n *Node) RemoveGroup(ctx context.Context, name string, dryRun bool) (*api.GroupRemoval, error) {
	ctx, cancel := context.WithTimeout(ctx, removalLimit)
	defer cancel()
	kv, c, err := n.look(ctx)
	if err != nil {
		return nil, err
	}
	letters, err := n.stored(ctx, partitioner.DeadLetterStream(name))
	if err != nil {
		return nil, err
	}
	def, ok := c.groups[name]
	if !ok && letters.Stream != "" {
		def, ok = neverDefined, true
	}
	if !ok || isChore(name) {
		return nil, api.Mark(api.ErrNotFound, fmt.Sprintf("there is no group %q", name))
	}
	all, err := leases(ctx, kv, name, c.topics[def.Topic].Partitions, def.Done)
	if err != nil {
		return nil, err
	}
	out := n.groupRemoval(ctx, named{name, def}, finished(all, def.Done))
	out.DryRun, out.Released, out.DeadLetters, out.Freed = dryRun, !dryRun, letters.Messages, int64(letters.Bytes)
	if err := n.markGroup(ctx, kv, named{name, def}, dryRun); err != nil || dryRun {
		return out, err
	}
	if err := n.deleteLetters(ctx, name); err != nil {
		return nil, err
	}
	n.log.Info("group removed", "by", api.By(ctx), "group", name, "topic", def.Topic, "done", out.Done, "unread", out.Unread, "dead_letters", out.DeadLetters)
	return out, nil
}

func (n *Node) deleteLetters(ctx context.Context, group string) error {
	if err := n.deleteStream(ctx, partitioner.DeadLetterStream(group)); err != nil {
		return fmt.Errorf("the group is removed; its dead letters are not deleted yet, so repeat the command: %w", err)
	}
	return nil
}

// groupRemoval says how far the group has come that is to be removed.
func (n *Node) groupRemoval(ctx context.Context, g named, done uint64) *api.GroupRemoval {
	out := &api.GroupRemoval{V: api.Version, Name: g.name, Topic: g.def.Topic, Done: done}
	if last, ok := n.lastSeq(ctx, g.def.Topic); ok && last > done {
		out.Unread = last - done
	}
	return out
}

// named is a group's definition with its name.
type named struct {
	name string
	def  groupDefinition
}

// markGroup marks the definition removed. A group whose first node died before it was defined is defined for that.
func (n *Node) markGroup(ctx context.Context, kv *cluster.KV, g named, dryRun bool) error {
	if g.def.undefined {
		if dryRun {
			return nil
		}
		if err := kv.Define(ctx, "group."+g.name, g.def, &groupDefinition{}); err != nil {
			return err
		}
	}
	return retryConflict(ctx, func() error {
		servers, err := kv.RemoveGroup(ctx, g.name, dryRun)
		if errors.Is(err, cluster.ErrAlive) {
			return refuse("group %q is served by %s: take it out of their configs and restart them first", g.name, strings.Join(servers, ", "))
		}
		return err
	})
}

// RemoveTopic removes a topic that no live node has and that no group reads, with all its messages. Its name is used up. It
// can be repeated, as RemoveGroup can.
func (n *Node) RemoveTopic(ctx context.Context, name string, dryRun bool) (*api.TopicRemoval, error) {
	ctx, cancel := context.WithTimeout(ctx, removalLimit)
	defer cancel()
	kv, c, err := n.look(ctx)
	if err != nil {
		return nil, err
	}
	if _, ok := c.topics[name]; !ok {
		return nil, api.Mark(api.ErrNotFound, fmt.Sprintf("there is no topic %q", name))
	}
	if err := n.topicUnused(ctx, kv, name); err != nil {
		return nil, err
	}
	if groups := c.readers(name); len(groups) > 0 {
		return nil, refuse("topic %q still has the groups %s: `leasehold group remove %s` first", name, strings.Join(groups, ", "), groups[0])
	}
	had, err := n.stored(ctx, name)
	if err != nil {
		return nil, err
	}
	out := &api.TopicRemoval{
		V: api.Version, Name: name, DryRun: dryRun, Messages: had.Messages, Bytes: uint64(had.Stored), Freed: int64(had.Bytes), Removed: !dryRun,
	}
	if err := n.markTopic(ctx, kv, name, dryRun); err != nil || dryRun {
		return out, err
	}
	if err := n.deleteStream(ctx, name); err != nil {
		return nil, fmt.Errorf("the topic is removed; its messages are not deleted yet, so repeat the command: %w", err)
	}
	n.log.Info("topic removed", "by", api.By(ctx), "topic", name, "messages", out.Messages, "freed", had.Bytes)
	return out, nil
}

// topicUnused refuses a topic that some node has, be it down: such a node may be restarting just now, and with the topic in its
// config it could not start any more. Nodes that were removed from the cluster do not count.
func (n *Node) topicUnused(ctx context.Context, kv *cluster.KV, topic string) error {
	known, err := sessions(ctx, kv)
	if err != nil {
		return err
	}
	var live []string
	var down []lease.Session
	for node, rec := range known {
		switch {
		case !slices.Contains(rec.Groups, choreGroup(topic)):
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
	return n.topicOfDown(ctx, kv, topic, down)
}

func (n *Node) topicOfDown(ctx context.Context, kv *cluster.KV, topic string, down []lease.Session) error {
	if len(down) == 0 {
		return nil
	}
	v, err := n.voters(ctx, kv)
	if err != nil {
		return err
	}
	for _, rec := range down {
		if !v.removed(rec) {
			return refuse("topic %q was in the config of %s, which is down: start it without the topic, or `leasehold node remove %s` first",
				topic, rec.Node, rec.Node)
		}
	}
	return nil
}

func (n *Node) markTopic(ctx context.Context, kv *cluster.KV, name string, dryRun bool) error {
	return retryConflict(ctx, func() error {
		nodes, err := kv.RemoveTopic(ctx, name, choreGroup(name), dryRun)
		if errors.Is(err, cluster.ErrAlive) {
			return topicInUse(name, nodes)
		}
		return err
	})
}

func topicInUse(name string, nodes []string) error {
	return refuse("topic %q is in the config of %s: take it out of their configs and restart them first", name, strings.Join(nodes, ", "))
}

// stored looks at one stream; the zero Reservation if it is not there.
func (n *Node) stored(ctx context.Context, name string) (stream.Reservation, error) {
	all, err := n.reservations(ctx, listLimit)
	var missing *stream.MissingError
	if err != nil && (!errors.As(err, &missing) || slices.Contains(missing.Streams, name)) {
		return stream.Reservation{}, api.Mark(api.ErrNotYet, err.Error())
	}
	for _, r := range all {
		if r.Stream == name {
			return r, nil
		}
	}
	return stream.Reservation{}, nil
}

// deleteStream deletes a stream and gives what it had to those that want more.
func (n *Node) deleteStream(ctx context.Context, name string) error {
	if err := again(ctx, func() error { return stream.Delete(ctx, n.conns.operator, name) }); err != nil {
		return err
	}
	n.growStreams(ctx)
	return nil
}

// retryConflict tries again what lost against another write to the same record.
func retryConflict(ctx context.Context, try func() error) (err error) {
	for range 5 {
		if err = try(); !errors.Is(err, cluster.ErrConflict) || ctx.Err() != nil {
			return err
		}
	}
	return err
}

// confirmDefinitions makes sure, once the session is live, that no group and no topic of this node was removed while it was
// starting.
func (n *Node) confirmDefinitions(ctx context.Context) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	left := n.removables()
	for len(left) > 0 {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if view, err := n.driver.Snapshot(ctx); err != nil || !view.Live {
			continue
		}
		removed, err := n.confirm(ctx, left[0].key)
		switch {
		case removed:
			return left[0].refusal
		case err == nil:
			left = left[1:]
		}
	}
	<-ctx.Done()
	return nil
}

// removable is a definition that this node needs, and what it ends with if that was removed.
type removable struct {
	key     string
	refusal error
}

func (n *Node) removables() (all []removable) {
	for _, g := range n.groups {
		all = append(all, removable{"group." + g.name, groupRemoved(g.name)})
	}
	for name := range n.topics {
		all = append(all, removable{topicKey(name), topicRemoved(name)})
	}
	return all
}

func (n *Node) confirm(ctx context.Context, key string) (removed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, setupLimit)
	defer cancel()
	return n.kv.Confirm(ctx, key)
}

// groupRemoved is the refusal of a group whose name is used up.
func groupRemoved(group string) error {
	return fmt.Errorf("%w: group %q was removed from the cluster, and messages that it had not finished may be gone: "+
		"take it out of the config, or give it a new name", ErrConfig, group)
}

// topicRemoved is the refusal of a topic whose name is used up.
func topicRemoved(topic string) error {
	return fmt.Errorf("%w: topic %q was removed from the cluster with its messages: take it out of the config, or give it a new name",
		ErrConfig, topic)
}

// readers are the groups of a topic that were not removed.
func (c catalog) readers(topic string) (groups []string) {
	for name, def := range c.groups {
		if def.Topic == topic && !def.Removed {
			groups = append(groups, name)
		}
	}
	slices.Sort(groups)
	return groups
}

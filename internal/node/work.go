package node

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"leasehold/cluster"
	"leasehold/cluster/lease"
	"leasehold/internal/ownership"
	"leasehold/internal/peers"
	"leasehold/internal/registry"
	"leasehold/internal/repair"
	"leasehold/internal/status"
	"leasehold/internal/supervise"
	"leasehold/partitioner"
	"leasehold/server/access"
	"leasehold/worker"
	"leasehold/worker/deadletter"
	"leasehold/worker/handler"
	"leasehold/worker/reader"
)

// group is one group on this node.
type group struct {
	name   string
	config worker.Config
	topic  *topic
	start  uint64
	worker *worker.Group
}

// work is what this node may be granted leases for: the lanes of its groups, and the housekeeping of its topics.
type work struct {
	Options
	conns    *conns
	registry *registry.Registry
	topics   map[string]*topic
	groups   []*group
	server   string                    // Where the readers' consumers are to be placed, empty in single mode.
	hole     func(topic string) string // What a topic's replica on this node has lost, empty if nothing.
	stop     func(error)               // Ends the run. Set by run, before the first lane starts.
}

// build builds the groups, and a reader for each topic that has one. It reads as long as the node takes part, also
// while the node holds none of the topic's partitions: a takeover must not wait for a consumer to be created.
func (w *work) build(lock *os.File, starts map[string]uint64) error {
	idle := rate.NewLimiter(5, 5) // Of the node, whatever the number of topics.
	for _, c := range w.Config.Groups {
		handler, err := c.NewHandler(handler.Env{
			App: "leasehold/" + w.Version, Node: w.Config.Node.Name, Group: c.Name, Topic: c.Topic,
			Conn: w.conns.services, Subject: access.ServeSubject(c.Name), Lock: lock, Logger: w.Logger,
		})
		if err != nil {
			return err
		}
		t := w.topics[c.Topic]
		if t.reader == nil {
			t.reader = w.newReader(t.Topic, idle)
		}
		built, err := worker.NewGroup(worker.GroupOptions{
			Config: c, Topic: t.Topic, Node: w.Config.Node.Name, Handler: handler, Reader: t.reader, Logger: w.Logger,
			DeadLetters: &deadletter.Store{Group: c.Name, JS: w.conns.letters},
		})
		if err != nil {
			return fmt.Errorf("group %q: %w", c.Name, err)
		}
		w.groups = append(w.groups, &group{name: c.Name, config: c, topic: t, start: starts[c.Name], worker: built})
	}
	return nil
}

func (w *work) newReader(t partitioner.Topic, idle *rate.Limiter) *reader.Reader {
	return reader.New(reader.Options{
		Topic: t, JS: w.conns.readers, Logger: w.Logger, IdleWrites: idle, Pressure: w.pressure(t),
		LocalServer: func() string { return w.server },
	})
}

// run runs the groups, after the readers of their topics.
func (w *work) run(ctx context.Context, stop context.CancelCauseFunc) []*supervise.Part {
	w.stop = stop
	var parts []*supervise.Part
	for _, t := range w.topics {
		if t.reader != nil {
			parts = append(parts, supervise.Go(ctx, stop, "reader of "+t.Name, t.reader.Run))
		}
	}
	for _, g := range w.groups {
		parts = append(parts, supervise.Go(ctx, stop, "group "+g.name, g.worker.Run))
	}
	return parts
}

// start starts the work of a lease that this node has claimed: a lane of a group, or a topic's housekeeping.
func (w *work) start(g ownership.Grant) cluster.Lane {
	if g.Kind == ownership.Housekeeping {
		topic, _ := registry.HousekeepingTopic(g.Group)
		return startHousekeeping(newJanitor(w.topics[topic].Topic, w.registry, w.conns.operator, w.Logger).Run)
	}
	group := w.group(g.Group)
	if hole := w.hole(group.topic.Name); hole != "" {
		w.stop(repair.CorruptError(group.topic.Name, hole))
		return startRefused(g)
	}
	return group.worker.Start(g)
}

// group is a group of this node. The lease protocol claims leases of no other.
func (w *work) group(name string) *group {
	for _, g := range w.groups {
		if g.name == name {
			return g
		}
	}
	panic("a lane of a group that this node does not serve: " + name)
}

// pressure reports that a topic is more than half full, looked at every few seconds.
func (w *work) pressure(t partitioner.Topic) func() bool {
	var at time.Time
	var pressed bool
	return func() bool {
		if time.Since(at) < 2*time.Second {
			return pressed
		}
		at = time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if stream, err := w.conns.operator.Stream(ctx, t.Name); err == nil {
			info := stream.CachedInfo()
			pressed = info.State.Bytes > uint64(max(info.Config.MaxBytes, 0))/2
		}
		return pressed
	}
}

// leases are what the lease protocol shares out. handover bounds that of housekeeping, which has nothing to finish.
func (w *work) leases(handover time.Duration) []lease.Group {
	var all []lease.Group
	for _, g := range w.groups {
		all = append(all, lease.Group{
			Name: g.name, Partitions: g.topic.Partitions, Start: g.start, Handover: g.config.HandoverTimeout,
		})
	}
	for _, t := range w.topics {
		all = append(all, lease.Group{Name: registry.HousekeepingGroup(t.Name), Kind: ownership.Housekeeping,
			Partitions: 1, Handover: handover})
	}
	return all
}

// commitIntervals are the groups' own intervals between two writes of their progress.
func (w *work) commitIntervals() map[string]time.Duration {
	intervals := map[string]time.Duration{}
	for _, g := range w.groups {
		intervals[g.name] = g.config.CommitInterval
	}
	return intervals
}

// serving is what answers operators once the node serves.
func (w *work) serving(driver *cluster.Driver) *status.Serving {
	s := &status.Serving{Driver: driver, Topics: map[string]status.Topic{}}
	for name, t := range w.topics {
		s.Topics[name] = status.Topic{Topic: t.Topic, Stream: t.stream}
	}
	for _, g := range w.groups {
		s.Groups = append(s.Groups, status.Group{Name: g.name, Topic: g.topic.Name, Partitions: g.topic.Partitions,
			StartAfter: g.start})
	}
	return s
}

// lanes are the workers of the groups, by name.
func (w *work) lanes() map[string]peers.Lanes {
	lanes := map[string]peers.Lanes{}
	for _, g := range w.groups {
		lanes[g.name] = g.worker
	}
	return lanes
}

// streams are those that this node works with.
func (w *work) streams() []string {
	all := append([]string{cluster.Stream}, slices.Collect(maps.Keys(w.topics))...)
	for _, g := range w.groups {
		all = append(all, partitioner.DeadLetterStream(g.name))
	}
	return all
}

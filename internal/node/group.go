package node

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"leasehold/cluster"
	"leasehold/internal/ownership"
	"leasehold/internal/registry"
	"leasehold/internal/repair"
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

// buildGroups builds the groups, and a reader for each topic that has one. It reads as long as the node takes part,
// also while the node holds none of the topic's partitions: a takeover must not wait for a consumer to be created.
func (n *Node) buildGroups(lock *os.File, starts map[string]uint64) error {
	idle := rate.NewLimiter(5, 5) // Of the node, whatever the number of topics.
	for _, c := range n.Config.Groups {
		handler, err := c.NewHandler(handler.Env{
			App: "leasehold/" + n.Version, Node: n.Config.Node.Name, Group: c.Name, Topic: c.Topic,
			Conn: n.conns.services, Subject: access.ServeSubject(c.Name), Lock: lock, Logger: n.Logger,
		})
		if err != nil {
			return err
		}
		t := n.topics[c.Topic]
		if t.reader == nil {
			t.reader = n.newReader(t.Topic, idle)
		}
		w, err := worker.NewGroup(worker.GroupOptions{
			Config: c, Topic: t.Topic, Node: n.Config.Node.Name, Handler: handler, Reader: t.reader, Logger: n.Logger,
			DeadLetters: &deadletter.Store{Group: c.Name, JS: n.conns.letters},
		})
		if err != nil {
			return fmt.Errorf("group %q: %w", c.Name, err)
		}
		n.groups = append(n.groups, &group{name: c.Name, config: c, topic: t, start: starts[c.Name], worker: w})
	}
	return nil
}

func (n *Node) newReader(t partitioner.Topic, idle *rate.Limiter) *reader.Reader {
	return reader.New(reader.Options{
		Topic: t, JS: n.conns.readers, Logger: n.Logger, IdleWrites: idle, Pressure: n.pressure(t),
		LocalServer: n.localServer,
	})
}

// runGroups runs the groups, after the readers of their topics.
func (n *Node) runGroups(ctx context.Context, stop context.CancelCauseFunc) []*supervise.Part {
	var work []*supervise.Part
	for _, t := range n.topics {
		if t.reader != nil {
			work = append(work, supervise.Go(ctx, stop, "reader of "+t.Name, t.reader.Run))
		}
	}
	for _, g := range n.groups {
		work = append(work, supervise.Go(ctx, stop, "group "+g.name, g.worker.Run))
	}
	return work
}

// startLane starts the work of a lease that this node has claimed: a lane of a group, or a topic's housekeeping.
func (n *Node) startLane(g ownership.Grant) cluster.Lane {
	if g.Kind == ownership.Housekeeping {
		topic, _ := registry.HousekeepingTopic(g.Group)
		return startHousekeeping(n.janitor(n.topics[topic]).Run)
	}
	group := n.group(g.Group)
	if hole := n.repair.Hole(group.topic.Name); hole != "" {
		n.stopServing(repair.CorruptError(group.topic.Name, hole))
		return startRefused(g)
	}
	return group.worker.Start(g)
}

// group is a group of this node. The lease protocol claims leases of no other.
func (n *Node) group(name string) *group {
	for _, g := range n.groups {
		if g.name == name {
			return g
		}
	}
	panic("a lane of a group that this node does not serve: " + name)
}

// lastWord is what the line that says why the process dies gets to be written: small beside half a margin, after which
// another node may own the partition.
const lastWord = 20 * time.Millisecond

// die ends the process where it stands, and its children with it: they are killed by the kernel when it is gone. It is
// for a lane that will not stop though another node may own its partition in a moment. Nothing on the way may wait for
// long, not even for the lock of a log.
func (n *Node) die(reason string) {
	logged := make(chan struct{})
	go func() {
		defer close(logged)
		n.log.Error("ending the process", "reason", reason)
		n.Log.Flush(lastWord)
	}()
	select {
	case <-logged:
	case <-time.After(lastWord):
	}
	_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	time.Sleep(time.Minute) // not reached
}

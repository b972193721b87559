package node

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"leasehold/cluster"
	"leasehold/internal/ownership"
	"leasehold/partitioner"
	"leasehold/server/access"
	"leasehold/server/datadir"
	"leasehold/server/raft"
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

// letters are the dead letters of a group, as operators look after them. The lanes of this node's groups have their own
// connection for theirs.
func (n *Node) letters(group string) *deadletter.Store {
	return &deadletter.Store{Group: group, JS: n.conns.operator}
}

// buildGroups builds the groups, and a reader for each topic that has one. It reads as long as the node takes part, also
// while the node holds none of the topic's partitions: a takeover must not wait for a consumer to be created.
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
		Topic: t, JS: n.conns.readers, Logger: n.Logger, IdleWrites: idle, Pressure: n.pressure(t), LocalServer: n.localServer,
	})
}

// runGroups runs the groups, after the readers of their topics.
func (n *Node) runGroups(ctx context.Context, stop context.CancelCauseFunc) []*part {
	var work []*part
	for _, t := range n.topics {
		if t.reader != nil {
			work = append(work, runPart(ctx, stop, "reader of "+t.Name, t.reader.Run))
		}
	}
	for _, g := range n.groups {
		work = append(work, runPart(ctx, stop, "group "+g.name, g.worker.Run))
	}
	return work
}

// startLane starts the work of a lease that this node has claimed: a lane of a group, or a topic's chores.
func (n *Node) startLane(g ownership.Grant) cluster.Lane {
	if name, ok := strings.CutPrefix(g.Group, chorePrefix); ok {
		return startChore(n.janitor(n.topics[name]).Run)
	}
	for _, gr := range n.groups {
		if gr.name == g.Group {
			if damage := n.holes.of(gr.topic.Name); damage != "" {
				n.endLife(damagedError(gr.topic.Name, damage))
				return startBarred(g)
			}
			return gr.worker.Start(g)
		}
	}
	panic("a lane of a group that this node does not serve: " + g.Group)
}

// lastWord is what the line that says why the process dies gets to be written: small beside half a margin, after which
// another node may own the partition.
const lastWord = 20 * time.Millisecond

// die ends the process where it stands, and its children with it: they are killed by the kernel when it is gone. It is
// for a lane that will not stop though another node may own its partition in a moment. Nothing on the way may wait for long, not even for the lock of a log.
func (n *Node) die(reason string) {
	said := make(chan struct{})
	go func() {
		defer close(said)
		n.log.Error("ending the process", "reason", reason)
		n.Log.Flush(lastWord)
	}()
	select {
	case <-said:
	case <-time.After(lastWord):
	}
	_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	time.Sleep(time.Minute) // not reached
}

// longestElection is how long the cluster may be without a leader in an ordinary election.
func (n *Node) longestElection() time.Duration {
	if n.Config.Mode() == datadir.Single {
		return 0
	}
	timing, err := raft.TimingByName(n.Config.Cluster.Timing)
	if err != nil {
		return 0
	}
	return timing.ElectionMax
}

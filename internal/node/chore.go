package node

import (
	"context"
	"strings"
	"time"

	"leasehold/cluster"
	"leasehold/internal/ownership"
	"leasehold/partitioner/stream"
)

// choreGroup is the group whose one lease says who does a topic's chores. Users' groups cannot begin with "_".
func choreGroup(topic string) string { return chorePrefix + topic }

const chorePrefix = "_chores_"

func isChore(group string) bool { return strings.HasPrefix(group, chorePrefix) }

// chore is the lane of a chore lease: something that runs until it is stopped, without progress to store.
type chore struct {
	cancel  context.CancelFunc
	stopped chan struct{}
}

func startChore(run func(context.Context)) *chore {
	ctx, cancel := context.WithCancel(context.Background())
	c := &chore{cancel: cancel, stopped: make(chan struct{})}
	go func() {
		defer close(c.stopped)
		run(ctx)
	}()
	return c
}

func (c *chore) Drain()                               { c.cancel() }
func (c *chore) Cancel(error)                         { c.cancel() }
func (c *chore) Stopped() <-chan struct{}             { return c.stopped }
func (c *chore) Progress() (ownership.Progress, bool) { return ownership.Progress{}, false }
func (c *chore) Committed(ownership.Progress)         {}

// barred is the lane of a partition that this node has claimed and must not work on. It waits to be taken away.
type barred struct {
	*chore
	progress ownership.Progress
}

func startBarred(g ownership.Grant) cluster.Lane {
	return &barred{chore: startChore(func(ctx context.Context) { <-ctx.Done() }), progress: g.Progress}
}

func (b *barred) Progress() (ownership.Progress, bool) { return b.progress, false }

// janitorEvery is how often finished messages are purged.
const janitorEvery = 5 * time.Second

// janitor builds the chores of a topic. The groups that hold a purge back are those that the topic's record names, and
// the floor is stored on the very revision that named them: a group that joins in between makes the purge fail, however
// stale the read was that did not show it.
func (n *Node) janitor(t *topic) *stream.Janitor {
	var def topicDefinition // Of the latest Finished; one goroutine calls both.
	return &stream.Janitor{
		Topic: t.Topic, JS: n.conns.operator, Every: janitorEvery, Logger: n.Logger.Named("janitor"),
		Finished: func(ctx context.Context) (f stream.Finished, ok bool, err error) {
			def = topicDefinition{}
			if f.Revision, err = n.kv.ReadDefinition(ctx, topicKey(t.Name), &def); err != nil || f.Revision == 0 {
				return f, false, err
			}
			f.Retain = def.Retain
			f.Seq, ok, err = n.kv.Finished(ctx, def.Groups, t.Partitions)
			return f, ok, err
		},
		Record: func(ctx context.Context, f stream.Finished, floor uint64) error {
			def.Floor = max(def.Floor, floor)
			return n.kv.Put(ctx, topicKey(t.Name), f.Revision, def)
		},
	}
}

package node

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"leasehold/cluster/lease"
	"leasehold/internal/api"
	"leasehold/internal/bytesize"
	"leasehold/partitioner/stream"
	"leasehold/server/datadir"
	"leasehold/server/disk"
)

// How publishes are refused while a node is short of disk space: each node that is short holds every topic, again and
// again, since a node that starts or another one that has just got room may release it. Nothing is stored about it but
// the topics' own setting, so nothing can be left behind by a node that dies: the others release what no live node
// wants held.
const (
	holdEvery    = time.Second
	releaseEvery = 5 // Rounds. Held wrongly, a topic is late for some seconds; that costs less than asking all the time.
	holdLimit    = 5 * time.Second
)

// watchSpace holds the topics while this node is short, and releases them when nobody is.
func (n *Node) watchSpace(ctx context.Context) error {
	tick := time.NewTicker(holdEvery)
	defer tick.Stop()
	said := ""
	for round := 0; ; round++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		var err error
		switch short := n.disk.State().Short; {
		case short:
			err = n.holdTopics(ctx)
		case round%releaseEvery == 0:
			err = n.releaseTopics(ctx)
		}
		if err != nil && ctx.Err() == nil && err.Error() != said { // Without a quorum it is the same one for long.
			said = err.Error()
			n.log.Warn("what topics take cannot be changed", "error", err)
		}
	}
}

// holdTopics makes every topic of the cluster refuse messages: this node stores those of other nodes' configs as well.
func (n *Node) holdTopics(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, holdLimit)
	defer cancel()
	topics, err := definitions[topicDefinition](ctx, n.kv, "topic")
	if err != nil {
		return err
	}
	for name := range topics {
		changed, err := stream.PausePublishing(ctx, n.conns.operator, name, true)
		if err != nil {
			return err
		}
		if changed {
			n.log.Warn("topic takes no messages: this node is short of disk space", "topic", name)
		}
	}
	return nil
}

// releaseTopics lets topics that are held take messages again, if every live node says that it has room.
func (n *Node) releaseTopics(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, holdLimit)
	defer cancel()
	topics, err := definitions[topicDefinition](ctx, n.kv, "topic")
	if err != nil {
		return err
	}
	roomy := false // Asked once, if need be.
	for name := range topics {
		have, err := n.conns.operator.Stream(ctx, name)
		if err != nil {
			return err
		}
		if !stream.PublishingPaused(have.CachedInfo().Config) {
			continue
		}
		if !roomy && !n.everybodyHasRoom(ctx) {
			return nil
		}
		roomy = true
		changed, err := stream.PausePublishing(ctx, n.conns.operator, name, false)
		if err != nil {
			return err
		}
		if changed {
			n.log.Info("topic takes messages again", "topic", name)
		}
	}
	return nil
}

func (n *Node) everybodyHasRoom(ctx context.Context) bool {
	view, err := n.driver.Snapshot(ctx)
	if err != nil || !view.Live {
		return false
	}
	live := liveNodes(view)
	return mayRelease(live, n.reports(ctx, len(live)))
}

// mayRelease decides from what the live nodes say of themselves. One that says nothing may be short.
func mayRelease(live []string, said map[string]report) bool {
	return !slices.ContainsFunc(live, func(node string) bool {
		r, ok := said[node]
		return !ok || r.Disk.Short
	})
}

func liveNodes(view lease.View) (names []string) {
	for _, rec := range view.Sessions {
		if rec.State == lease.Live {
			names = append(names, rec.Node)
		}
	}
	return names
}

// diskReport is what a node says of its disk.
type diskReport struct {
	Free       uint64  `json:"free"`
	MinFree    uint64  `json:"min_free"`
	Short      bool    `json:"short"`
	FsyncP99MS float64 `json:"fsync_p99_ms"`
	SlowFsync  bool    `json:"slow_fsync"`
}

func newDiskReport(s disk.State) diskReport {
	return diskReport{
		Free: s.Free, MinFree: s.MinFree, Short: s.Short,
		FsyncP99MS: float64(s.FsyncP99.Microseconds()) / 1000, SlowFsync: s.SlowFsync,
	}
}

// diskWarnings says what a person should do about the nodes' disks, and which topics are held for them.
func diskWarnings(timing string, said map[string]report, topics []api.Topic) (out []string) {
	short := false
	for name, r := range said {
		d := r.Disk
		if d.Short {
			short = true
			out = append(out, fmt.Sprintf("node %s is short of disk space (%s free, server.min_free %s): publishes are refused on all nodes "+
				"until it has room; what is stored is handled as ever", name, bytesize.Size(d.Free).Short(), bytesize.Size(d.MinFree).Short()))
		}
		if d.SlowFsync && timing == timingLAN {
			out = append(out, fmt.Sprintf("node %s has a slow disk: of its synced writes more than one in 1,000 took longer than 250 ms, which "+
				"makes elections with timing \"lan\"; use cluster.timing = \"wan\" from the start of a new cluster, or a faster disk", name))
		}
	}
	slices.Sort(out)
	var held []string
	for _, t := range topics {
		if t.Held {
			held = append(held, t.Name)
		}
	}
	if len(held) > 0 && !short {
		out = append(out, fmt.Sprintf("publishes to %s are refused, as when a node is short of disk space, and none says that it is: they are "+
			"taken again once every live node has said that it has room", strings.Join(held, ", ")))
	}
	return out
}

// timingLAN is the timing that wants a disk of some speed.
const timingLAN = "lan"

// timing is how this node's cluster is timed, "" if it is none: a node on its own has no elections.
func (n *Node) timing() string {
	if n.Config.Mode() == datadir.Single {
		return ""
	}
	return n.Config.Cluster.Timing
}

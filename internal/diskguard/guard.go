// Package diskguard keeps topics from filling the nodes' disks. Guard pauses publishing while a node is short of disk
// space; Capacity sizes the streams so that together they fit into server.max_store.
package diskguard

import (
	"context"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"leasehold/cluster/lease"
	"leasehold/internal/peers"
	"leasehold/internal/registry"
	"leasehold/partitioner/stream"
	"leasehold/server/disk"
)

// Publishing is paused by every node that is short, again and again, since a node that starts or another one that has
// just got space may resume it. Nothing is stored about it but the topics' own setting, so a node that dies leaves
// nothing behind: the others resume what no live node wants paused.
const (
	checkEvery  = time.Second
	resumeEvery = 5 // Rounds. Paused wrongly, a topic is late for some seconds; that costs less than asking all the time.
	changeLimit = 5 * time.Second
)

// Options are what a Guard needs.
type Options struct {
	Disk interface{ State() disk.State }
	// Driver is the lease protocol of this node, asked for the live nodes.
	Driver interface {
		Snapshot(ctx context.Context) (lease.View, error)
	}
	Registry *registry.Registry
	JS       jetstream.JetStream
	Peers    *nats.Conn
	Logger   hclog.Logger
}

// Guard pauses and resumes publishing on the topics.
type Guard struct {
	Options
	log hclog.Logger
}

// New returns a Guard at rest.
func New(o Options) *Guard { return &Guard{Options: o, log: o.Logger.Named("diskguard")} }

// Run pauses publishing while this node is short of disk space, and resumes it when no node is, until ctx ends.
func (g *Guard) Run(ctx context.Context) error {
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	logged := ""
	for round := 0; ; round++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		var err error
		switch short := g.Disk.State().Short; {
		case short:
			err = g.pauseTopics(ctx)
		case round%resumeEvery == 0:
			err = g.resumeTopics(ctx)
		}
		if err != nil && ctx.Err() == nil && err.Error() != logged { // Without a quorum it is the same one for long.
			logged = err.Error()
			g.log.Warn("cannot pause or resume publishing on topics", "error", err)
		}
	}
}

// pauseTopics makes every topic of the cluster refuse messages: this node stores those of other nodes' configs as well.
func (g *Guard) pauseTopics(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, changeLimit)
	defer cancel()
	topics, err := g.Registry.Topics(ctx)
	if err != nil {
		return err
	}
	for name := range topics {
		changed, err := stream.PausePublishing(ctx, g.JS, name, true)
		if err != nil {
			return err
		}
		if changed {
			g.log.Warn("publishing paused: this node is short of disk space", "topic", name)
		}
	}
	return nil
}

// resumeTopics lets paused topics take messages again, if every live node reports that it has space.
func (g *Guard) resumeTopics(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, changeLimit)
	defer cancel()
	topics, err := g.Registry.Topics(ctx)
	if err != nil {
		return err
	}
	mayResume := false // Asked once, if need be.
	for name := range topics {
		str, err := g.JS.Stream(ctx, name)
		if err != nil {
			return err
		}
		if !stream.PublishingPaused(str.CachedInfo().Config) {
			continue
		}
		if !mayResume && !g.allHaveSpace(ctx) {
			return nil
		}
		mayResume = true
		changed, err := stream.PausePublishing(ctx, g.JS, name, false)
		if err != nil {
			return err
		}
		if changed {
			g.log.Info("publishing resumed", "topic", name)
		}
	}
	return nil
}

func (g *Guard) allHaveSpace(ctx context.Context) bool {
	view, err := g.Driver.Snapshot(ctx)
	if err != nil || !view.Live {
		return false
	}
	live := peers.Live(view)
	return noneShort(live, peers.Reports(ctx, g.Peers, len(live)))
}

// noneShort decides from what the live nodes report. One that reports nothing may be short.
func noneShort(live []string, reports map[string]peers.Report) bool {
	return !slices.ContainsFunc(live, func(node string) bool {
		r, ok := reports[node]
		return !ok || r.Disk.Short
	})
}

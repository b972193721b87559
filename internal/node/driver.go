package node

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"leasehold/cluster"
	"leasehold/cluster/lease"
	"leasehold/internal/config"
	"leasehold/server/raft"
)

// leadersLimit bounds how long a stop waits for others to lead what this node leads.
const leadersLimit = 500 * time.Millisecond

// drive runs the driver until ctx ends. At a clean stop others lead the topics before they get the partitions, while
// lanes still work: what the next owner asks for first must not be lost with a leader that stops.
func (n *Node) drive(ctx context.Context, stop context.CancelCauseFunc) error {
	driving, end := context.WithCancel(context.WithoutCancel(ctx))
	moved := make(chan struct{})
	go func() {
		defer close(moved)
		<-ctx.Done()
		if errors.Is(context.Cause(ctx), context.Canceled) {
			limited, cancel := context.WithTimeout(driving, leadersLimit)
			defer cancel()
			n.broker.MoveLeaders(limited, slices.Collect(maps.Keys(n.topics))...)
		}
		end()
	}()
	err := n.stage.leases().Run(driving)
	stop(nil)
	end()
	<-moved
	return err
}

// buildDriver puts the lease protocol on top of everything else.
func (n *Node) buildDriver() error {
	boot, err := n.dir.Boot()
	if err != nil {
		return err
	}
	cfg := n.leaseConfig(boot)
	timing, intervals := n.Config.Cluster, n.work.commitIntervals()
	if err := cfg.Check(n.longestElection()); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	driver := cluster.New(cluster.Options{
		Lease: cfg, Store: n.conns.leases, Clock: cluster.BootClock{}, SaveBoot: n.dir.SetBoot, Start: n.work.start,
		Terminate: n.die,
		CommitInterval: func(group string) time.Duration {
			if d, ok := intervals[group]; ok {
				return d
			}
			return timing.Renew
		},
		Logger: n.Logger.Named("cluster"),
	})
	return n.stage.serve(driver, n.work.serving(driver))
}

func (n *Node) leaseConfig(boot uint64) lease.Config {
	c := n.Config
	dev, ino := n.dir.Lock()
	timing := c.Cluster.LeaseTiming()
	return lease.Config{
		Self: lease.Session{
			Node: c.Node.Name, DirID: n.dir.DirID(), KernelBoot: n.dir.KernelBootID(), LockDev: dev, LockIno: ino,
			ServerID: n.broker.ID(), Provable: c.Cluster.FastTakeover, Address: n.address(), Release: n.Version, Weight: 1,
			ConfigHash: n.view.ConfigHash,
		},
		Boot: boot, Secret: fmt.Sprintf("%s-%d", n.broker.ID(), os.Getpid()),
		TTL: timing.TTL, Renew: timing.Renew, Margin: timing.Margin, WriteLimit: timing.WriteLimit,
		StabilizationWindow: time.Second, MinHold: 10 * time.Second,
		Groups: n.work.leases(c.Cluster.Renew),
	}
}

// address is where the other nodes reach this one, or where clients do in single mode.
func (n *Node) address() string {
	switch c := n.Config; {
	case c.Cluster.Advertise != "":
		return c.Cluster.Advertise
	case c.ClusterListen() != "":
		return c.ClusterListen()
	}
	return n.broker.ClientAddr()
}

// longestElection is how long the cluster may be without a leader in an ordinary election.
func (n *Node) longestElection() time.Duration {
	if n.single() {
		return 0
	}
	timing, err := raft.TimingByName(n.Config.Cluster.Timing)
	if err != nil {
		return 0
	}
	return timing.ElectionMax
}

// configHash tells configs apart that the nodes of a cluster should share. Where on its own disk a node reads and
// writes is its own business.
func configHash(c *config.Config) string {
	groups := slices.Clone(c.Groups)
	for i := range groups {
		none := func(string) string { return "" }
		groups[i].Handler = groups[i].Handler.WithPaths(none, none)
	}
	text, err := json.Marshal(struct{ Topics, Groups any }{c.Topics, groups})
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

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

	"github.com/nats-io/nats.go"

	"leasehold/cluster"
	"leasehold/cluster/lease"
	"leasehold/internal/config"
	"leasehold/internal/ownership"
	"leasehold/internal/registry"
	"leasehold/internal/status"
	"leasehold/server"
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
	err := n.driver.Run(driving)
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
	timing, intervals := n.Config.Cluster, map[string]time.Duration{}
	if err := cfg.Check(n.longestElection()); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	for _, g := range n.groups {
		intervals[g.name] = g.config.CommitInterval
	}
	driver := cluster.New(cluster.Options{
		Lease: cfg, Store: n.conns.leases, Clock: cluster.BootClock{}, SaveBoot: n.dir.SetBoot, Start: n.startLane,
		Terminate: n.die,
		CommitInterval: func(group string) time.Duration {
			if d, ok := intervals[group]; ok {
				return d
			}
			return timing.Renew
		},
		Logger: n.Logger.Named("cluster"),
	})
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closing {
		return errors.New("the broker is giving up")
	}
	n.driver, n.serving = driver, n.newServing(driver)
	n.ingest = newIngest(func() (*nats.Conn, error) { return n.broker.IngressConn(server.HTTPUser) })
	return nil
}

func (n *Node) leaseConfig(boot uint64) lease.Config {
	c := n.Config
	dev, ino := n.dir.Lock()
	timing := c.Cluster.LeaseTiming()
	cfg := lease.Config{
		Self: lease.Session{
			Node: c.Node.Name, DirID: n.dir.DirID(), KernelBoot: n.dir.KernelBootID(), LockDev: dev, LockIno: ino,
			ServerID: n.broker.ID(), Provable: c.Cluster.FastTakeover, Address: n.address(), Release: n.Version, Weight: 1,
			ConfigHash: n.view.ConfigHash,
		},
		Boot: boot, Secret: fmt.Sprintf("%s-%d", n.broker.ID(), os.Getpid()),
		TTL: timing.TTL, Renew: timing.Renew, Margin: timing.Margin, WriteLimit: timing.WriteLimit,
		StabilizationWindow: time.Second, MinHold: 10 * time.Second,
	}
	for _, g := range n.groups {
		cfg.Groups = append(cfg.Groups, lease.Group{
			Name: g.name, Partitions: g.topic.Partitions, Start: g.start, Handover: g.config.HandoverTimeout,
		})
	}
	for _, t := range n.topics {
		cfg.Groups = append(cfg.Groups, lease.Group{Name: registry.HousekeepingGroup(t.Name), Kind: ownership.Housekeeping,
			Partitions: 1, Handover: c.Cluster.Renew})
	}
	return cfg
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

// newServing is what answers operators once the node serves.
func (n *Node) newServing(driver *cluster.Driver) *status.Serving {
	s := &status.Serving{Driver: driver, Topics: map[string]status.Topic{}}
	for name, t := range n.topics {
		s.Topics[name] = status.Topic{Topic: t.Topic, Stream: t.stream}
	}
	for _, g := range n.groups {
		s.Groups = append(s.Groups, status.Group{Name: g.name, Topic: g.topic.Name, Partitions: g.topic.Partitions,
			StartAfter: g.start})
	}
	return s
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

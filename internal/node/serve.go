package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"leasehold/cluster"
	"leasehold/cluster/lease"
	"leasehold/internal/ownership"
	"leasehold/partitioner"
	"leasehold/server"
	"leasehold/server/datadir"
)

// setupLimit bounds one try at asking the broker something during the set-up.
const setupLimit = 5 * time.Second

// serve waits for the broker, sets up what is stored, and takes part until ctx ends.
func (n *Node) serve(ctx context.Context) error {
	lock, err := n.handlerLock(ctx)
	if err != nil {
		return n.cutShort(ctx, err)
	}
	if err := n.connect(ctx); err != nil {
		return n.cutShort(ctx, err)
	}
	starts, err := n.setUp(ctx)
	if err != nil {
		return n.cutShort(ctx, err)
	}
	if err := n.wholeCopies(ctx); err != nil {
		return n.cutShort(ctx, err)
	}
	if err := n.buildGroups(lock, starts); err != nil {
		return err
	}
	if err := n.buildDriver(); err != nil {
		return err
	}
	return n.participate(ctx)
}

// cutShort tells a stop that came before the node was up from a failure.
func (n *Node) cutShort(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		return nil
	}
	return err
}

// handlerLock takes the lock that the children of a former life hold as long as any of them lives: before they are
// gone, nothing of this node may be live.
func (n *Node) handlerLock(ctx context.Context) (*os.File, error) {
	n.wait("handlers of this node's former life to end")
	return n.dir.HandlerLock(ctx)
}

// connect waits until the broker is ready for work and connects to it.
func (n *Node) connect(ctx context.Context) error {
	n.wait("the broker to start")
	select {
	case <-n.broker.Started():
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := n.openConns(); err != nil {
		return err
	}
	return n.brokerReady(ctx)
}

// participate runs readers, groups and the driver. The driver stops first, and all lanes with it; then what they used.
func (n *Node) participate(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	n.endLife = func(err error) { stop(err) }
	outer := context.WithoutCancel(ctx)
	work := n.runGroups(outer, stop) // Ends last, and takes as long as handlers do.
	watchers := []*part{
		runPart(ctx, stop, "ingest", n.ingest.run),
		runPart(outer, stop, "status", n.answer(statusSubject, func(*nats.Msg) any { return n.report() })),
		runPart(ctx, stop, "copies' answers", n.answer(copySubject, n.sayCopy)),
		runPart(ctx, stop, "copies", n.watchCopies),
		// A node that stops is still asked, and one that says nothing is no witness.
		runPart(outer, stop, "deaths' witness", n.answer(deathSubject, n.sayDeath)),
		runPart(outer, stop, "deaths", n.watchDeaths),
		runPart(ctx, stop, "definitions", n.confirmDefinitions),
		runPart(ctx, stop, "membership", n.watchRemoval),
		runPart(ctx, stop, "space", n.watchSpace),
		runPart(ctx, stop, "sizes", n.watchSizes),
		runPart(ctx, stop, "doors", n.doors.run),
		runPart(ctx, func(error) {}, "readiness", n.watchReady),
		runPart(outer, stop, "liveness", n.watchAlive),
	}
	n.log.Info("taking part", "topics", len(n.topics), "groups", len(n.groups))

	err := n.drive(ctx, stop)
	for _, p := range slices.Backward(watchers) {
		err = errors.Join(err, p.endSoon())
	}
	for _, p := range slices.Backward(work) {
		err = errors.Join(err, p.end())
	}
	if cause := context.Cause(ctx); err == nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	return err
}

// leadersLimit bounds how long a stop waits for others to lead what this node leads.
const leadersLimit = 500 * time.Millisecond

// drive runs the driver until ctx ends. At a clean stop others lead the topics before they get the partitions, while lanes
// still work: what an heir asks for first must not be lost with a leader that stops.
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

// behindGrace is how long a ready node's copy of a stream must be behind to end readiness: under load it is a few messages
// behind at one look or other, and nothing is wrong.
const behindGrace = 2 * time.Second

// currentFor is how long the copies of a node that is not ready must all have been current: the broker calls a copy current
// between two tries to catch up, of which neither gets anywhere.
const currentFor = time.Second

// currency remembers when all copies were last current, and when one was last behind, or may have been.
type currency struct{ last, behind time.Time }

// unknown notes that nobody could tell: a broker that has just found its leaders again calls every copy current.
func (c *currency) unknown(now time.Time) { c.behind = now }

// reasons are those of the copies that are behind, as far as they count: to a node that is ready, not at once.
func (c *currency) reasons(behind []string, ready bool, now time.Time) []string {
	if len(behind) > 0 {
		c.behind = now
		if ready && now.Sub(c.last) < behindGrace {
			return nil
		}
		return behind
	}
	if !ready && now.Sub(c.behind) < currentFor {
		return []string{"making sure that its copies stay current"}
	}
	c.last = now
	return nil
}

// watchReady keeps readiness true to what is: own streams current, session live.
func (n *Node) watchReady(ctx context.Context) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	var said bool
	var copies currency
	var missed missedQuorum
	for {
		reasons := n.notReady(ctx)
		switch {
		case len(reasons) == 0:
			reasons = copies.reasons(n.broker.ReadyStreams(n.streams()...), said, time.Now())
		case n.Config.Mode() == datadir.Cluster:
			copies.unknown(time.Now())
		}
		if ctx.Err() != nil {
			return nil
		}
		reasons = missed.before(n, reasons)
		n.wait(reasons...)
		if ready := len(reasons) == 0; ready != said {
			said = ready
			n.log.Info("ready changed", "ready", ready, "waiting_for", reasons)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// notReady is what the node waits for, but for its copies.
func (n *Node) notReady(ctx context.Context) []string {
	if reasons := n.broker.Ready(); len(reasons) > 0 {
		return reasons
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	view, err := n.driver.Snapshot(ctx)
	switch {
	case err != nil:
		return []string{err.Error()}
	case !view.Live:
		return []string{"the session: " + view.State}
	}
	return n.doors.reasons()
}

// newDoors makes a probe of each topic.
func (n *Node) newDoors() *doors {
	probes := map[string]probe{}
	for name, t := range n.topics {
		probes[name] = newProbe(n.conns.probe, t.Topic)
	}
	return newDoors(probes)
}

// streams are those that this node works with.
func (n *Node) streams() []string {
	all := []string{cluster.Stream}
	for name := range n.topics {
		all = append(all, name)
	}
	for _, g := range n.groups {
		all = append(all, partitioner.DeadLetterStream(g.name))
	}
	return all
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
		Lease: cfg, Store: n.conns.leases, Clock: cluster.BootClock{}, SaveBoot: n.dir.SetBoot, Start: n.startLane, Terminate: n.die,
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
	n.driver, n.served = driver, true
	n.doors = n.newDoors()
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
			ServerID: n.broker.ID(), Provable: c.Cluster.FastTakeover, Address: n.address(), Release: n.Version, Weight: 1, ConfigHash: n.configHash(),
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
		cfg.Groups = append(cfg.Groups, lease.Group{Name: choreGroup(t.Name), Kind: ownership.Housekeeping, Partitions: 1, Handover: c.Cluster.Renew})
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

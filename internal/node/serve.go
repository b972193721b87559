package node

import (
	"context"
	"errors"
	"maps"
	"os"
	"slices"

	"leasehold/cluster"
	"leasehold/internal/deathwatch"
	"leasehold/internal/diskguard"
	"leasehold/internal/membership"
	"leasehold/internal/peers"
	"leasehold/internal/readiness"
	"leasehold/internal/repair"
	"leasehold/internal/supervise"
)

// serve waits for the broker, sets up what is stored, and serves until ctx ends.
func (n *Node) serve(ctx context.Context) error {
	lock, err := n.handlerLock(ctx)
	if err != nil {
		return ignoreStop(ctx, err)
	}
	if err := n.connect(ctx); err != nil {
		return ignoreStop(ctx, err)
	}
	starts, err := n.setUp(ctx)
	if err != nil {
		return ignoreStop(ctx, err)
	}
	n.repair = n.newRepair()
	if err := n.repair.AwaitWhole(ctx); err != nil {
		return ignoreStop(ctx, err)
	}
	n.work = n.newWork()
	if err := n.work.build(lock, starts); err != nil { //nolint:contextcheck // Groups live in contexts of their own.
		return err
	}
	if err := n.buildDriver(); err != nil {
		return err
	}
	return n.participate(ctx)
}

// ignoreStop tells a stop that came before the node served from a failure.
func ignoreStop(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		return nil
	}
	return err
}

// handlerLock takes the lock that the children of an earlier run hold as long as any of them lives: before they are
// gone, this node must not be live.
func (n *Node) handlerLock(ctx context.Context) (*os.File, error) {
	n.waiting.For("handlers of an earlier run of this node to end")
	return n.dir.HandlerLock(ctx)
}

// connect waits until the broker is ready for work and connects to it.
func (n *Node) connect(ctx context.Context) error {
	n.waiting.For("the broker to start")
	select {
	case <-n.broker.Started():
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := n.conns.openAll(n.broker); err != nil {
		return err
	}
	if err := n.useBucket(); err != nil {
		return err
	}
	return n.membership.AwaitBroker(ctx)
}

func (n *Node) newRepair() *repair.Repair {
	return repair.New(repair.Options{
		Node: n.Config.Node.Name, Server: n.dir.ServerName(), Single: n.single(), Others: len(n.Config.Peers()) - 1,
		Topics: slices.Collect(maps.Keys(n.topics)), Broker: n.broker, Disk: n.disk, Waiting: &n.waiting, Logger: n.Logger,
		Registry: n.registry, JS: n.conns.operator, Peers: n.conns.peers, Refetched: n.before.Quarantine,
	})
}

func (n *Node) newWork() *work {
	w := &work{Options: n.Options, conns: &n.conns, registry: n.registry, topics: n.topics, hole: n.repair.Hole}
	if !n.single() {
		w.server = n.dir.ServerName()
	}
	return w
}

// participate runs readers, groups and the driver. The driver stops first, and all lanes with it; then what they used.
func (n *Node) participate(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	outer := context.WithoutCancel(ctx)
	work := n.work.run(outer, stop) // Ends last, and takes as long as handlers do.
	watchers := n.runWatchers(ctx, outer, stop)
	n.log.Info("node is serving", "topics", len(n.topics), "groups", len(n.work.groups))

	err := n.drive(ctx, stop)
	for _, p := range slices.Backward(watchers) {
		err = errors.Join(err, p.StopSoon())
	}
	for _, p := range slices.Backward(work) {
		err = errors.Join(err, p.Stop())
	}
	if cause := context.Cause(ctx); err == nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	return err
}

// runWatchers runs what serves beside the lanes. Parts on outer run until they are stopped: a node that stops is still
// asked for its status and for deaths, and one that does not reply is not a witness.
func (n *Node) runWatchers(ctx, outer context.Context, stop context.CancelCauseFunc) []*supervise.Part {
	deaths := n.newDeathWatch()
	probes := n.newProbes()
	watch := func(ctx context.Context, name string, run func(context.Context) error) *supervise.Part {
		return supervise.Go(ctx, stop, name, run)
	}
	return []*supervise.Part{
		watch(ctx, "ingest", n.ingest.Run),
		watch(outer, "status", n.newReporter().Answer),
		watch(ctx, "replica answers", n.repair.Answer),
		watch(ctx, "replicas", n.repair.Run),
		watch(outer, "death answers", deaths.Answer),
		watch(outer, "deaths", deaths.Run),
		watch(ctx, "definitions", n.newConfirmation().Run),
		watch(ctx, "membership", n.membership.Run),
		watch(ctx, "disk guard", n.newDiskGuard().Run),
		watch(ctx, "capacity", n.capacity.Run),
		watch(ctx, "probes", probes.Run),
		supervise.Go(ctx, func(error) {}, "readiness", n.newReadiness(probes).Run),
		watch(outer, "liveness", n.watchLiveness),
	}
}

func (n *Node) newDeathWatch() *deathwatch.Watch {
	c := n.Config.Cluster
	return deathwatch.New(deathwatch.Options{
		Node: n.Config.Node.Name, Enabled: c.FastTakeover && !n.single(), TTL: c.SessionTTL, Renew: c.Renew, Margin: c.Margin,
		Routes: n.broker, Leases: n.conns.leases, Driver: n.stage.leases(), Peers: n.conns.peers, Logger: n.Logger,
	})
}

// newReporter is what tells the other nodes what this one's lanes are doing.
func (n *Node) newReporter() peers.Reporter {
	return peers.Reporter{
		Node: n.Config.Node.Name, Ready: n.waiting.Reasons, Lanes: n.work.lanes(), Disk: n.disk, Broker: n.broker,
		Log: n.Log, Peers: n.conns.peers,
	}
}

func (n *Node) newConfirmation() membership.Confirmation {
	return membership.Confirmation{
		Registry: n.registry, Driver: n.stage.leases(), Topics: slices.Collect(maps.Keys(n.topics)),
		Groups: slices.Sorted(maps.Keys(n.work.lanes())),
	}
}

func (n *Node) newDiskGuard() *diskguard.Guard {
	return diskguard.New(diskguard.Options{
		Disk: n.disk, Driver: n.stage.leases(), Registry: n.registry, JS: n.conns.operator, Peers: n.conns.peers,
		Logger: n.Logger,
	})
}

// newProbes makes a probe of each topic.
func (n *Node) newProbes() *readiness.Probes {
	probes := map[string]readiness.Probe{}
	for name, t := range n.topics {
		probes[name] = readiness.NewProbe(n.conns.probe, t.Topic)
	}
	return readiness.NewProbes(probes)
}

func (n *Node) newReadiness(probes *readiness.Probes) readiness.Readiness {
	return readiness.Readiness{Options: readiness.Options{
		Single: n.single(), Streams: n.work.streams(), Broker: n.broker, Quorum: n.view.Quorum,
		Driver: n.stage.leases(), Probes: probes, Waiting: &n.waiting, Logger: n.log,
	}}
}

func (n *Node) watchLiveness(ctx context.Context) error {
	return n.liveness.Watch(ctx, readiness.Renewal{Broker: n.broker, Driver: n.stage.leases(),
		Bucket: func(ctx context.Context) error {
			_, err := n.conns.operator.Stream(ctx, cluster.Stream)
			return err
		}})
}

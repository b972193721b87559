package node

import (
	"context"
	"fmt"

	"leasehold/cluster"
	"leasehold/internal/diskguard"
	"leasehold/internal/membership"
	"leasehold/internal/registry"
	"leasehold/internal/status"
	"leasehold/server"
)

// setUp makes or finds the bucket, the topics' streams and the definitions. It returns where each group starts.
func (n *Node) setUp(ctx context.Context) (map[string]uint64, error) {
	var starts map[string]uint64
	steps := []struct {
		what string
		do   func(context.Context) error
	}{
		{"the bucket with sessions and leases", n.openBucket},
		{"the cluster's members", n.membership.TakeIdentity},
		{"the cluster's definition", n.setup.defineCluster},
		{"the topics", n.setup.openTopics},
		{"the groups' dead letters", n.setup.openDeadLetters},
		{"the groups' definitions", func(ctx context.Context) (err error) {
			starts, err = n.setup.defineGroups(ctx)
			return err
		}},
	}
	for _, s := range steps {
		n.waiting.For(s.what)
		if err := s.do(ctx); err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return nil, err
		}
	}
	return starts, nil
}

func (n *Node) openBucket(ctx context.Context) error {
	nc, err := n.conns.open(n.broker, server.Leases)
	if err != nil {
		return err
	}
	n.conns.leases, err = cluster.OpenKV(ctx, nc, cluster.BucketOptions{
		Replicas: n.broker.Replicas(), MaxBytes: int64(n.Config.Reserve()),
		Waiting: func(err error) { n.waiting.For(fmt.Sprintf("the bucket with sessions and leases: %v", err)) },
	})
	if err != nil {
		return err
	}
	n.publishStore()
	return nil
}

// useBucket builds what reads and writes the bucket, apart from the lease protocol. The bucket need not exist yet.
func (n *Node) useBucket() error {
	kv, err := cluster.AttachKV(n.conns.operator.Conn())
	if err != nil {
		return err
	}
	n.kv, n.registry = kv, registry.New(kv)
	n.capacity = diskguard.Capacity{JS: n.conns.operator, MaxStore: n.Config.Server.MaxStore, Logger: n.log}
	n.membership = membership.New(membership.Options{
		Self: membership.Self{
			Node: n.Config.Node.Name, Server: n.dir.ServerName(), DirID: n.dir.DirID(), DataDir: n.dir.Path(),
		},
		Single: n.single(), Nodes: n.Config.Peers(), Broker: n.broker, KV: kv, Registry: n.registry, JS: n.conns.operator,
		Capacity: n.capacity, Waiting: &n.waiting, Logger: n.Logger,
	})
	n.setup = &setup{
		config: n.Config, log: n.log, waiting: &n.waiting, js: n.conns.operator, kv: kv, registry: n.registry,
		capacity: n.capacity, replicas: n.broker.Replicas(), topics: n.topics,
	}
	return nil
}

// publishStore shows what answers operators that the bucket is open.
func (n *Node) publishStore() {
	n.stage.open(&status.Store{
		KV: n.kv, Registry: n.registry, Membership: n.membership, Capacity: n.capacity,
		JS: n.conns.operator, Publish: n.conns.publish, Peers: n.conns.peers,
	})
}

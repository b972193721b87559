package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"leasehold/cluster"
	"leasehold/internal/diskguard"
	"leasehold/internal/membership"
	"leasehold/internal/registry"
	"leasehold/internal/status"
	"leasehold/internal/supervise"
	"leasehold/partitioner"
	"leasehold/partitioner/stream"
	"leasehold/server"
	"leasehold/worker/reader"
)

// topic is one topic on this node.
type topic struct {
	partitioner.Topic
	stream jetstream.Stream
	reader *reader.Reader // nil if this node has no group of the topic: to read costs, and nobody would get it.
}

// setUp makes or finds the bucket, the topics' streams and the definitions. It returns where each group starts.
func (n *Node) setUp(ctx context.Context) (map[string]uint64, error) {
	var starts map[string]uint64
	steps := []struct {
		what string
		do   func(context.Context) error
	}{
		{"the bucket with sessions and leases", n.openBucket},
		{"the cluster's members", n.membership.TakeIdentity},
		{"the cluster's definition", n.defineCluster},
		{"the topics", n.openTopics},
		{"the groups' dead letters", n.openDeadLetters},
		{"the groups' definitions", func(ctx context.Context) (err error) {
			starts, err = n.defineGroups(ctx)
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
	nc, err := n.openConn(server.Leases)
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
	return nil
}

// publishStore shows what answers operators that the bucket is open.
func (n *Node) publishStore() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.store = &status.Store{
		KV: n.kv, Registry: n.registry, Membership: n.membership, Capacity: n.capacity,
		JS: n.conns.operator, Publish: n.conns.publish, Peers: n.conns.peers,
	}
}

func (n *Node) openTopics(ctx context.Context) error {
	for _, t := range n.Config.Topics {
		if err := n.defineTopic(ctx, t); err != nil {
			return err
		}
		stream, err := n.ensureStream(ctx, t)
		if err != nil {
			return err
		}
		n.topics[t.Name] = &topic{Topic: t, stream: stream}
	}
	return nil
}

func (n *Node) ensureStream(ctx context.Context, t partitioner.Topic) (jetstream.Stream, error) {
	made, err := stream.Ensure(ctx, n.conns.operator, t, stream.Options{
		Replicas: n.broker.Replicas(), MaxPayload: n.Config.Server.MaxPayload,
		Sizing:  n.capacity.Sizing(t.MaxBytes, n.Config.DefaultMaxBytes()),
		Waiting: func(err error) { n.waiting.For(fmt.Sprintf("topic %s: %v", t.Name, err)) },
	})
	var mismatch *stream.MismatchError
	if errors.As(err, &mismatch) {
		err = fmt.Errorf("%w: %w", supervise.ErrConfig, err)
	}
	if err == nil {
		n.capacity.LogShortfall("topic "+t.Name, made)
	}
	return made, err
}

// openDeadLetters makes or finds the streams of the groups' dead letters.
func (n *Node) openDeadLetters(ctx context.Context) error {
	for _, g := range n.Config.Groups {
		made, err := stream.EnsureDeadLetters(ctx, n.conns.operator, g.Name, stream.DeadLetterOptions{
			Replicas: n.broker.Replicas(), Sizing: n.capacity.Sizing(g.DLQMaxBytes, n.Config.DefaultDLQMaxBytes()),
			Waiting: func(err error) { n.waiting.For(fmt.Sprintf("dead letters of group %s: %v", g.Name, err)) },
		})
		if err != nil {
			return err
		}
		n.capacity.LogShortfall("dead letters of group "+g.Name, made)
	}
	return nil
}

// localServer names the broker's server on which the readers' consumers are to be placed, none in single mode.
func (n *Node) localServer() string {
	if n.single() {
		return ""
	}
	return n.dir.ServerName()
}

// pressure reports that a topic is more than half full, looked at every few seconds.
func (n *Node) pressure(t partitioner.Topic) func() bool {
	var at time.Time
	var pressed bool
	return func() bool {
		if time.Since(at) < 2*time.Second {
			return pressed
		}
		at = time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if stream, err := n.conns.operator.Stream(ctx, t.Name); err == nil {
			info := stream.CachedInfo()
			pressed = info.State.Bytes > uint64(max(info.Config.MaxBytes, 0))/2
		}
		return pressed
	}
}

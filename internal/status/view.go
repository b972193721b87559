// Package status puts together what a node knows of its cluster, what is stored, and what the other nodes report: the
// status, and the lists of nodes, topics and groups. It changes nothing.
package status

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"leasehold/cluster"
	"leasehold/cluster/lease"
	"leasehold/internal/api"
	"leasehold/internal/config"
	"leasehold/internal/diskguard"
	"leasehold/internal/membership"
	"leasehold/internal/registry"
	"leasehold/partitioner"
	"leasehold/server"
	"leasehold/server/datadir"
	"leasehold/server/ingress"
	"leasehold/server/replicas"
)

// snapshotLimit bounds the question to the lease protocol of this node, which answers at once unless it is stuck.
const snapshotLimit = 2 * time.Second

// stuck is what an operator is told when it does not answer.
const stuck = "this node's lease protocol does not answer, so it cannot say who owns what: see the node's log, and " +
	"restart it if that lasts"

// Driver is the lease protocol of this node.
type Driver interface {
	Snapshot(ctx context.Context) (lease.View, error)
	Observe(lease.Observed) // Takes in a record that this node has just written.
}

// Broker is this node's broker.
type Broker interface {
	Started() <-chan struct{}
	Quorum() server.Quorum
	Replica(stream string) (*replicas.Replica, error)
	ServerNodeName(serverName string) string
	ClientAddr() string
	Refused() []ingress.Refused
}

// Store is what a node has once the bucket is open.
type Store struct {
	KV         *cluster.KV
	Registry   *registry.Registry
	Membership *membership.Membership
	Capacity   diskguard.Capacity
	JS         jetstream.JetStream // For everything but publishing.
	Publish    jetstream.JetStream
	Peers      *nats.Conn
}

// Serving is what a node has besides once it serves.
type Serving struct {
	Driver Driver
	Topics map[string]Topic // Of its config.
	Groups []Group          // Of its config.
}

// Topic is a topic of this node.
type Topic struct {
	partitioner.Topic
	Stream jetstream.Stream
}

// Group is a group as it was defined.
type Group struct {
	Name       string
	Topic      string
	Partitions int
	StartAfter uint64
}

// Options are what a View needs.
type Options struct {
	Config *config.Config
	Broker Broker
	// ConfigHash tells apart the configs that the nodes of a cluster should share.
	ConfigHash string
	ClientCA   string          // PEM of what clients trust, if the listener's certificate comes from the cluster's secret.
	Ready      func() []string // What the node waits for.
	// Opened is nil until the bucket is open, Serving until the node serves. What they return never changes after that.
	Opened  func() *Store
	Serving func() *Serving
}

// View is what everything that answers operators looks at.
type View struct{ Options }

// NewView returns a View.
func NewView(o Options) *View { return &View{o} }

var errStarting = api.Mark(api.ErrNotYet, "the node is starting")

// Store is what the node has, or ErrNotYet while it is starting.
func (v *View) Store() (*Store, error) {
	if s := v.Opened(); s != nil {
		return s, nil
	}
	return nil, errStarting
}

// node is this node's name.
func (v *View) node() string { return v.Config.Node.Name }

// single reports whether this node is on its own.
func (v *View) single() bool { return v.Config.Mode() == datadir.Single }

// Quorum is which nodes answer. A broker that has not started yet misses none: it is the node that is starting.
func (v *View) Quorum() server.Quorum {
	select {
	case <-v.Broker.Started():
		return v.Broker.Quorum()
	default:
		return server.Quorum{Nodes: 1, Answer: 1, Leader: v.node()}
	}
}

// Snapshot is what the lease protocol of a node that serves knows.
func Snapshot(ctx context.Context, d Driver) (lease.View, error) {
	ctx, cancel := context.WithTimeout(ctx, snapshotLimit)
	defer cancel()
	view, err := d.Snapshot(ctx)
	if err != nil {
		return view, api.Mark(api.ErrNotYet, stuck)
	}
	return view, nil
}

// OpenTopic finds a topic of this node's config that can be published to and read.
func (v *View) OpenTopic(name string) (Topic, error) {
	if _, ok := v.Config.Topic(name); !ok {
		return Topic{}, api.Mark(api.ErrNotFound, fmt.Sprintf("there is no topic %q here", name))
	}
	s := v.Serving()
	if s == nil {
		return Topic{}, errStarting
	}
	return s.Topics[name], nil
}

// Catalog reads what was ever defined, and who takes part in it.
func (s *Store) Catalog(ctx context.Context) (registry.Catalog, error) {
	sessions, err := registry.Sessions(ctx, s.KV)
	if err != nil {
		return registry.Catalog{}, err
	}
	return s.Registry.Catalog(ctx, sessions)
}

// sessionsOf are the sessions of a view, by node.
func sessionsOf(view lease.View) map[string]lease.Session {
	known := map[string]lease.Session{}
	for _, rec := range view.Sessions {
		known[rec.Node] = rec
	}
	return known
}

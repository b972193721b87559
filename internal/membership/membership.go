// Package membership decides who and what belongs to the cluster: which identity a node has among the voters, and the
// removal of nodes, groups and topics.
package membership

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go/jetstream"

	"leasehold/cluster"
	"leasehold/cluster/lease"
	"leasehold/internal/api"
	"leasehold/internal/diskguard"
	"leasehold/internal/every"
	"leasehold/internal/registry"
	"leasehold/internal/supervise"
	"leasehold/server"
)

// LeaderWait bounds a question to the meta leader: without one there is nothing to wait for.
const LeaderWait = 700 * time.Millisecond

// Self is this node's identity.
type Self struct {
	Node    string
	Server  string // Its name among the broker's peers.
	DirID   string
	DataDir string // Path.
}

// peerID is its id among the broker's peers.
func (s Self) peerID() string { return server.PeerID(s.Server) }

// Broker is this node's broker.
type Broker interface {
	Ready() []string
	Membership(ctx context.Context) (server.Membership, error)
	RemovePeer(ctx context.Context, id string) error
}

// Options are what a Membership needs.
type Options struct {
	Self     Self
	Single   bool          // The node is on its own: it has no voters.
	Nodes    []server.Peer // Of its config.
	Broker   Broker
	KV       *cluster.KV
	Registry *registry.Registry
	JS       jetstream.JetStream
	Capacity diskguard.Capacity
	Waiting  *supervise.Waiting
	Logger   hclog.Logger
}

// Membership answers about members and changes them.
type Membership struct {
	Options
	log hclog.Logger
}

// New returns the Membership.
func New(o Options) *Membership { return &Membership{Options: o, log: o.Logger.Named("membership")} }

// Configures reports whether a node is in this node's config.
func (m *Membership) Configures(node string) bool {
	return slices.ContainsFunc(m.Nodes, func(p server.Peer) bool { return p.Name == node })
}

// Voter is a voter and what is remembered of it.
type Voter struct {
	server.ClusterPeer
	registry.Peer
}

// Name is its node's.
func (v Voter) Name() string { return cmp.Or(v.Peer.Node, v.ClusterPeer.Node()) }

// ServerName is its name among the broker's peers, or its id.
func (v Voter) ServerName() string { return cmp.Or(v.ClusterPeer.Server, v.Peer.Server, v.ID) }

// isNamed reports whether an operator may mean this voter.
func (v Voter) isNamed(name string) bool {
	return name != "" && (v.Name() == name || v.ClusterPeer.Server == name || v.Peer.Server == name || v.ID == name)
}

// Voters are the peers that the cluster counts.
type Voters struct {
	All    []Voter
	quorum int
}

// Summary counts them.
func (v Voters) Summary() api.Voters {
	s := api.Voters{Count: len(v.All), Quorum: v.quorum}
	for _, p := range v.All {
		if p.Alive() {
			s.Alive++
		}
	}
	return s
}

// Named counts the voters of a node's name.
func (v Voters) Named(name string) (count int) {
	for _, p := range v.All {
		if p.Name() == name {
			count++
		}
	}
	return count
}

// AliveNamed reports whether one of them is alive.
func (v Voters) AliveNamed(name string) bool {
	return slices.ContainsFunc(v.All, func(p Voter) bool { return p.Name() == name && p.Alive() })
}

// Removed reports whether a session is what is left of a node that was taken out of the cluster.
func (v Voters) Removed(rec lease.Session) bool {
	return len(v.All) > 0 && rec.State != lease.Live && v.Named(rec.Node) == 0
}

// Voters asks the meta leader for the voters, and completes them by what is remembered. In single mode there are none.
func (m *Membership) Voters(ctx context.Context) (Voters, error) {
	if m.Single {
		return Voters{}, nil
	}
	asked, err := m.Broker.Membership(ctx)
	if err != nil {
		return Voters{}, api.Mark(api.ErrNotYet, err.Error())
	}
	known, err := m.Registry.Peers(ctx)
	if err != nil {
		return Voters{}, err
	}
	v := Voters{quorum: asked.Quorum}
	for _, p := range asked.Peers {
		v.All = append(v.All, Voter{ClusterPeer: p, Peer: known[p.ID]})
	}
	return v, nil
}

// refuse is the error of what would not be safe.
func refuse(format string, args ...any) error {
	return api.Mark(api.ErrRefused, fmt.Sprintf(format, args...))
}

// retry tries a few times what may lose against another write or an election.
func retry(ctx context.Context, try func() error) (err error) {
	for range 5 {
		if err = try(); err == nil || errors.Is(err, cluster.ErrAlive) || errors.Is(err, server.ErrNotMember) {
			return err
		}
		if !every.Sleep(ctx, 200*time.Millisecond) {
			return err
		}
	}
	return err
}

// retryConflict tries again what lost against another write to the same record.
func retryConflict(ctx context.Context, try func() error) (err error) {
	for range 5 {
		if err = try(); !errors.Is(err, cluster.ErrConflict) || ctx.Err() != nil {
			return err
		}
	}
	return err
}

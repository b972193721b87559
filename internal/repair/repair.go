// Package repair looks after this node's replicas of the topics. The broker does not notice when a replica has lost
// messages, and every reader that it serves from there would skip them. A corrupt replica is moved away while the
// broker is down and fetched again from the other nodes, as soon as that is safe.
package repair

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"leasehold/internal/every"
	"leasehold/internal/peers"
	"leasehold/internal/registry"
	"leasehold/internal/supervise"
	"leasehold/server/disk"
	"leasehold/server/replicas"
)

const (
	countsEvery  = 2 * time.Second // Between checks of the counts while the node serves: no lane starts on older ones.
	fullCheck    = 30              // Every so many of them, a check of everything that can be corrupt.
	confirmAfter = time.Second     // Between the two checks that corruption takes.
	peersWait    = 2 * time.Second // For what other nodes reply about their replicas.
)

// Broker is this node's broker.
type Broker interface {
	LocalReplicas() (map[string]replicas.State, error)
	HasReplica(stream string) bool
	StepDown(stream string) error
	ReadyStreams(names ...string) []string
}

// Options are what a Repair needs.
type Options struct {
	Node    string
	Server  string // This node's name among the broker's peers.
	Single  bool   // The node is on its own: there are no other replicas.
	Others  int    // Other nodes in the config.
	Topics  []string
	Broker  Broker
	Disk    interface{ State() disk.State }
	Waiting *supervise.Waiting
	Logger  hclog.Logger

	Registry *registry.Registry
	JS       jetstream.JetStream
	Peers    *nats.Conn

	// Refetched is the replica that was moved away before this run, if there was one.
	Refetched supervise.Quarantine
}

// Repair checks replicas and repairs them.
type Repair struct {
	Options
	log hclog.Logger

	mu    sync.Mutex
	holes map[string]string // What the latest check of the counts has found, by topic.
}

// New returns a Repair at rest.
func New(o Options) *Repair { return &Repair{Options: o, log: o.Logger.Named("repair")} }

// CorruptError ends the run of a node that has found a corrupt replica. The next one does not join the groups before
// its replicas are repaired.
func CorruptError(topic, what string) error {
	return &supervise.RestartError{Reason: fmt.Sprintf("this node's replica of topic %s is corrupt: %s", topic, what),
		Fault: true}
}

// Hole says what the latest check of the counts found to be missing in the replica of a topic, "" if nothing. It is for
// lanes that start, and does not ask the broker: one that hangs would hang the lease protocol too.
func (r *Repair) Hole(topic string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.holes[topic]
}

// setHoles takes in a check's result and returns whether anything is missing.
func (r *Repair) setHoles(local map[string]replicas.State) bool {
	holes := map[string]string{}
	for _, topic := range r.Topics { // In other streams holes mean nothing: records are overwritten or deleted.
		if hole := local[topic].Missing(); hole != "" {
			holes[topic] = hole
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.holes = holes
	return len(holes) > 0
}

// suspects are the corrupt replicas, as one check sees them. The replicas are read before the floors: a floor is
// recorded before anything is purged, so it is never behind what the replicas show, unless the read of it is stale. If
// sure, it is not.
func (r *Repair) suspects(ctx context.Context, sure bool) (map[string]string, error) {
	local, err := r.Broker.LocalReplicas()
	if err != nil {
		return nil, err
	}
	topics, err := r.Registry.Topics(ctx)
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for name, def := range topics {
		c := local[name]
		what := c.Corruption(def.Floor)
		if what != "" && sure {
			floor, err := r.sureFloor(ctx, name)
			if err != nil {
				return nil, err
			}
			what = c.Corruption(floor)
		}
		if what != "" {
			found[name] = what
		}
	}
	return found, nil
}

// sureFloor reads a topic's floor and proves, by writing the record back on its own revision, that it was the newest.
func (r *Repair) sureFloor(ctx context.Context, topic string) (uint64, error) {
	record := r.Registry.Topic(topic)
	def, rev, err := record.Read(ctx)
	if err == nil && rev == 0 {
		err = errors.New("its definition is gone")
	}
	if err == nil {
		err = record.Put(ctx, rev, def)
	}
	if err != nil {
		return 0, fmt.Errorf("confirm the floor of topic %s: %w", topic, err)
	}
	return def.Floor, nil
}

// check returns what two checks, a second apart, agree on: what is wrong, by topic.
func (r *Repair) check(ctx context.Context) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, supervise.SetupLimit+confirmAfter)
	defer cancel()
	first, err := r.suspects(ctx, false)
	if err != nil || len(first) == 0 {
		return nil, err
	}
	if !every.Sleep(ctx, confirmAfter) {
		return nil, context.Cause(ctx)
	}
	second, err := r.suspects(ctx, true)
	maps.DeleteFunc(second, func(topic, _ string) bool { return first[topic] == "" })
	return second, err
}

// Run checks the counts every two seconds and everything every minute, until ctx ends. It returns a RestartError when a
// replica is corrupt, so that its partitions go to nodes that are well. A node on its own has none to give them to;
// there the readers stop before what is missing.
func (r *Repair) Run(ctx context.Context) error {
	tick := time.NewTicker(countsEvery)
	defer tick.Stop()
	for round := 1; ; round++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		local, err := r.Broker.LocalReplicas()
		if suspect := r.setHoles(local); round%fullCheck != 0 && (!suspect || r.Single) {
			continue
		}
		var corrupt map[string]string
		if err == nil {
			corrupt, err = r.check(ctx)
		}
		if err != nil && ctx.Err() == nil {
			r.log.Debug("cannot check the replicas", "error", err)
		}
		r.logCorrupt(corrupt)
		for topic, what := range corrupt {
			if !r.Single {
				return CorruptError(topic, what)
			}
		}
		if r.Single && err == nil {
			r.report(ctx, registry.Corruption{Version: registry.Version, Topics: corrupt})
		}
	}
}

// logCorrupt logs an error for each corrupt replica. Nothing is lost as long as the other replicas are whole.
func (r *Repair) logCorrupt(corrupt map[string]string) {
	for _, topic := range slices.Sorted(maps.Keys(corrupt)) {
		r.log.Error("replica is corrupt: check this node's disk", "topic", topic, "found", corrupt[topic])
	}
}

// report tells the other nodes, unless they know. It may fail: this node's own log and /readyz say the same.
func (r *Repair) report(ctx context.Context, want registry.Corruption) {
	record := r.Registry.Corruption(r.Node)
	have, rev, err := record.Read(ctx)
	invalid := isInvalid(err)
	if invalid {
		err = nil
	}
	same := maps.Equal(have.Topics, want.Topics) && slices.Equal(have.WaitingFor, want.WaitingFor)
	if err == nil && (invalid || !same) {
		err = record.Put(ctx, rev, want)
	}
	if err != nil {
		r.log.Debug("cannot report the replicas to the other nodes", "error", err)
	}
}

// reply is what a node replies about its replica of a topic.
type reply struct {
	Server string `json:"server"`
	Whole  bool   `json:"whole"` // It lacks nothing and is current.
	Why    string `json:"why,omitempty"`
}

// Answer is a part that replies to the other nodes about this node's replicas, each time with a new check, until ctx
// ends.
func (r *Repair) Answer(ctx context.Context) error {
	return peers.Answer(r.Peers, peers.ReplicaSubject, func(ctx context.Context, data []byte) any {
		ctx, cancel := context.WithTimeout(ctx, peersWait)
		defer cancel()
		return r.ownReplica(ctx, string(data))
	})(ctx)
}

func (r *Repair) ownReplica(ctx context.Context, topic string) reply {
	a := reply{Server: r.Server}
	local, err := r.Broker.LocalReplicas()
	if _, ok := local[topic]; err == nil && !ok {
		err = fmt.Errorf("it has no replica of topic %s", topic)
	}
	var corrupt map[string]string
	if err == nil {
		corrupt, err = r.suspects(ctx, false)
	}
	waiting := r.Broker.ReadyStreams(topic)
	switch {
	case err != nil:
		a.Why = err.Error()
	case corrupt[topic] != "":
		a.Why = corrupt[topic]
	case len(waiting) > 0:
		a.Why = waiting[0]
	default:
		a.Whole = true
	}
	return a
}

package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"leasehold/server/datadir"
	"leasehold/server/replicas"
)

// How this node's own copies of the topics are looked after. The broker does not notice when a copy has lost messages,
// and every reader that it serves from that copy would skip them.
const (
	copiesFresh = 2 * time.Second // Between looks at the counts while the node takes part: a lane starts on none that is older.
	fullLook    = 30              // Every so many of them, a look at all that can be damage.
	lookAgain   = time.Second     // Between the two looks that damage takes.
	copyWait    = 2 * time.Second // For what other nodes say of their copies.
)

// copySubject is where nodes ask each other about their copies of a topic.
const copySubject = "leasehold.internal.replica"

// damagedError ends the life of a node that has found damage. The next one takes no part before its copies are whole.
func damagedError(topic, damage string) error {
	return &againError{reason: fmt.Sprintf("this node's copy of topic %s is damaged: %s", topic, damage), fault: true}
}

// copyHoles is what the latest look at the copies has found, for the lanes that start. The driver must not ask the broker
// itself: one that hangs would hang the driver too.
type copyHoles struct {
	mu    sync.Mutex
	holes map[string]string // By topic.
}

// set takes a look's result and returns whether there are any.
func (h *copyHoles) set(copies map[string]replicas.State) bool {
	holes := map[string]string{}
	for topic, c := range copies {
		if hole := c.Missing(); hole != "" {
			holes[topic] = hole
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.holes = holes
	return len(holes) > 0
}

func (h *copyHoles) of(topic string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.holes[topic]
}

// suspects are the damaged copies, as one look sees them. The copies are looked at before the floors: a floor is recorded
// before anything is purged, so it is never behind what the copies show, unless the read of it is stale. If sure, it is
// not.
func (n *Node) suspects(ctx context.Context, sure bool) (map[string]string, error) {
	copies, err := n.broker.LocalReplicas()
	if err != nil {
		return nil, err
	}
	topics, err := definitions[topicDefinition](ctx, n.kv, "topic")
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for name, def := range topics {
		c := copies[name]
		damage := c.Corruption(def.Floor)
		if damage != "" && sure {
			floor, err := n.sureFloor(ctx, name)
			if err != nil {
				return nil, err
			}
			damage = c.Corruption(floor)
		}
		if damage != "" {
			found[name] = damage
		}
	}
	return found, nil
}

// sureFloor reads a topic's floor and proves, by writing the record back on its own revision, that it was the newest.
func (n *Node) sureFloor(ctx context.Context, topic string) (uint64, error) {
	var def topicDefinition
	rev, err := n.kv.ReadDefinition(ctx, topicKey(topic), &def)
	if err == nil && rev == 0 {
		err = errors.New("its definition is gone")
	}
	if err == nil {
		err = n.kv.Put(ctx, topicKey(topic), rev, def)
	}
	if err != nil {
		return 0, fmt.Errorf("make sure of the floor of topic %s: %w", topic, err)
	}
	return def.Floor, nil
}

// damage is what two looks, a second apart, agree on.
func (n *Node) damage(ctx context.Context) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, setupLimit+lookAgain)
	defer cancel()
	first, err := n.suspects(ctx, false)
	if err != nil || len(first) == 0 {
		return nil, err
	}
	timer := time.NewTimer(lookAgain)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-timer.C:
	}
	second, err := n.suspects(ctx, true)
	maps.DeleteFunc(second, func(topic, _ string) bool { return first[topic] == "" })
	return second, err
}

// watchCopies looks at the counts every moment and at everything from time to time, and ends this life when a copy is
// damaged: its partitions go to nodes that are well. A node on its own has none to go to; there the readers stop before what
// is missing.
func (n *Node) watchCopies(ctx context.Context) error {
	tick := time.NewTicker(copiesFresh)
	defer tick.Stop()
	for round := 1; ; round++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		copies, err := n.broker.LocalReplicas()
		if suspect := n.holes.set(topicCopies(copies, n.topics)); round%fullLook != 0 && (!suspect || n.Config.Mode() == datadir.Single) {
			continue
		}
		var bad map[string]string
		if err == nil {
			bad, err = n.damage(ctx)
		}
		if err != nil && ctx.Err() == nil {
			n.log.Debug("the copies cannot be looked at", "error", err)
		}
		n.alarm(bad)
		for topic, text := range bad {
			if n.Config.Mode() == datadir.Cluster {
				return damagedError(topic, text)
			}
		}
		if n.Config.Mode() == datadir.Single && err == nil {
			n.noteDamage(ctx, damageRecord{Version: 1, Topics: bad})
		}
	}
}

// topicCopies leaves out the streams in which holes mean nothing: their records are overwritten or deleted.
func topicCopies(copies map[string]replicas.State, topics map[string]*topic) map[string]replicas.State {
	left := map[string]replicas.State{}
	for name := range topics {
		left[name] = copies[name]
	}
	return left
}

// alarm tells a person. Nothing was lost as long as the other copies are whole.
func (n *Node) alarm(bad map[string]string) {
	for _, topic := range slices.Sorted(maps.Keys(bad)) {
		n.log.Error("copy of a topic is damaged: look at this node's disk", "topic", topic, "damage", bad[topic])
	}
}

// copyAnswer is what a node says of its copy of a topic.
type copyAnswer struct {
	Server string `json:"server"`
	Whole  bool   `json:"whole"` // It lacks nothing and is current.
	Why    string `json:"why,omitempty"`
}

// sayCopy answers another node, with a fresh look.
func (n *Node) sayCopy(m *nats.Msg) any {
	ctx, cancel := context.WithTimeout(context.Background(), copyWait)
	defer cancel()
	topic := string(m.Data)
	return n.ownCopy(ctx, topic)
}

func (n *Node) ownCopy(ctx context.Context, topic string) copyAnswer {
	a := copyAnswer{Server: n.dir.ServerName()}
	copies, err := n.broker.LocalReplicas()
	if _, ok := copies[topic]; err == nil && !ok {
		err = fmt.Errorf("there is no copy of topic %s", topic)
	}
	var bad map[string]string
	if err == nil {
		bad, err = n.suspects(ctx, false)
	}
	waiting := n.broker.ReadyStreams(topic)
	switch {
	case err != nil:
		a.Why = err.Error()
	case bad[topic] != "":
		a.Why = bad[topic]
	case len(waiting) > 0:
		a.Why = waiting[0]
	default:
		a.Whole = true
	}
	return a
}

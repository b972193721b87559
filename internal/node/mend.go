package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"leasehold/cluster"
	"leasehold/internal/api"
	"leasehold/internal/bytesize"
	"leasehold/server"
	"leasehold/server/datadir"
	"leasehold/server/replicas"
)

// How a damaged copy is mended: it is set aside while the broker is down, and fetched anew from the other nodes.
const (
	mendEvery = 100 * time.Millisecond // Between looks, beside the second that a look at something damaged takes.
	loadLimit = 15 * time.Second       // How long the broker may take to load its copies before the node goes on without.
	mendStale = 10 * time.Minute       // After which another node's turn is over whatever it says.
)

// What is stored about damage.
type (
	// damageRecord tells the other nodes, under "damage.<node>", why one takes no part.
	damageRecord struct {
		Version int               `json:"v"`
		Topics  map[string]string `json:"topics"` // What is wrong with its copies.
		Waits   []string          `json:"waits"`  // Why they are not mended yet.
	}
	// turnRecord is whose turn it is to be down for that, under turnKey. No node: nobody's.
	turnRecord struct {
		Version int    `json:"v"`
		Server  string `json:"server"`
		Topic   string `json:"topic"`
	}
)

const (
	damageKind = "corruption"
	turnKey    = "repair"
)

// aside is a copy that is given up: of a topic, when its stream had got as far as last.
type aside struct {
	topic string
	last  uint64
}

// errTurn is for a node whose turn it is not.
var errTurn = errors.New("another node is mending a copy")

// mender is what a node remembers while it waits to mend its copies.
type mender struct {
	begun time.Time
	said  string     // What was last told to a person.
	turn  turnRecord // Another node's turn as seen since since.
	since time.Time
}

// wholeCopies waits until every copy of a topic on this node is whole, and has the damaged ones fetched anew. Nothing is
// read from a damaged copy meanwhile: this node takes no part, and leads no stream of one.
func (n *Node) wholeCopies(ctx context.Context) error {
	if n.Config.Mode() == datadir.Single {
		bad, err := n.damage(ctx) // There is no other copy: readers stop before what is missing.
		if err != nil {
			n.log.Warn("the copies cannot be looked at", "error", err)
			return nil
		}
		n.alarm(bad)
		n.noteDamage(ctx, damageRecord{Version: 1, Topics: bad})
		return nil
	}
	n.wait("a look at the copies of the topics")
	m := &mender{begun: time.Now()}
	var again error
	err := n.until(ctx, mendEvery, func() (reasons []string) {
		reasons, again = n.mend(ctx, m)
		return reasons
	})
	return errors.Join(again, err)
}

// mend looks at the copies once and does what can be done. It returns what it waits for, or an againError that ends this
// life to set a copy aside; neither means that all is well.
func (n *Node) mend(ctx context.Context, m *mender) ([]string, error) {
	if reasons := n.copiesLoaded(m); len(reasons) > 0 {
		return reasons, nil
	}
	bad, err := n.damage(ctx)
	if err != nil {
		return []string{"a look at the copies of the topics: " + err.Error()}, nil
	}
	if len(bad) == 0 {
		return n.allWhole(ctx, m), nil
	}
	topic := slices.Min(slices.Collect(maps.Keys(bad)))
	waits, again := n.mendOne(ctx, m, topic)
	m.tell(n, bad, waits)
	n.noteDamage(ctx, damageRecord{Version: 1, Topics: bad, Waits: waits})
	if again != nil {
		return nil, again
	}
	return []string{fmt.Sprintf("this node's copy of topic %s, which is damaged (%s), to be fetched anew: %s", topic, bad[topic], waits[0])}, nil
}

// copiesLoaded says which copies cannot be looked at yet. One that does not load at all is for the broker to tell about.
func (n *Node) copiesLoaded(m *mender) (reasons []string) {
	copies, err := n.broker.LocalReplicas()
	if err != nil {
		return []string{err.Error()}
	}
	for name := range n.topics {
		if _, ok := copies[name]; !ok && n.broker.HasReplica(name) && time.Since(m.begun) < loadLimit {
			reasons = append(reasons, fmt.Sprintf("the broker to load this node's copy of topic %s", name))
		}
	}
	if n.mended.topic != "" && len(reasons) == 0 {
		return n.refilled(copies[n.mended.topic])
	}
	return reasons
}

// refilled says what the new copy lacks. The broker's word is not enough: its Raft log still has all that the copy had, so
// this node might be made the leader, which is current by definition, of a stream that it has not got yet.
func (n *Node) refilled(c replicas.State) (reasons []string) {
	topic, last := n.mended.topic, n.mended.last
	if c.Last < last {
		if c.Leads {
			if err := n.broker.StepDown(topic); err != nil {
				n.log.Warn("cannot let another node lead", "topic", topic, "error", err)
			}
		}
		return []string{fmt.Sprintf("a new copy of topic %s: it has come to %d of %d", topic, c.Last, last)}
	}
	for _, why := range n.broker.ReadyStreams(topic) {
		reasons = append(reasons, fmt.Sprintf("a new copy of topic %s: %s", topic, why))
	}
	return reasons
}

// tell tells a person, once.
func (m *mender) tell(n *Node, bad map[string]string, waits []string) {
	if text := fmt.Sprint(bad, waits); text != m.said {
		m.said = text
		n.alarm(bad)
		n.log.Warn("this node takes no part until its copies are whole", "waiting_for", waits)
	}
}

// mendOne sets a copy aside if it is safe now, and otherwise says what it waits for.
func (n *Node) mendOne(ctx context.Context, m *mender, topic string) (waits []string, again error) {
	ctx, cancel := context.WithTimeout(ctx, setupLimit+2*copyWait)
	defer cancel()
	copies, err := n.broker.LocalReplicas()
	if err != nil {
		return []string{err.Error()}, nil
	}
	if copies[topic].Leads {
		if err := n.broker.StepDown(topic); err != nil {
			return []string{err.Error()}, nil
		}
		return []string{"another node to lead it"}, nil
	}
	if topic == n.mended.topic {
		return []string{"a person: it was fetched anew a moment ago, so look at this node's disk and memory, then restart it"}, nil
	}
	if _, waits := n.othersWhole(ctx, topic); len(waits) > 0 {
		return waits, nil
	}
	if err := n.takeTurn(ctx, m, topic); err != nil {
		return []string{err.Error()}, nil
	}
	last, waits := n.othersWhole(ctx, topic) // While the turn was taken another node may have gone down.
	if len(waits) > 0 {
		return append(waits, n.endTurn(ctx)...), nil
	}
	return nil, &againError{reason: fmt.Sprintf("the copy of topic %s is fetched anew", topic), aside: aside{topic, last}}
}

// othersWhole says what is missing to the certainty that every other copy of a topic is whole and current, and that this
// node has the room for a new one. If nothing is, last is how far the stream has got.
func (n *Node) othersWhole(ctx context.Context, topic string) (last uint64, waits []string) {
	stream, err := n.conns.operator.Stream(ctx, topic)
	if err != nil || stream.CachedInfo().Cluster == nil {
		return 0, []string{fmt.Sprintf("the stream of topic %s to answer: %v", topic, err)}
	}
	info := stream.CachedInfo()
	if disk := n.disk.State(); disk.Free < info.State.Bytes+disk.MinFree {
		return 0, []string{fmt.Sprintf("free disk space: the new copy needs %s and server.min_free %s, there is %s",
			bytesize.Size(info.State.Bytes).Short(), bytesize.Size(disk.MinFree).Short(), bytesize.Size(disk.Free).Short())}
	}
	others := []string{info.Cluster.Leader}
	for _, r := range info.Cluster.Replicas {
		others = append(others, r.Name)
	}
	others = slices.DeleteFunc(others, func(name string) bool { return name == n.dir.ServerName() || name == "" })
	return info.State.LastSeq, notWhole(others, askNodes[copyAnswer](ctx, n.conns.peers, question{
		subject: copySubject, data: []byte(topic), answers: max(len(others), len(n.Config.Peers())-1), wait: copyWait,
	}))
}

// notWhole decides whether a copy may be given up for those of the other servers that have one: two at least, and every
// one of them has just said that it is whole and current.
func notWhole(others []string, said []copyAnswer) (waits []string) {
	if len(others) < copiesLeft {
		return []string{fmt.Sprintf("%d other nodes with a copy, there is %d", copiesLeft, len(others))}
	}
	for _, name := range others {
		i := slices.IndexFunc(said, func(a copyAnswer) bool { return a.Server == name })
		switch {
		case i < 0:
			waits = append(waits, name+" to say that its copy is whole")
		case !said[i].Whole:
			waits = append(waits, fmt.Sprintf("the copy of %s to be whole: %s", name, said[i].Why))
		}
	}
	return waits
}

// copiesLeft is how many copies must be whole while one is made anew.
const copiesLeft = 2

// takeTurn makes it this node's turn, by compare-and-set. A node that dies in its turn cannot do harm by that: as long as
// its copy is not whole again, no other is given up. So its turn just ends after a while.
func (n *Node) takeTurn(ctx context.Context, m *mender, topic string) error {
	mine := turnRecord{Version: 1, Server: n.dir.ServerName(), Topic: topic}
	var turn turnRecord
	err := n.kv.Update(ctx, turnKey, &turn, func() error {
		if turn != m.turn {
			m.turn, m.since = turn, time.Now()
		}
		if turn.Server != "" && turn.Server != mine.Server && time.Since(m.since) < mendStale {
			return fmt.Errorf("%w: %s that of topic %s", errTurn, turn.Server, turn.Topic)
		}
		turn = mine
		return nil
	})
	if errors.Is(err, cluster.ErrNotARecord) { // It may have been another node's turn, which ends by itself.
		if m.since.IsZero() || m.turn != (turnRecord{}) {
			m.turn, m.since = turnRecord{}, time.Now()
		}
		if time.Since(m.since) >= mendStale {
			return n.kv.Replace(ctx, turnKey, mine, &turn)
		}
	}
	return err
}

// endTurn lets others have theirs.
func (n *Node) endTurn(ctx context.Context) []string {
	var turn turnRecord
	rev, err := n.kv.ReadDefinition(ctx, turnKey, &turn)
	if errors.Is(err, cluster.ErrNotARecord) {
		return nil // what is not valid gives nobody a turn
	}
	if err == nil && rev > 0 && turn.Server == n.dir.ServerName() {
		err = n.kv.Put(ctx, turnKey, rev, turnRecord{Version: 1})
	}
	if err != nil {
		return []string{"the end of this node's turn to mend its copy: " + err.Error()}
	}
	return nil
}

// allWhole takes back what was said about damage.
func (n *Node) allWhole(ctx context.Context, m *mender) []string {
	ctx, cancel := context.WithTimeout(ctx, setupLimit)
	defer cancel()
	if n.mended.topic != "" {
		n.log.Info("copy was fetched anew and is whole", "topic", n.mended.topic)
	}
	n.noteDamage(ctx, damageRecord{Version: 1})
	return n.endTurn(ctx)
}

// noteDamage tells the other nodes, unless they know. It may fail: this node's own log and /readyz say the same.
func (n *Node) noteDamage(ctx context.Context, want damageRecord) {
	key := damageKind + "." + n.Config.Node.Name
	var have damageRecord
	rev, err := n.kv.ReadDefinition(ctx, key, &have)
	invalid := errors.Is(err, cluster.ErrNotARecord)
	if invalid {
		err = nil
	}
	same := fmt.Sprint(have.Topics, have.Waits) == fmt.Sprint(want.Topics, want.Waits)
	if err == nil && (invalid || !same) {
		err = n.kv.Put(ctx, key, rev, want)
	}
	if err != nil {
		n.log.Debug("the other nodes are not told about the copies", "error", err)
	}
}

// damageWarnings says which nodes take no part because of their copies, and fills in the topics.
func damageWarnings(records map[string]damageRecord, nodes []api.Node) (out []string) {
	for i := range nodes {
		rec := records[nodes[i].Name]
		for _, topic := range slices.Sorted(maps.Keys(rec.Topics)) {
			nodes[i].Damaged = append(nodes[i].Damaged, topic)
			text := fmt.Sprintf("node %s has a damaged copy of topic %s: %s; look at its disk", nodes[i].Name, topic, rec.Topics[topic])
			if len(rec.Waits) > 0 {
				text += "; it takes no part until it has fetched it anew, and waits for " + rec.Waits[0]
			}
			out = append(out, text)
		}
	}
	return out
}

// setAside moves the copy away that the life before this one has given up.
func (n *Node) setAside(a aside) error {
	to, err := n.dir.Quarantine(server.Account, a.topic, time.Now())
	if err != nil {
		return err
	}
	n.log.Warn("damaged copy set aside; delete it when you have looked at it", "topic", a.topic, "moved_to", to)
	n.mended = a
	return nil
}

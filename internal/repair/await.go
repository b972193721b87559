package repair

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"leasehold/internal/bytesize"
	"leasehold/internal/peers"
	"leasehold/internal/registry"
	"leasehold/internal/supervise"
	"leasehold/server/replicas"
)

const (
	checkEvery = 100 * time.Millisecond // Between checks, beside the second that a check of something corrupt takes.
	loadLimit  = 15 * time.Second       // How long the broker may take to load its replicas before the node does without.
	wholeLeft  = 2                      // Replicas on other nodes that must be whole while one is fetched again.
)

// attempt is what a node remembers while it waits to repair its replicas.
type attempt struct {
	begun  time.Time
	logged string // What was last logged.
	other  otherTurn
}

// AwaitWhole waits until every replica of a topic on this node is whole, and has the corrupt ones fetched again, for
// which it returns a RestartError. Nothing is read from a corrupt replica meanwhile: this node has not joined the
// groups, and leads no stream of one.
func (r *Repair) AwaitWhole(ctx context.Context) error {
	if r.Single {
		corrupt, err := r.check(ctx) // There is no other replica: readers stop before what is missing.
		if err != nil {
			r.log.Warn("cannot check the replicas", "error", err)
			return nil
		}
		r.logCorrupt(corrupt)
		r.report(ctx, registry.Corruption{Version: registry.Version, Topics: corrupt})
		return nil
	}
	r.Waiting.For("checking the replicas of the topics")
	a := &attempt{begun: time.Now()}
	var restart error
	err := r.Waiting.Until(ctx, checkEvery, func() (reasons []string) {
		reasons, restart = r.step(ctx, a)
		return reasons
	})
	return errors.Join(restart, err)
}

// step checks the replicas once and does what can be done. It returns what it waits for, or a RestartError that ends
// this run to fetch a replica again; neither means that all are whole.
func (r *Repair) step(ctx context.Context, a *attempt) ([]string, error) {
	if reasons := r.loading(a); len(reasons) > 0 {
		return reasons, nil
	}
	corrupt, err := r.check(ctx)
	if err != nil {
		return []string{"checking the replicas of the topics: " + err.Error()}, nil
	}
	if len(corrupt) == 0 {
		return r.allWhole(ctx), nil
	}
	topic := slices.Min(slices.Collect(maps.Keys(corrupt)))
	waits, restart := r.repairOne(ctx, a, topic)
	r.logOnce(a, corrupt, waits)
	r.report(ctx, registry.Corruption{Version: registry.Version, Topics: corrupt, WaitingFor: waits})
	if restart != nil {
		return nil, restart
	}
	return []string{fmt.Sprintf("this node's replica of topic %s, which is corrupt (%s), to be fetched again: %s", topic,
		corrupt[topic], waits[0])}, nil
}

// loading says which replicas cannot be checked yet. One that does not load at all is for the broker to report.
func (r *Repair) loading(a *attempt) (reasons []string) {
	local, err := r.Broker.LocalReplicas()
	if err != nil {
		return []string{err.Error()}
	}
	for _, name := range r.Topics {
		if _, ok := local[name]; !ok && r.Broker.HasReplica(name) && time.Since(a.begun) < loadLimit {
			reasons = append(reasons, fmt.Sprintf("the broker to load this node's replica of topic %s", name))
		}
	}
	if r.Refetched.Topic != "" && len(reasons) == 0 {
		return r.resyncing(local[r.Refetched.Topic])
	}
	return reasons
}

// resyncing says what the new replica lacks. The broker's word is not enough: its Raft log still has all that the old
// one had, so this node might be made the leader, which is current by definition, of a stream that it has not got yet.
func (r *Repair) resyncing(c replicas.State) (reasons []string) {
	topic, last := r.Refetched.Topic, r.Refetched.Last
	if c.Last < last {
		if c.Leads {
			if err := r.Broker.StepDown(topic); err != nil {
				r.log.Warn("cannot let another node lead", "topic", topic, "error", err)
			}
		}
		return []string{fmt.Sprintf("replica of topic %s is resyncing (%d of %d)", topic, c.Last, last)}
	}
	for _, why := range r.Broker.ReadyStreams(topic) {
		reasons = append(reasons, fmt.Sprintf("replica of topic %s is resyncing: %s", topic, why))
	}
	return reasons
}

// logOnce logs what is corrupt and what it waits for, when that changes.
func (r *Repair) logOnce(a *attempt, corrupt map[string]string, waits []string) {
	if text := fmt.Sprint(corrupt, waits); text != a.logged {
		a.logged = text
		r.logCorrupt(corrupt)
		r.log.Warn("not joining the groups until local replicas are repaired", "waiting_for", waits)
	}
}

// repairOne gives a replica up if it is safe now, with a RestartError, and otherwise returns what it waits for.
func (r *Repair) repairOne(ctx context.Context, a *attempt, topic string) (waits []string, restart error) {
	ctx, cancel := context.WithTimeout(ctx, supervise.SetupLimit+2*peersWait)
	defer cancel()
	local, err := r.Broker.LocalReplicas()
	if err != nil {
		return []string{err.Error()}, nil
	}
	if local[topic].Leads {
		if err := r.Broker.StepDown(topic); err != nil {
			return []string{err.Error()}, nil
		}
		return []string{"another node to lead it"}, nil
	}
	if topic == r.Refetched.Topic {
		return []string{"an operator: it was fetched a moment ago and is corrupt again; check this node's disk and memory, " +
			"then restart it"}, nil
	}
	if _, waits := r.othersWhole(ctx, topic); len(waits) > 0 {
		return waits, nil
	}
	if err := r.takeTurn(ctx, &a.other, topic); err != nil {
		return []string{err.Error()}, nil
	}
	last, waits := r.othersWhole(ctx, topic) // While the turn was taken another node may have gone down.
	if len(waits) > 0 {
		return append(waits, r.endTurn(ctx)...), nil
	}
	return nil, &supervise.RestartError{
		Reason:     fmt.Sprintf("the replica of topic %s is fetched again", topic),
		Quarantine: supervise.Quarantine{Topic: topic, Last: last},
	}
}

// othersWhole says what is missing to the certainty that every other replica of a topic is whole and current, and that
// this node has the disk space for a new one. If nothing is, last is how far the stream has got.
func (r *Repair) othersWhole(ctx context.Context, topic string) (last uint64, waits []string) {
	stream, err := r.JS.Stream(ctx, topic)
	if err != nil || stream.CachedInfo().Cluster == nil {
		return 0, []string{fmt.Sprintf("the stream of topic %s to answer: %v", topic, err)}
	}
	info := stream.CachedInfo()
	if disk := r.Disk.State(); disk.Free < info.State.Bytes+disk.MinFree {
		return 0, []string{fmt.Sprintf("free disk space: the new replica needs %s and server.min_free %s, there is %s",
			bytesize.Size(info.State.Bytes).Short(), bytesize.Size(disk.MinFree).Short(), bytesize.Size(disk.Free).Short())}
	}
	others := []string{info.Cluster.Leader}
	for _, replica := range info.Cluster.Replicas {
		others = append(others, replica.Name)
	}
	others = slices.DeleteFunc(others, func(name string) bool { return name == r.Server || name == "" })
	return info.State.LastSeq, notWhole(others, peers.Ask[reply](ctx, r.Peers, peers.Question{
		Subject: peers.ReplicaSubject, Data: []byte(topic), Answers: max(len(others), r.Others), Wait: peersWait,
	}))
}

// notWhole decides whether a replica may be given up for those of the other servers that have one: two at least, and
// every one of them has just replied that it is whole and current.
func notWhole(others []string, replies []reply) (waits []string) {
	if len(others) < wholeLeft {
		return []string{fmt.Sprintf("%d other nodes with a replica, there is %d", wholeLeft, len(others))}
	}
	for _, name := range others {
		i := slices.IndexFunc(replies, func(a reply) bool { return a.Server == name })
		switch {
		case i < 0:
			waits = append(waits, name+" to reply that its replica is whole")
		case !replies[i].Whole:
			waits = append(waits, fmt.Sprintf("the replica of %s to be whole: %s", name, replies[i].Why))
		}
	}
	return waits
}

// allWhole takes back what was reported. It returns what it waits for.
func (r *Repair) allWhole(ctx context.Context) []string {
	ctx, cancel := context.WithTimeout(ctx, supervise.SetupLimit)
	defer cancel()
	if r.Refetched.Topic != "" {
		r.log.Info("replica was fetched again and is whole", "topic", r.Refetched.Topic)
	}
	r.report(ctx, registry.Corruption{Version: registry.Version})
	return r.endTurn(ctx)
}

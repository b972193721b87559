package replicas

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	broker "github.com/nats-io/nats-server/v2/server"
)

// A replica that was cut off may hold entries in its Raft log that no majority ever had: it was the leader and kept
// taking writes. The broker drops them one at a time, each after an attempt to catch up of up to 2 s, and meanwhile the
// replica stalls and does not count for a quorum: 54 of them took 1 min 52 s (nats-server v2.15.2, raft.go, "Expected
// first catchup entry to be a snapshot and peerstate, will retry"). A leader whose log begins behind those entries
// sends a snapshot instead, which ends the stall at once; but by itself it takes one every two to three minutes only.
// So the leader's node takes one when it sees a replica stall.
const (
	stallCheckEvery = time.Second
	stallChecks     = 3 // in a row at which a replica has made no progress: it is stalled
	// since a copy's last word, less than stallChecks: one that is cut off is not meant (0: none yet)
	stallHeard = 2500 * time.Millisecond

	// The broker takes no snapshot during an attempt to catch up, and the next attempt begins with the next heartbeat. So
	// we ask often enough to hit the time between two, for longer than one takes.
	snapshotEvery = 10 * time.Millisecond
	snapshotLimit = 2500 * time.Millisecond
)

// stalledReplicas counts checks at which a replica made no progress.
type stalledReplicas map[follower]stall

type follower struct{ stream, peer string }

type stall struct {
	lag    uint64 // entries that the replica lacked at the latest check
	checks int    // at which it had made no progress
}

// check takes what this node knows of the replicas of the streams that it leads. It returns the streams with a stalled
// one.
func (s stalledReplicas) check(replicas map[string][]*broker.PeerInfo) (stalled []string) {
	seen := stalledReplicas{}
	for stream, peers := range replicas {
		for _, p := range peers {
			if p.Offline || p.Lag == 0 {
				continue
			}
			who := follower{stream, p.Peer}
			now := stall{lag: p.Lag, checks: 1}
			if before, ok := s[who]; ok && p.Lag >= before.lag {
				now.checks = before.checks + 1
			}
			seen[who] = now
			heard := p.Active > 0 && p.Active < stallHeard
			if heard && now.checks >= stallChecks && !slices.Contains(stalled, stream) {
				stalled = append(stalled, stream)
			}
		}
	}
	clear(s)
	maps.Copy(s, seen)
	return stalled
}

// reset begins a stream's counts again.
func (s stalledReplicas) reset(stream string) {
	maps.DeleteFunc(s, func(who follower, _ stall) bool { return who.stream == stream })
}

// WatchStalled unblocks stalled replicas of streams that this node leads, until ctx ends.
func (l *Local) WatchStalled(ctx context.Context) {
	tick := time.NewTicker(stallCheckEvery)
	defer tick.Stop()
	stalled := stalledReplicas{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, stream := range stalled.check(l.followers()) {
			if err := l.snapshot(ctx, stream); err != nil {
				l.log.Debug("no snapshot for a stalled replica yet", "stream", stream, "error", err)
				continue
			}
			l.notice(fmt.Sprintf("a replica of stream %s was stalled: took a snapshot for it", stream))
			stalled.reset(stream)
		}
	}
}

// snapshot takes a snapshot of a stream that this node leads, between two attempts of a replica to catch up.
func (l *Local) snapshot(ctx context.Context, stream string) error {
	ctx, cancel := context.WithTimeout(ctx, snapshotLimit)
	defer cancel()
	again := time.NewTicker(snapshotEvery)
	defer again.Stop()
	for {
		err := l.broker.JetStreamSnapshotStream(l.account, stream)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-again.C:
		}
	}
}

// followers are the other replicas of the streams that this node leads, as it sees them.
func (l *Local) followers() map[string][]*broker.PeerInfo {
	streams, err := l.streams()
	if err != nil {
		return nil
	}
	out := map[string][]*broker.PeerInfo{}
	for _, d := range streams {
		if l.leads(d) {
			out[d.Name] = d.Cluster.Replicas
		}
	}
	return out
}

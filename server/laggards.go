package server

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"
	broker "github.com/nats-io/nats-server/v2/server"
)

// A copy that has come back from being cut off may hold entries in its Raft log that nobody confirmed: it was the leader and
// went on taking writes. The broker gives them up one at a time, each with a try to catch up of up to 2 s, and meanwhile the
// copy stands still and does not count for a quorum: 54 of them took 1 min 52 s (nats-server v2.15.2, raft.go, "Expected first
// catchup entry to be a snapshot and peerstate, will retry"). A leader whose log begins behind those entries sends a snapshot
// instead, which ends it at once; but by itself it makes one every two to three minutes only. So the leader's node has it make
// one when it sees a copy stand still.
const (
	lagEvery = time.Second
	lagLooks = 3                       // in a row at which a copy has come no closer: it stands still
	lagHeard = 2500 * time.Millisecond // since a copy's last word, less than lagLooks: one that is cut off is not meant (0: none yet)

	// While a try to catch up is under way the broker makes no snapshot, and the next try begins with the next heartbeat. So
	// we ask often enough to meet the time between two, for longer than one takes.
	snapshotEvery = 10 * time.Millisecond
	snapshotLimit = 2500 * time.Millisecond
)

// laggards counts looks at copies that stand still.
type laggards map[laggard]standstill

type laggard struct{ stream, peer string }

type standstill struct {
	lag   uint64 // Entries that the copy lacked at the latest look.
	looks int    // At which it had come no closer.
}

// look takes what this node knows of the copies of the streams that it leads, and returns the streams of which one stands still.
func (l laggards) look(copies map[string][]*broker.PeerInfo) (stuck []string) {
	seen := laggards{}
	for stream, peers := range copies {
		for _, p := range peers {
			if p.Offline || p.Lag == 0 {
				continue
			}
			who := laggard{stream, p.Peer}
			now := standstill{lag: p.Lag, looks: 1}
			if before, ok := l[who]; ok && p.Lag >= before.lag {
				now.looks = before.looks + 1
			}
			seen[who] = now
			heard := p.Active > 0 && p.Active < lagHeard
			if heard && now.looks >= lagLooks && !slices.Contains(stuck, stream) {
				stuck = append(stuck, stream)
			}
		}
	}
	clear(l)
	maps.Copy(l, seen)
	return stuck
}

// forget begins to count a stream's copies anew.
func (l laggards) forget(stream string) {
	maps.DeleteFunc(l, func(who laggard, _ standstill) bool { return who.stream == stream })
}

// watchLaggards helps copies that stand still, of streams that this node leads, until ctx ends.
func (s *Server) watchLaggards(ctx context.Context) {
	tick := time.NewTicker(lagEvery)
	defer tick.Stop()
	l := laggards{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, stream := range l.look(s.ledCopies()) {
			if err := s.snapshot(ctx, stream); err != nil {
				s.log.Debug("no snapshot for a copy that stands still yet", "stream", stream, "error", err)
				continue
			}
			s.out.show(hclog.Info, fmt.Sprintf("a copy of stream %s stands still: made a snapshot for it", stream))
			l.forget(stream)
		}
	}
}

// snapshot has a stream that this node leads make a snapshot between two tries of a copy to catch up.
func (s *Server) snapshot(ctx context.Context, stream string) error {
	ctx, cancel := context.WithTimeout(ctx, snapshotLimit)
	defer cancel()
	again := time.NewTicker(snapshotEvery)
	defer again.Stop()
	for {
		err := s.broker.JetStreamSnapshotStream(Account, stream)
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

// ledCopies are the other copies of the streams that this node leads, as it sees them.
func (s *Server) ledCopies() map[string][]*broker.PeerInfo {
	streams, err := s.streams()
	if err != nil {
		return nil
	}
	out := map[string][]*broker.PeerInfo{}
	for _, d := range streams {
		if s.leads(d) {
			out[d.Name] = d.Cluster.Replicas
		}
	}
	return out
}

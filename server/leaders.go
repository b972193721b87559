package server

import (
	"context"
	"leasehold/server/datadir"
	"time"

	broker "github.com/nats-io/nats-server/v2/server"
)

// subjectStepDown has the meta leader make room for another one, in the system account.
const subjectStepDown = broker.JSApiLeaderStepDown

// MoveLeaders has other nodes lead the cluster and those of the streams that this node leads, and returns once they do
// or ctx ends. The broker's own stop does so too, but only when it answers nothing any more: a request on its way to a
// leader is lost then. Called before, it leaves nothing to be lost with this node.
func (s *Server) MoveLeaders(ctx context.Context, streams ...string) {
	if s.opt.Mode != datadir.Cluster || !isClosed(s.started) {
		return
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for asked := (map[string]bool{}); ; {
		led := s.ledStreams(streams)
		for _, name := range led {
			if !asked[name] { // Once: the next leader may take its time, and might be this node again.
				asked[name] = true
				s.stepDown(ctx, name)
			}
		}
		if len(led) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			s.log.Debug("stopping as a leader before another node has taken over", "leads", led)
			return
		case <-tick.C:
		}
	}
}

// metaGroup stands for the meta group among names of streams.
const metaGroup = ""

// ledStreams are those of the streams that this node leads, and metaGroup if it leads the cluster.
func (s *Server) ledStreams(streams []string) []string {
	var led []string
	if s.MetaLeader() == s.opt.Identity.Node {
		led = append(led, metaGroup)
	}
	replicas, err := s.replicas.States()
	if err != nil {
		return led
	}
	for _, name := range streams {
		if replicas[name].Leads {
			led = append(led, name)
		}
	}
	return led
}

func (s *Server) stepDown(ctx context.Context, name string) {
	var err error
	if name == metaGroup {
		var answer broker.JSApiLeaderStepDownResponse
		if err = s.systemRequest(ctx, subjectStepDown, struct{}{}, &answer); err == nil && answer.Error != nil {
			err = answer.Error
		}
	} else {
		err = s.StepDown(name)
	}
	if err != nil {
		s.log.Debug("cannot step down as a leader before stopping", "stream", name, "error", err)
	}
}

package server

import (
	"context"
	"encoding/json"
	"time"

	"github.com/nats-io/nats.go"
)

// activeSubject is where nodes say whose clients publish on them, so that each knows whether a user of its own is alone
// (see ingress.Ingress.ActiveElsewhere). A message that is lost costs some fairness for a second. They say it also when
// nobody does: it needs no quorum, and tells the others that this node answers (see Quorum).
const (
	activeSubject = "leasehold.internal.active"
	announceEvery = time.Second
)

// activeUsers is what a node says.
type activeUsers struct {
	Node  string   `json:"node"`
	Users []string `json:"users"`
}

// announceActivity tells the other nodes whose clients publish here, and hears it of theirs, until ctx ends.
func (s *Server) announceActivity(ctx context.Context) {
	var nc *nats.Conn
	defer func() {
		if nc != nil {
			nc.Close()
		}
	}()
	tick := time.NewTicker(announceEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := error(nil)
		if nc == nil {
			nc, err = s.subscribeActivity()
		}
		if err == nil {
			err = s.publishActivity(nc)
		}
		if err != nil {
			s.log.Debug("cannot announce this node's active users", "error", err)
		}
	}
}

func (s *Server) publishActivity(nc *nats.Conn) error {
	data, err := json.Marshal(activeUsers{s.opt.Node, s.ingress.Active()})
	if err != nil {
		return err
	}
	return nc.Publish(activeSubject, data)
}

func (s *Server) subscribeActivity() (*nats.Conn, error) {
	nc, err := s.Conn(roleActivity)
	if err != nil {
		return nil, err
	}
	_, err = nc.Subscribe(activeSubject, func(m *nats.Msg) {
		var a activeUsers
		if err := json.Unmarshal(m.Data, &a); err != nil {
			s.log.Debug("invalid announcement of active users", "error", err)
		} else if a.Node != s.opt.Node {
			s.heard.note(a.Node, time.Now())
			s.ingress.ActiveElsewhere(a.Node, a.Users)
		}
	})
	if err != nil {
		nc.Close()
		return nil, err
	}
	return nc, nil
}

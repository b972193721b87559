package server

import (
	"fmt"
	"leasehold/server/replicas"

	"github.com/hashicorp/go-hclog"
)

// LocalReplicas are the states of this node's replicas of our account's streams, by stream.
func (s *Server) LocalReplicas() (map[string]replicas.State, error) { return s.replicas.States() }

// Replica opens this node's replica of a stream. The error wraps ErrNoReplica if there is none.
func (s *Server) Replica(stream string) (*replicas.Replica, error) {
	if !isClosed(s.started) {
		return nil, errNotStarted
	}
	return s.replicas.Open(stream)
}

// HasReplica reports whether the cluster has assigned a replica of the stream to this node, loaded or not.
func (s *Server) HasReplica(stream string) bool {
	return s.broker.JetStreamIsStreamAssigned(Account, stream)
}

// StepDown gives up the leadership of the stream to another node.
func (s *Server) StepDown(stream string) error {
	if err := s.broker.JetStreamStepdownStream(Account, stream); err != nil {
		return fmt.Errorf("step down as leader of stream %s: %w", stream, err)
	}
	return nil
}

// notice logs at info, the same text no oftener than once a minute.
func (s *Server) notice(text string) { s.out.logRateLimited(hclog.Info, text) }

package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"leasehold/internal/supervise"
	"leasehold/partitioner"
	"leasehold/partitioner/stream"
	"leasehold/worker/reader"
)

// topic is one topic on this node.
type topic struct {
	partitioner.Topic
	stream jetstream.Stream
	reader *reader.Reader // nil if this node has no group of the topic: to read costs, and nobody would get it.
}

func (s *setup) openTopics(ctx context.Context) error {
	for _, t := range s.config.Topics {
		if err := s.defineTopic(ctx, t); err != nil {
			return err
		}
		stream, err := s.ensureStream(ctx, t)
		if err != nil {
			return err
		}
		s.topics[t.Name] = &topic{Topic: t, stream: stream}
	}
	return nil
}

func (s *setup) ensureStream(ctx context.Context, t partitioner.Topic) (jetstream.Stream, error) {
	made, err := stream.Ensure(ctx, s.js, t, stream.Options{
		Replicas: s.replicas, MaxPayload: s.config.Server.MaxPayload,
		Sizing:  s.capacity.Sizing(t.MaxBytes, s.config.DefaultMaxBytes()),
		Waiting: func(err error) { s.waiting.For(fmt.Sprintf("topic %s: %v", t.Name, err)) },
	})
	var mismatch *stream.MismatchError
	if errors.As(err, &mismatch) {
		err = fmt.Errorf("%w: %w", supervise.ErrConfig, err)
	}
	if err == nil {
		s.capacity.LogShortfall("topic "+t.Name, made)
	}
	return made, err
}

// openDeadLetters makes or finds the streams of the groups' dead letters.
func (s *setup) openDeadLetters(ctx context.Context) error {
	for _, g := range s.config.Groups {
		made, err := stream.EnsureDeadLetters(ctx, s.js, g.Name, stream.DeadLetterOptions{
			Replicas: s.replicas, Sizing: s.capacity.Sizing(g.DLQMaxBytes, s.config.DefaultDLQMaxBytes()),
			Waiting: func(err error) { s.waiting.For(fmt.Sprintf("dead letters of group %s: %v", g.Name, err)) },
		})
		if err != nil {
			return err
		}
		s.capacity.LogShortfall("dead letters of group "+g.Name, made)
	}
	return nil
}

package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"leasehold/internal/api"
	"leasehold/internal/jsondata"
	"leasehold/partitioner"
	"leasehold/worker/handler"
	"leasehold/worker/stream"
	"leasehold/worker/tap"
)

// Tap shows messages of a topic without consuming them.
func (n *Node) Tap(ctx context.Context, name string, o api.TapOptions) (api.MessageReader, error) {
	t, err := n.openTopic(name)
	if err != nil {
		return nil, err
	}
	opt := tap.Options{Topic: t.Topic, JS: n.conns.operator, From: o.FromSeq, Last: o.Last, Follow: o.Follow}
	if o.Since > 0 {
		opt.Since = time.Now().Add(-o.Since)
	}
	if opt.Filter, err = tapFilter(t.Topic, o, n.hasKey(ctx, t.Topic, nil)); err != nil {
		return nil, err
	}
	tap, err := tap.Open(ctx, opt)
	if err != nil {
		return nil, api.Mark(api.ErrNotYet, err.Error())
	}
	return tapReader{tap}, nil
}

// tapFilter is the filter of stored subjects that the options mean, "" for all.
func tapFilter(t partitioner.Topic, o api.TapOptions, has hasKey) (string, error) {
	switch {
	case o.Partition != nil:
		return t.PartitionFilter(*o.Partition), nil
	case o.Key != "":
		key, _, err := chooseKey(t, o.Key, has)
		return t.KeyFilter(key), err
	}
	return "", nil
}

// openTopic finds a topic that can be published to and read.
func (n *Node) openTopic(name string) (*topic, error) {
	n.mu.Lock()
	served := n.served
	n.mu.Unlock()
	if _, ok := n.Config.Topic(name); !ok {
		return nil, api.Mark(api.ErrNotFound, fmt.Sprintf("there is no topic %q here", name))
	}
	if !served {
		return nil, api.Mark(api.ErrNotYet, "the node is starting")
	}
	return n.topics[name], nil
}

type tapReader struct{ *tap.Tap }

func (r tapReader) Next(ctx context.Context) (*api.Message, error) {
	m, err := r.Tap.Next(ctx)
	if err != nil {
		return nil, err
	}
	return messageOf(m), nil
}

// messageOf is a stored message as the outside sees it.
func messageOf(m *handler.Message) *api.Message {
	out := &api.Message{
		ID: m.ID, Topic: m.Topic, Partition: m.Partition, Seq: m.Seq, Key: m.Key, Subject: m.Subject,
		IdempotencyKey: m.IdempotencyKey, Time: m.Published.UTC().Format(time.RFC3339Nano), Traceparent: m.Traceparent,
		Headers: m.Headers, Payload: jsondata.New(m.Data),
	}
	if out.Headers == nil {
		out.Headers = map[string][]string{}
	}
	return out
}

// Message shows one stored message.
func (n *Node) Message(ctx context.Context, name string, seq uint64) (*api.Message, error) {
	t, err := n.openTopic(name)
	if err != nil {
		return nil, err
	}
	m, err := tap.Get(ctx, n.conns.operator, t.Topic, seq)
	switch {
	case errors.Is(err, tap.ErrNotStored):
		return nil, api.Mark(api.ErrNotFound, err.Error())
	case err != nil:
		return nil, api.Mark(api.ErrNotYet, err.Error())
	}
	return messageOf(m), nil
}

// Count counts messages of a partition between two sequences: those behind the first, less those from the second on.
func (n *Node) Count(ctx context.Context, name string, o api.CountOptions) (uint64, error) {
	t, err := n.openTopic(name)
	if err != nil || o.Before <= o.After+1 {
		return 0, err
	}
	all, err := stream.CountPartition(ctx, n.conns.operator, t.Topic, o.Partition, o.After+1)
	rest := uint64(0)
	if err == nil && all > 0 {
		rest, err = stream.CountPartition(ctx, n.conns.operator, t.Topic, o.Partition, o.Before)
	}
	if err != nil {
		return 0, api.Mark(api.ErrNotYet, err.Error())
	}
	return all - min(all, rest), nil
}

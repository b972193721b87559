package admin

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"leasehold/internal/api"
	"leasehold/internal/jsondata"
	"leasehold/internal/status"
	"leasehold/partitioner"
	"leasehold/worker/handler"
	"leasehold/worker/stream"
	"leasehold/worker/tap"
)

// messages shows the messages of topics.
type messages struct{ *status.View }

// openTopic is a topic and what reads it.
type openTopic struct {
	partitioner.Topic
	js jetstream.JetStream
}

// open finds a topic of this node's config.
func (m messages) open(name string) (openTopic, error) {
	t, err := m.OpenTopic(name)
	if err != nil {
		return openTopic{}, err
	}
	store, err := m.Store()
	if err != nil {
		return openTopic{}, err
	}
	return openTopic{t.Topic, store.JS}, nil
}

// key finds the key of a topic that an operator means by a name.
func (m messages) key(ctx context.Context, topic, name string) (*api.KeyInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	t, err := m.open(topic)
	if err != nil {
		return nil, err
	}
	key, stored, err := chooseKey(t.Topic, name, storedKey(ctx, t.js, t.Topic, nil))
	if err != nil {
		return nil, err
	}
	return &api.KeyInfo{V: api.Version, Topic: topic, Key: key, Name: partitioner.KeyName(key),
		Partition: t.PartitionOf(key), Stored: stored}, nil
}

// tap shows messages of a topic without consuming them.
func (m messages) tap(ctx context.Context, name string, o api.TapOptions) (api.MessageReader, error) {
	t, err := m.open(name)
	if err != nil {
		return nil, err
	}
	opt := tap.Options{Topic: t.Topic, JS: t.js, From: o.FromSeq, Last: o.Last, Follow: o.Follow}
	if o.Since > 0 {
		opt.Since = time.Now().Add(-o.Since)
	}
	if opt.Filter, err = tapFilter(t.Topic, o, storedKey(ctx, t.js, t.Topic, nil)); err != nil {
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

type tapReader struct{ *tap.Tap }

func (r tapReader) Next(ctx context.Context) (*api.Message, error) {
	m, err := r.Tap.Next(ctx)
	if err != nil {
		return nil, err
	}
	return messageOf(m), nil
}

// messageOf is a stored message as the API shows it.
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

// message shows one stored message.
func (m messages) message(ctx context.Context, name string, seq uint64) (*api.Message, error) {
	t, err := m.open(name)
	if err != nil {
		return nil, err
	}
	stored, err := tap.Get(ctx, t.js, t.Topic, seq)
	switch {
	case errors.Is(err, tap.ErrNotStored):
		return nil, api.Mark(api.ErrNotFound, err.Error())
	case err != nil:
		return nil, api.Mark(api.ErrNotYet, err.Error())
	}
	return messageOf(stored), nil
}

// count counts messages of a partition between two sequences: those behind the first, less those from the second on.
func (m messages) count(ctx context.Context, name string, o api.CountOptions) (uint64, error) {
	t, err := m.open(name)
	if err != nil || o.Before <= o.After+1 {
		return 0, err
	}
	all, err := stream.CountPartition(ctx, t.js, t.Topic, o.Partition, o.After+1)
	rest := uint64(0)
	if err == nil && all > 0 {
		rest, err = stream.CountPartition(ctx, t.js, t.Topic, o.Partition, o.Before)
	}
	if err != nil {
		return 0, api.Mark(api.ErrNotYet, err.Error())
	}
	return all - min(all, rest), nil
}

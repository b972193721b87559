package stream

import (
	"context"
	"errors"
	"time"

	"leasehold/internal/every"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

// ConsumerConfig returns the config of a consumer that delivers from a sequence on; 0 delivers new messages only.
func ConsumerConfig(from uint64) jetstream.ConsumerConfig {
	cfg := jetstream.ConsumerConfig{
		AckPolicy: jetstream.AckNonePolicy, DeliverPolicy: jetstream.DeliverNewPolicy,
		MemoryStorage: true, Replicas: 1, InactiveThreshold: inactivity,
	}
	if from > 0 {
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, from
	}
	return cfg
}

// createConsumer repeats the request to create a consumer until there is one. A request is lost with the leader that
// received it, or its consumer is placed on a node that is just stopping; and just then partitions get new owners. So
// the first requests have a short timeout, and each is for a consumer with a new name: one whose node is gone would
// stay offline.
func createConsumer(ctx context.Context, js jetstream.JetStream, stream string,
	cfg jetstream.ConsumerConfig) (*jetstream.ConsumerInfo, error) {
	for try := 0; ; try++ {
		cfg.Name = nuid.Next()
		c, err := createOnce(ctx, js, stream, cfg, firstCreateTimeout<<try)
		if err == nil {
			return c.CachedInfo(), nil
		}
		DeleteConsumer(js.Conn(), stream, cfg.Name) // It may have been created all the same.
		if try+1 == maxCreates || ctx.Err() != nil || errors.Is(err, jetstream.ErrStreamNotFound) {
			return nil, err
		}
		every.Sleep(ctx, firstCreatePause<<try)
	}
}

// createOnce makes one request.
func createOnce(ctx context.Context, js jetstream.JetStream, stream string, cfg jetstream.ConsumerConfig,
	limit time.Duration) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return js.CreateConsumer(ctx, stream, cfg)
}

// DeleteConsumer deletes a consumer and does not wait for the reply: the server removes an unused consumer anyway.
func DeleteConsumer(nc *nats.Conn, stream, consumer string) {
	_ = nc.PublishRequest("$JS.API.CONSUMER.DELETE."+stream+"."+consumer, nc.NewInbox(), nil)
}

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

// ConsumerConfig is a consumer that delivers from the sequence, 0 for whatever comes next.
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

// createConsumer asks for a consumer until it is there. A request dies unheard with the leader that it has come to,
// or its consumer is placed on a node that is just stopping; and that is when partitions get new owners. So the first
// ones are not waited for long, and each is for a consumer of its own: one whose node is gone would stay offline,
// whoever asks for it.
func createConsumer(ctx context.Context, js jetstream.JetStream, stream string,
	cfg jetstream.ConsumerConfig) (*jetstream.ConsumerInfo, error) {
	for try := 0; ; try++ {
		cfg.Name = nuid.Next()
		c, err := createOnce(ctx, js, stream, cfg, firstCreateTimeout<<try)
		if err == nil {
			return c.CachedInfo(), nil
		}
		DeleteConsumer(js.Conn(), stream, cfg.Name) // It may be there all the same.
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

// DeleteConsumer deletes a consumer and does not wait for the answer, which nobody needs: unused, the consumer goes
// by itself.
func DeleteConsumer(nc *nats.Conn, stream, consumer string) {
	_ = nc.PublishRequest("$JS.API.CONSUMER.DELETE."+stream+"."+consumer, nc.NewInbox(), nil)
}

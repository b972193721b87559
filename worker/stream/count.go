package stream

import (
	"context"
	"fmt"
	"time"

	"leasehold/partitioner"

	"github.com/nats-io/nats.go/jetstream"
)

// CountPartition asks the server how many messages a partition of a topic has from a sequence on.
func CountPartition(ctx context.Context, js jetstream.JetStream, t partitioner.Topic, partition int,
	from uint64) (uint64, error) {
	n, err := Count(ctx, js, t.Name, t.PartitionFilter(partition), from)
	if err != nil {
		return 0, fmt.Errorf("count messages of partition %d: %w", partition, err)
	}
	return n, nil
}

// Count asks the server how many messages match a filter from a sequence on.
func Count(ctx context.Context, js jetstream.JetStream, stream, filter string, from uint64) (uint64, error) {
	cfg := ConsumerConfig(from)
	cfg.FilterSubjects = []string{filter} // The client refuses a ">" within a key in FilterSubject.
	cfg.InactiveThreshold = time.Second
	info, err := createConsumer(ctx, js, stream, cfg)
	if err != nil {
		return 0, err
	}
	DeleteConsumer(js.Conn(), stream, info.Name)
	return info.NumPending, nil
}

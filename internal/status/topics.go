package status

import (
	"context"
	"fmt"
	"time"

	"leasehold/internal/api"
	"leasehold/internal/brokererr"
	"leasehold/internal/bytesize"
	"leasehold/partitioner/stream"
)

// topicsLimit bounds how long a status waits for the leaders of all topics together.
const topicsLimit = 1500 * time.Millisecond

// topicStatus looks at the topics' streams; those that do not answer are left out with a warning. Without a quorum none
// can answer: then it is what this node's own replicas hold.
func (r *Reader) topicStatus(ctx context.Context, serving *Serving,
	quorum bool) (topics []api.Topic, warnings []string) {
	if !quorum {
		return r.lastKnownTopics(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, topicsLimit)
	defer cancel()
	for _, c := range r.Config.Topics {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		info, err := serving.Topics[c.Name].Stream.Info(ctx)
		cancel()
		if err != nil {
			warnings = append(warnings, fmt.Sprintf("topic %s does not answer: %s", c.Name, brokererr.Text(err)))
			continue
		}
		topics = append(topics, api.Topic{
			Name: c.Name, Partitions: c.Partitions, Messages: info.State.Msgs, Bytes: info.State.Bytes,
			LastSeq: info.State.LastSeq,
			Held:    stream.PublishingPaused(info.Config),
		})
		if limit := uint64(max(info.Config.MaxBytes, 0)); limit > 0 && info.State.Bytes > limit/10*9 {
			warnings = append(warnings,
				fmt.Sprintf("topic %s is %d %% full (max_bytes %s): publishes are refused when it is; see what its groups "+
					"wait for, or raise its max_bytes", c.Name, info.State.Bytes*100/limit, bytesize.Size(limit)))
		}
	}
	return topics, warnings
}

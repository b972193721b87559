package stream

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// The max_msgs of a topic's stream. Topics have no limit of messages of their own, so this one is there to refuse
// publishes of every client with an answer at once (10077, "maximum messages exceeded"), while everything else
// continues: the stream discards new messages, so the limit deletes nothing; message ids are looked at before it, so a
// retry of what is stored is still told so; reading, purging and every other stream are not concerned. Sealing could
// not be undone; a lower max_bytes would look like a topic that is full, release space that the server had set aside
// for it, and change the size of its blocks at a restart.
//
// It cannot be 0. So a topic that is empty takes one message, and another one once that is finished and purged.
const (
	unlimitedMsgs = -1
	pausedMaxMsgs = 1
)

// PublishingPaused reports whether a topic's stream refuses messages because a node is short of disk space.
func PublishingPaused(c jetstream.StreamConfig) bool { return c.MaxMsgs == pausedMaxMsgs }

// PausePublishing makes a topic refuse messages, or accept them again. changed is false if nothing had to change.
//
// Two nodes may do it at once, or one while another changes the limits at its start: the last write wins as a whole. So
// a caller that wants publishing paused must check again from time to time.
func PausePublishing(ctx context.Context, js jetstream.JetStream, topic string, pause bool) (changed bool, err error) {
	stream, err := find(ctx, js, topic)
	if err != nil {
		return false, fmt.Errorf("look up topic %s: %w", topic, err)
	}
	c := stream.CachedInfo().Config
	if PublishingPaused(c) == pause {
		return false, nil
	}
	c.MaxMsgs = unlimitedMsgs
	if pause {
		c.MaxMsgs = pausedMaxMsgs
	}
	ctx, cancel := context.WithTimeout(ctx, createTimeout)
	defer cancel()
	if _, err := js.UpdateStream(ctx, c); err != nil {
		return false, fmt.Errorf("pause or resume publishing to topic %s: %w", topic, err)
	}
	return true, nil
}

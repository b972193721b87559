package stream

import (
	"context"
	"fmt"
	"leasehold/partitioner"
	"strconv"

	"github.com/nats-io/nats.go/jetstream"
)

// DeadLetterOptions are what a group's stream of dead letters takes from the cluster.
type DeadLetterOptions struct {
	Replicas int
	Sizing   Sizing
	Waiting  func(err error) // As in StreamOptions.
}

// EnsureDeadLetters creates a group's stream of dead letters, or brings its size up to date. It tries until ctx ends,
// as EnsureStream does.
func EnsureDeadLetters(ctx context.Context, js jetstream.JetStream, group string,
	opt DeadLetterOptions) (jetstream.Stream, error) {
	want := jetstream.StreamConfig{
		Name:                 partitioner.DeadLetterStream(group),
		Description:          "Leasehold: dead letters of group " + group,
		Subjects:             []string{"dlq." + group + ".>"},
		Storage:              jetstream.FileStorage,
		Replicas:             opt.Replicas,
		Retention:            jetstream.LimitsPolicy,
		Discard:              jetstream.DiscardNew,
		DiscardNewPerSubject: true,
		MaxMsgsPerSubject:    1,
		MaxMsgs:              -1,
		AllowDirect:          true,
		Metadata:             map[string]string{metaLayout: strconv.Itoa(partitioner.Layout)},
	}
	what := "ensure the stream of dead letters of group " + group
	return retryUntilDone(ctx, what, opt.Waiting, func() (jetstream.Stream, error) {
		return ensureOnce(ctx, js, want, opt.Sizing, adoptDeadLetters(want))
	})
}

// adoptDeadLetters refuses a stream that would not keep dead letters as the workers expect.
func adoptDeadLetters(want jetstream.StreamConfig) adopter {
	return func(have *jetstream.StreamConfig) (change bool, err error) {
		if have.MaxMsgsPerSubject != 1 || !have.DiscardNewPerSubject || have.Discard != want.Discard ||
			have.Replicas != want.Replicas {
			return false, fmt.Errorf("%w: stream %s was changed by another hand: it must keep one message a subject, discard "+
				"new ones, "+
				"and have %d replicas", errNotOurs, want.Name, want.Replicas)
		}
		return false, nil
	}
}

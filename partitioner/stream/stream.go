// Package stream is the life of the streams behind topics and dead letters: how they are created and resized, how
// publishing is paused while a disk is short of space, and how finished messages are purged.
package stream

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"leasehold/internal/bytesize"
	"leasehold/partitioner"
)

const (
	// MaxConsumers of a topic's stream. The broker's default of 1,000 cannot be lifted with "unlimited"
	// (consumer.go: -1 counts as not set), and catch-up may want a consumer for every lane of several groups.
	MaxConsumers = 16384

	metaLayout     = "leasehold_layout"
	metaPartitions = "leasehold_partitions"
	metaKey        = "leasehold_key"

	// requeueHeadroom is how much larger a stored message may be than a published one. A dead letter that is requeued gets
	// headers of ours, and each of its own may be spelled a byte longer.
	requeueHeadroom = 32 * bytesize.KiB

	createTimeout  = 5 * time.Second // of one request to make or change a stream
	findTimeout    = time.Second     // of one to look at it: while it has no leader nobody answers, now or later
	createMinPause = 100 * time.Millisecond
	createMaxPause = 2 * time.Second
)

// Options are what a topic's stream takes from the cluster rather than from the topic.
type Options struct {
	Replicas   int             // 3 in a cluster, 1 in single mode
	MaxPayload bytesize.Size   // largest message users may send, headers included
	Sizing     Sizing          // of which Stated is the topic's max_bytes, whatever it says here
	Waiting    func(err error) // told why the broker cannot do it yet, before each retry; may be nil
}

// Difference is one property in which a stored topic differs from the wanted one.
type Difference struct {
	Field  string // the config's name for it
	Stored string
	Wanted string
}

// MismatchError says that a topic exists with another definition. Nothing was changed.
type MismatchError struct {
	Topic       string
	Differences []Difference
}

// Error names every difference with both values and what to do.
func (e *MismatchError) Error() string {
	parts := make([]string, len(e.Differences))
	for i, d := range e.Differences {
		parts[i] = fmt.Sprintf("%s is %s in the cluster but %s in this config", d.Field, d.Stored, d.Wanted)
	}
	return fmt.Sprintf("topic %s: %s; these are fixed when a topic is created: put the cluster's values into the "+
		"config, or use a new topic name",
		e.Topic, strings.Join(parts, ", "))
}

// Ensure creates the topic's stream, or compares the stored one with the wanted one: *MismatchError if they differ in
// what is fixed. Of a stream that exists only the limits (max_bytes as Sizing says, dedup_window, largest message,
// consumers) are updated, never the subject transform: each replica would apply the change at a moment of its own and
// store messages of one key in different partitions on different replicas.
//
// What the broker cannot do yet (no leader, nodes missing, timeouts) is tried again until ctx ends.
func Ensure(ctx context.Context, js jetstream.JetStream, t partitioner.Topic, opt Options) (jetstream.Stream, error) {
	if err := t.Validate(); err != nil {
		return nil, err
	}
	want := streamConfig(t, opt)
	opt.Sizing.Stated = t.MaxBytes
	return retryUntilDone(ctx, "ensure stream of topic "+t.Name, opt.Waiting, func() (jetstream.Stream, error) {
		return ensureOnce(ctx, js, want, opt.Sizing, adoptTopic(t, want))
	})
}

// retryUntilDone tries to create a stream until it exists, ctx ends or the error is permanent.
func retryUntilDone(ctx context.Context, what string, waiting func(error),
	try func() (jetstream.Stream, error)) (jetstream.Stream, error) {
	for pause := createMinPause; ; pause = min(2*pause, createMaxPause) {
		stream, err := try()
		if err == nil {
			return stream, nil
		}
		if ctx.Err() == nil && transient(err) && waiting != nil {
			waiting(errors.New(waitReason(err)))
		}
		err = fmt.Errorf("%s: %w", what, err)
		if ctx.Err() != nil || !transient(err) {
			return nil, err
		}
		if !sleep(ctx, pause) {
			return nil, fmt.Errorf("%w (gave up: %w)", err, context.Cause(ctx))
		}
	}
}

func streamConfig(t partitioner.Topic, opt Options) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:             t.Name,
		Description:      "Leasehold topic. Do not edit: its transform decides the order of messages.",
		Subjects:         []string{t.Subject},
		SubjectTransform: &jetstream.SubjectTransformConfig{Source: t.Subject, Destination: t.Transform()},
		Storage:          jetstream.FileStorage,
		Replicas:         opt.Replicas,
		Retention:        jetstream.LimitsPolicy,
		Discard:          jetstream.DiscardNew,
		MaxMsgs:          unlimitedMsgs,
		MaxMsgSize:       maxMsgSize(opt.MaxPayload),
		MaxConsumers:     MaxConsumers,
		Duplicates:       t.DedupWindow,
		DenyDelete:       true,
		AllowDirect:      true,
		Metadata: map[string]string{
			metaLayout:     strconv.Itoa(partitioner.Layout),
			metaPartitions: strconv.Itoa(t.Partitions),
			metaKey:        keyText(t.Key),
		},
	}
}

// maxMsgSize is the stream's limit for a max_payload; unset means none of its own.
func maxMsgSize(n bytesize.Size) int32 {
	if n <= 0 || n > math.MaxInt32-requeueHeadroom {
		return -1
	}
	return int32(n + requeueHeadroom)
}

// larger is the larger of two limits of a stream. A negative one means unlimited.
func larger(a, b int32) int32 {
	if a < 0 || b < 0 {
		return -1
	}
	return max(a, b)
}

// adopter looks at a stream that exists: it may change its config, but for its size, or refuse it.
type adopter func(have *jetstream.StreamConfig) (change bool, err error)

// ensureOnce finds or makes a stream.
func ensureOnce(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig, size Sizing,
	adopt adopter) (jetstream.Stream, error) {
	stream, err := find(ctx, js, want.Name)
	if isNotFound(err) {
		return createOnce(ctx, js, want, size)
	}
	if err != nil {
		return nil, err
	}
	have := stream.CachedInfo().Config
	change, err := adopt(&have)
	if err != nil {
		return nil, err
	}
	resize, err := size.update(ctx, &have)
	if err != nil || !change && !resize {
		return stream, err
	}
	ctx, cancel := context.WithTimeout(ctx, createTimeout)
	defer cancel()
	return js.UpdateStream(ctx, have)
}

// createOnce makes a stream. Two nodes may do it at once: the same definition answers both with the stream, another one
// gives ErrStreamNameAlreadyInUse, which the next round turns into a comparison.
func createOnce(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig,
	size Sizing) (jetstream.Stream, error) {
	if err := size.create(ctx, &want); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, createTimeout)
	defer cancel()
	return js.CreateStream(ctx, want)
}

// adoptTopic refuses a stream that is not the topic's, and takes over limits of this config.
func adoptTopic(t partitioner.Topic, want jetstream.StreamConfig) adopter {
	return func(have *jetstream.StreamConfig) (bool, error) {
		if diffs := differences(*have, want); len(diffs) > 0 {
			return false, &MismatchError{Topic: t.Name, Differences: diffs}
		}
		// Never lowered: dead letters of larger messages may be requeued, and nodes whose max_payload differs would take
		// turns.
		want.MaxMsgSize = larger(have.MaxMsgSize, want.MaxMsgSize)
		same := limitsEqual(*have, want)
		have.Duplicates = want.Duplicates
		have.MaxMsgSize, have.MaxConsumers = want.MaxMsgSize, want.MaxConsumers
		return !same, nil
	}
}

func find(ctx context.Context, js jetstream.JetStream, name string) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, findTimeout)
	defer cancel()
	return js.Stream(ctx, name)
}

func limitsEqual(a, b jetstream.StreamConfig) bool {
	return a.Duplicates == b.Duplicates && a.MaxMsgSize == b.MaxMsgSize && a.MaxConsumers == b.MaxConsumers
}

// differences compares what is fixed, or what a hand other than ours must have changed.
func differences(have, want jetstream.StreamConfig) []Difference {
	var diffs []Difference
	compare := func(field, stored, wanted string) {
		if stored != wanted {
			diffs = append(diffs, Difference{field, stored, wanted})
		}
	}
	compare("layout", orNone(have.Metadata[metaLayout]), want.Metadata[metaLayout])
	compare("subject", quoteAll(have.Subjects), quoteAll(want.Subjects))
	compare("partitions", orNone(have.Metadata[metaPartitions]), want.Metadata[metaPartitions])
	compare("key", orNone(have.Metadata[metaKey]), want.Metadata[metaKey])
	if len(diffs) == 0 { // otherwise it differs for these reasons
		compare("subject transform", transformText(have.SubjectTransform), transformText(want.SubjectTransform))
	}
	compare("replicas", strconv.Itoa(have.Replicas), strconv.Itoa(want.Replicas))
	compare("storage", have.Storage.String(), want.Storage.String())
	compare("retention", have.Retention.String(), want.Retention.String())
	compare("discard policy", have.Discard.String(), want.Discard.String())
	compare("max_age", have.MaxAge.String(), want.MaxAge.String())
	if have.MaxMsgs != pausedMaxMsgs { // publishing is paused for now, whichever node starts meanwhile
		compare("max_msgs", strconv.FormatInt(have.MaxMsgs, 10), strconv.FormatInt(want.MaxMsgs, 10))
	}
	compare("deny_delete", strconv.FormatBool(have.DenyDelete), strconv.FormatBool(want.DenyDelete))
	return diffs
}

func transformText(c *jetstream.SubjectTransformConfig) string {
	if c == nil {
		return "none"
	}
	return strconv.Quote(c.Source + " → " + c.Destination)
}

func quoteAll(subjects []string) string {
	quoted := make([]string, len(subjects))
	for i, s := range subjects {
		quoted[i] = strconv.Quote(s)
	}
	return strings.Join(quoted, " ")
}

func keyText(key []int) string {
	return strings.ReplaceAll(fmt.Sprint(key), " ", ", ")
}

func orNone(s string) string {
	if s == "" {
		return "none (not a stream of ours)"
	}
	return s
}

// Codes of nats-server's errors.json. All but these of class 4xx are final for creating a stream.
const (
	codeNoPeers        jetstream.ErrorCode = 10005 // a 400, but also said while nodes are still arriving
	codeInvalidConfig  jetstream.ErrorCode = 10052 // a 500
	codeNoReplicas     jetstream.ErrorCode = 10074 // a 500: replicas > 1 without a cluster
	codeNameAlreadySet jetstream.ErrorCode = 10058 // lost a race to create it: compare
)

var (
	errNotOurs  = errors.New("not a stream of ours") // One that is not as it was made.
	errUnusable = errors.New("this config cannot be used")
)

func isNotFound(err error) bool { return errors.Is(err, jetstream.ErrStreamNotFound) }

// transient reports whether creating or reading a stream may work later.
func transient(err error) bool {
	var mismatch *MismatchError
	if errors.As(err, &mismatch) || errors.Is(err, errNotOurs) || errors.Is(err, errUnusable) ||
		errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, jetstream.ErrConnectionClosed) {
		return false
	}
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return true // timeouts, no responders, a lost connection
	}
	switch api.ErrorCode {
	case codeNoPeers, codeNameAlreadySet:
		return true
	case codeInvalidConfig, codeNoReplicas:
		return false
	}
	return api.Code >= 500
}

// waitReason says in an operator's words why a stream cannot be made or read yet.
func waitReason(err error) string {
	var api *jetstream.APIError
	switch {
	case errors.As(err, &api) && api.ErrorCode == codeNoPeers:
		return "too few nodes are connected to hold its replicas"
	case errors.As(err, &api):
		return "the broker cannot do it yet: " + api.Description
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout), errors.Is(err, nats.ErrNoResponders),
		errors.Is(err, jetstream.ErrNoStreamResponse):
		return "nobody answers for its stream: it has no leader"
	}
	return err.Error()
}

// sleep waits, unless ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

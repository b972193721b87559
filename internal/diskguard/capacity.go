package diskguard

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go/jetstream"

	"leasehold/internal/api"
	"leasehold/internal/bytesize"
	"leasehold/internal/every"
	"leasehold/partitioner/stream"
)

const (
	listLimit = 5 * time.Second  // For a list of all streams: the broker waits up to 4 s for those without a leader.
	growEvery = 15 * time.Second // How often a stream that got less than its config states is tried again.
)

// Capacity shares this node's max_store among the streams.
type Capacity struct {
	JS       jetstream.JetStream
	MaxStore bytesize.Size
	Logger   hclog.Logger
}

// Sizing says how large a stream of this node's config is to be: stated is what the config says, 0 if nothing, and
// usual the default.
func (c Capacity) Sizing(stated, usual bytesize.Size) stream.Sizing {
	return stream.Sizing{Stated: stated, Default: usual, Free: c.free}
}

// Reservations lists what every stream may take, within limit.
func (c Capacity) Reservations(ctx context.Context, limit time.Duration) ([]stream.Reservation, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return stream.Reservations(ctx, c.JS)
}

// free is what the streams leave of max_store, negative if they have more. While some of them have no leader nothing is
// known to be free: a stream gets the rest later, and the node need not wait for others' leaders.
func (c Capacity) free(ctx context.Context) (bytesize.Size, error) {
	all, err := c.Reservations(ctx, listLimit)
	var missing *stream.MissingError
	if errors.As(err, &missing) { // After a restart of the cluster they may be electing their leaders.
		all, err = c.Reservations(ctx, listLimit)
	}
	if errors.As(err, &missing) {
		c.Logger.Warn("not granting any of max_store yet: some streams have no leader", "error", missing)
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return c.MaxStore - stream.Reserved(all), nil
}

// LogShortfall logs a stream that has less than its config states; of names what it is for.
func (c Capacity) LogShortfall(of string, made jetstream.Stream) {
	cfg := made.CachedInfo().Config
	if wanted := stream.WantedBytes(cfg); wanted > 0 {
		c.Logger.Warn("size does not fit into max_store: the stream has what was free; `leasehold status` names what has "+
			"the rest",
			"of", of, "wanted", wanted.Short(), "has", bytesize.Size(cfg.MaxBytes).Short())
	}
}

// Run raises the streams that got less than their config states, as soon as there is capacity, until ctx ends.
func (c Capacity) Run(ctx context.Context) error {
	every.Loop(ctx, growEvery, func() { c.grow(ctx) })
	return nil
}

// grow does it once. Each node does, in the same order; a raise that two of them make is the same one.
func (c Capacity) grow(ctx context.Context) {
	all, err := c.Reservations(ctx, listLimit)
	if err != nil {
		c.Logger.Debug("cannot list what streams reserve of max_store", "error", err)
		return
	}
	for i, r := range all {
		if r.Wanted == 0 {
			continue
		}
		size, err := stream.Grow(ctx, c.JS, r, c.MaxStore-stream.Reserved(all))
		if err != nil {
			c.Logger.Debug("cannot raise stream", "stream", r.Stream, "error", err)
		}
		if size > 0 {
			all[i].Bytes = size
			c.Logger.Info("stream raised: there is room in max_store", "stream", r.Stream, "size", size.Short(), "wanted",
				r.Wanted.Short())
		}
	}
}

// Stored is what one stream reserves and stores; the zero Reservation if it does not exist.
func (c Capacity) Stored(ctx context.Context, name string) (stream.Reservation, error) {
	all, err := c.Reservations(ctx, listLimit)
	var missing *stream.MissingError
	if err != nil && (!errors.As(err, &missing) || slices.Contains(missing.Streams, name)) {
		return stream.Reservation{}, api.Mark(api.ErrNotYet, err.Error())
	}
	for _, r := range all {
		if r.Stream == name {
			return r, nil
		}
	}
	return stream.Reservation{}, nil
}

// DeleteStream deletes a stream and gives what it reserved to those that want more.
func (c Capacity) DeleteStream(ctx context.Context, name string) error {
	if err := stream.Delete(ctx, c.JS, name); err != nil {
		return err
	}
	c.grow(ctx)
	return nil
}

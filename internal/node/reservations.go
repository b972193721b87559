package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"leasehold/cluster"
	"leasehold/internal/bytesize"
	"leasehold/partitioner/stream"
)

const (
	listLimit  = 5 * time.Second  // For a list of all streams: the broker waits up to 4 s for those without a leader.
	statusList = time.Second      // The same for a status, which does without.
	growEvery  = 15 * time.Second // How often a stream that got less than was stated is tried again.
)

// sizing says how large a stream of this node's config is to be.
func (n *Node) sizing(stated, usual bytesize.Size) stream.Sizing {
	return stream.Sizing{Stated: stated, Default: usual, Free: n.freeStore}
}

func (n *Node) reservations(ctx context.Context, limit time.Duration) ([]stream.Reservation, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return stream.Reservations(ctx, n.conns.operator)
}

// freeStore is what the streams leave of this node's max_store, negative if they have more. While nobody answers for some of
// them nothing is known to be free: a stream gets the rest later, and the node need not wait for others' leaders.
func (n *Node) freeStore(ctx context.Context) (bytesize.Size, error) {
	all, err := n.reservations(ctx, listLimit)
	var missing *stream.MissingError
	if errors.As(err, &missing) { // After a restart of the cluster they may be electing their leaders.
		all, err = n.reservations(ctx, listLimit)
	}
	if errors.As(err, &missing) {
		n.log.Warn("nothing of max_store is granted yet", "error", missing)
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return n.Config.Server.MaxStore - stream.Reserved(all), nil
}

// noteSize logs that a stream has less than its config states.
func (n *Node) noteSize(what string, have jetstream.Stream) {
	c := have.CachedInfo().Config
	if wanted := stream.WantedBytes(c); wanted > 0 {
		n.log.Warn("size does not fit into max_store: the stream has what was free; `leasehold status` names what has the rest",
			"of", what, "wanted", wanted.Short(), "has", bytesize.Size(c.MaxBytes).Short())
	}
}

// watchSizes raises the streams that got less than was stated, as soon as there is room.
func (n *Node) watchSizes(ctx context.Context) error {
	tick := time.NewTicker(growEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			n.growStreams(ctx)
		}
	}
}

// growStreams does it once. Each node does, in the same order; a raise that two of them make is the same one.
func (n *Node) growStreams(ctx context.Context) {
	all, err := n.reservations(ctx, listLimit)
	if err != nil {
		n.log.Debug("what streams take of max_store is not known", "error", err)
		return
	}
	for i, r := range all {
		if r.Wanted == 0 {
			continue
		}
		size, err := stream.Grow(ctx, n.conns.operator, r, n.Config.Server.MaxStore-stream.Reserved(all))
		if err != nil {
			n.log.Debug("stream could not be raised", "stream", r.Stream, "error", err)
		}
		if size > 0 {
			all[i].Bytes = size
			n.log.Info("stream raised: there is room in max_store", "stream", r.Stream, "size", size.Short(), "wanted", r.Wanted.Short())
		}
	}
}

// store is what all streams have of max_store, and what is known of their owners.
type store struct {
	maxStore bytesize.Size
	all      []stream.Reservation
	catalog  catalog
}

// owner is what a stream is for.
type owner struct {
	label  string // Names it among others.
	remove string // The command that deletes the stream; "" for one that is in use or must stay.
	why    string // Why it is not in use.
}

const (
	inNoConfig = "in no live node's config"
	wasRemoved = "removed"
)

func (s store) owner(r stream.Reservation) owner {
	if group, ok := r.Group(); ok {
		o := owner{label: "dead letters of " + group}
		def, known := s.catalog.groups[group]
		switch {
		case len(s.catalog.live[group]) > 0:
			return o
		case known && !def.Removed:
			o.why = inNoConfig
		default:
			o.why = wasRemoved
		}
		o.remove = "leasehold group remove " + group
		return o
	}
	o := owner{label: r.Stream}
	def, known := s.catalog.topics[r.Stream]
	switch {
	case r.Stream == cluster.Stream:
		o.label = "sessions and leases"
	case !known:
		o.why = "not a stream of Leasehold"
	case def.Removed:
		o.why, o.remove = wasRemoved, "leasehold topic remove "+r.Stream
	case len(s.catalog.nodes(choreGroup(r.Stream))) == 0:
		o.why, o.remove = inNoConfig, "leasehold topic remove "+r.Stream
	}
	return o
}

// holders says who has how much, the largest first.
func (s store) holders() string {
	sorted := slices.Clone(s.all)
	slices.SortStableFunc(sorted, func(a, b stream.Reservation) int { return cmp.Compare(b.Bytes, a.Bytes) })
	var parts []string
	for _, r := range sorted {
		o := s.owner(r)
		text := o.label + " " + r.Bytes.Short()
		if o.why != "" {
			text += ", " + o.why
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "; ")
}

func (s store) free() bytesize.Size { return s.maxStore - stream.Reserved(s.all) }

// warnings says what does not fit into max_store, and what holds a part of it for nothing.
func (s store) warnings() (out []string) {
	for _, r := range s.all {
		o := s.owner(r)
		if r.Wanted > 0 {
			out = append(out, fmt.Sprintf("%s wants %s and has %s: %s of max_store %s is free (%s); raise server.max_store, state smaller sizes, "+
				"or remove what is not used", s.subject(r, o), r.Wanted.Short(), r.Bytes.Short(), s.free().Short(), s.maxStore.Short(), s.holders()))
		}
		if o.why == wasRemoved || o.why == inNoConfig && !s.isGroup(r) {
			out = append(out, s.unused(r, o))
		}
	}
	if s.free() < 0 {
		out = append(out, fmt.Sprintf("streams may take %s together, and max_store is %s (%s): raise server.max_store, lower a max_bytes, or remove "+
			"what is not used", stream.Reserved(s.all).Short(), s.maxStore.Short(), s.holders()))
	}
	return out
}

func (s store) isGroup(r stream.Reservation) bool {
	_, ok := r.Group()
	return ok
}

func (s store) subject(r stream.Reservation, o owner) string {
	if s.isGroup(r) {
		return o.label
	}
	return "topic " + o.label
}

func (s store) unused(r stream.Reservation, o owner) string {
	if o.why == wasRemoved {
		return fmt.Sprintf("%s: the stream is still there and reserves %s of max_store, although it was removed: run `%s` again",
			s.subject(r, o), r.Bytes.Short(), o.remove)
	}
	return fmt.Sprintf("topic %s is in no live node's config and reserves %s of max_store: put it back into a config, or `%s`",
		o.label, r.Bytes.Short(), o.remove)
}

// askReservations lists the streams beside the rest of a status; nothing if that takes too long.
func (n *Node) askReservations(ctx context.Context) <-chan []stream.Reservation {
	answer := make(chan []stream.Reservation, 1)
	go func() {
		all, err := n.reservations(ctx, statusList)
		if err != nil {
			all = nil
		}
		answer <- all
	}()
	return answer
}

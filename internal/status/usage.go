package status

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"leasehold/cluster"
	"leasehold/internal/bytesize"
	"leasehold/internal/registry"
	"leasehold/partitioner/stream"
)

// usage is what all streams reserve of max_store, and what is known of their owners.
type usage struct {
	maxStore bytesize.Size
	all      []stream.Reservation
	catalog  registry.Catalog
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

func (u usage) owner(r stream.Reservation) owner {
	if group, ok := r.Group(); ok {
		o := owner{label: "dead letters of " + group}
		def, known := u.catalog.Groups[group]
		switch {
		case len(u.catalog.Servers(group)) > 0:
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
	def, known := u.catalog.Topics[r.Stream]
	switch {
	case r.Stream == cluster.Stream:
		o.label = "sessions and leases"
	case !known:
		o.why = "not a stream of Leasehold"
	case def.Removed:
		o.why, o.remove = wasRemoved, "leasehold topic remove "+r.Stream
	case len(u.catalog.TopicNodes(r.Stream)) == 0:
		o.why, o.remove = inNoConfig, "leasehold topic remove "+r.Stream
	}
	return o
}

// holders says who has how much, the largest first.
func (u usage) holders() string {
	sorted := slices.Clone(u.all)
	slices.SortStableFunc(sorted, func(a, b stream.Reservation) int { return cmp.Compare(b.Bytes, a.Bytes) })
	var parts []string
	for _, r := range sorted {
		o := u.owner(r)
		text := o.label + " " + r.Bytes.Short()
		if o.why != "" {
			text += ", " + o.why
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "; ")
}

func (u usage) free() bytesize.Size { return u.maxStore - stream.Reserved(u.all) }

// warnings says what does not fit into max_store, and what holds a part of it for nothing.
func (u usage) warnings() (out []string) {
	for _, r := range u.all {
		o := u.owner(r)
		if r.Wanted > 0 {
			out = append(out, fmt.Sprintf("%s wants %s and has %s: %s of max_store %s is free (%s); raise server.max_store, "+
				"state smaller sizes, "+
				"or remove what is not used", u.subject(r, o), r.Wanted.Short(), r.Bytes.Short(), u.free().Short(),
				u.maxStore.Short(), u.holders()))
		}
		if o.why == wasRemoved || o.why == inNoConfig && !u.isGroup(r) {
			out = append(out, u.unused(r, o))
		}
	}
	if u.free() < 0 {
		out = append(out, fmt.Sprintf("streams may take %s together, and max_store is %s (%s): raise server.max_store, "+
			"lower a max_bytes, or remove "+
			"what is not used", stream.Reserved(u.all).Short(), u.maxStore.Short(), u.holders()))
	}
	return out
}

func (u usage) isGroup(r stream.Reservation) bool {
	_, ok := r.Group()
	return ok
}

func (u usage) subject(r stream.Reservation, o owner) string {
	if u.isGroup(r) {
		return o.label
	}
	return "topic " + o.label
}

func (u usage) unused(r stream.Reservation, o owner) string {
	if o.why == wasRemoved {
		return fmt.Sprintf("%s: the stream is still there and reserves %s of max_store, although it was removed: run `%s` "+
			"again",
			u.subject(r, o), r.Bytes.Short(), o.remove)
	}
	return fmt.Sprintf("topic %s is in no live node's config and reserves %s of max_store: put it back into a config, "+
		"or `%s`",
		o.label, r.Bytes.Short(), o.remove)
}

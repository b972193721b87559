package stream

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"leasehold/internal/bytesize"
	"leasehold/partitioner"
)

// How the streams share server.max_store. The broker has no part in it (server.brokerStore): each node would compare
// the sum of all streams with its own max_store, refuse to load replicas that others have stored for long, and so a
// change of the config would stop one node after the other. Here a size is granted when a stream is made or raised, and
// never taken back: what does not fit is a smaller stream and a warning, and a stream that is there stays usable
// whatever the configs say. A stream refuses messages at its own size, so what was granted is all that can be stored.

// MinBytes is what a new stream gets even if nothing of max_store is left. Less holds only a few messages of the
// largest size.
const MinBytes = 8 * bytesize.MiB

// metaWanted is the size that a config stated for a stream and that did not fit, in bytes.
const metaWanted = "leasehold_wanted_bytes"

// Sizing is how large a stream is to be.
type Sizing struct {
	// Stated is the size in this node's config, 0 if it has none: then a stream that exists keeps its own.
	Stated bytesize.Size
	// Default is that of a new stream for which none is stated.
	Default bytesize.Size
	// Free is what no stream has of max_store; nil: any size fits.
	Free func(context.Context) (bytesize.Size, error)
}

func (s Sizing) free(ctx context.Context) (bytesize.Size, error) {
	if s.Free == nil {
		return 1 << 62, nil
	}
	return s.Free(ctx)
}

// create sets the size of a new stream: what is wanted, or what is free.
func (s Sizing) create(ctx context.Context, c *jetstream.StreamConfig) error {
	wanted := cmp.Or(s.Stated, s.Default)
	if wanted <= 0 {
		return fmt.Errorf("%w: stream %s: max_bytes must be set: without it a full disk stops the whole broker", errUnusable,
			c.Name)
	}
	free, err := s.free(ctx)
	if err != nil {
		return err
	}
	c.MaxBytes = int64(min(wanted, max(wholeMiB(free), MinBytes)))
	noteWanted(c, wanted)
	return nil
}

// wholeMiB is what is granted of a part that is free: sizes that operators read.
func wholeMiB(free bytesize.Size) bytesize.Size { return max(free, 0) / bytesize.MiB * bytesize.MiB }

// update applies the stated size to a stream that exists. Of a raise that does not fit it gets what is free.
func (s Sizing) update(ctx context.Context, c *jetstream.StreamConfig) (changed bool, err error) {
	have := bytesize.Size(c.MaxBytes)
	if s.Stated == 0 || have == s.Stated && WantedBytes(*c) == 0 {
		return false, nil
	}
	if s.Stated <= have {
		c.MaxBytes = int64(s.Stated)
		noteWanted(c, s.Stated)
		return true, nil
	}
	free, err := s.free(ctx)
	if err != nil {
		return false, err
	}
	raised := raise(c, s.Stated, free)
	return noteWanted(c, s.Stated) || raised, nil
}

// raise gives a stream what it wants, or as much as is free.
func raise(c *jetstream.StreamConfig, wanted, free bytesize.Size) (changed bool) {
	have := bytesize.Size(c.MaxBytes)
	if wanted-have > free {
		wanted = have + wholeMiB(free)
	}
	c.MaxBytes = int64(wanted)
	return wanted != have
}

// noteWanted notes in a stream's metadata what it was to have, if that is not what it has.
func noteWanted(c *jetstream.StreamConfig, wanted bytesize.Size) (changed bool) {
	before := c.Metadata[metaWanted]
	c.Metadata = maps.Clone(c.Metadata)
	delete(c.Metadata, metaWanted)
	if int64(wanted) != c.MaxBytes {
		if c.Metadata == nil {
			c.Metadata = map[string]string{}
		}
		c.Metadata[metaWanted] = strconv.FormatInt(int64(wanted), 10)
	}
	return c.Metadata[metaWanted] != before
}

// WantedBytes is the size that was stated for a stream and did not fit, 0 if it has what was stated.
func WantedBytes(c jetstream.StreamConfig) bytesize.Size {
	n, err := strconv.ParseInt(c.Metadata[metaWanted], 10, 64)
	if err != nil || n <= 0 {
		return 0
	}
	return bytesize.Size(n)
}

// Reservation is what one stream has of max_store on each node with a replica of it.
type Reservation struct {
	Stream   string
	Bytes    bytesize.Size // The most that it may hold.
	Wanted   bytesize.Size // What a config stated and what did not fit; 0 if it has what was stated.
	Messages uint64
	Stored   bytesize.Size
	Servers  []string // With a copy; none on a node of its own.
}

// Group is the group whose dead letters the stream holds, if it holds any.
func (r Reservation) Group() (string, bool) { return partitioner.DeadLetterGroup(r.Stream) }

// MissingError names streams that a list leaves out because nobody answers for them: they have no leader just now.
type MissingError struct{ Streams []string }

func (e *MissingError) Error() string {
	return fmt.Sprintf("nobody answers for the streams %s, so what they have of max_store is not known",
		strings.Join(e.Streams, ", "))
}

// streamPage is an answer to STREAM.LIST. The client library passes over Missing, and counts its pages as if nothing
// were.
type streamPage struct {
	Error   *jetstream.APIError     `json:"error"`
	Total   int                     `json:"total"`
	Limit   int                     `json:"limit"`
	Streams []*jetstream.StreamInfo `json:"streams"`
	Missing []string                `json:"missing"`
}

// Reservations lists every stream, by name. With a *MissingError it lists the others.
func Reservations(ctx context.Context, js jetstream.JetStream) ([]Reservation, error) {
	var all []Reservation
	missing := map[string]bool{}
	for offset, total := 0, 1; offset < total; {
		page, err := listStreams(ctx, js, offset)
		if err != nil {
			return nil, fmt.Errorf("list the streams: %w", err)
		}
		for _, name := range page.Missing {
			missing[name] = true
		}
		for _, info := range page.Streams {
			delete(missing, info.Config.Name) // One that is offline is in both, with the size that was granted.
			all = append(all, newReservation(info))
		}
		offset, total = offset+max(page.Limit, 1), page.Total
	}
	slices.SortFunc(all, func(a, b Reservation) int { return cmp.Compare(a.Stream, b.Stream) })
	if len(missing) > 0 {
		return all, &MissingError{slices.Sorted(maps.Keys(missing))}
	}
	return all, nil
}

func listStreams(ctx context.Context, js jetstream.JetStream, offset int) (*streamPage, error) {
	prefix := strings.TrimSuffix(cmp.Or(js.Options().APIPrefix, jetstream.DefaultAPIPrefix), ".")
	m, err := js.Conn().RequestWithContext(ctx, prefix+".STREAM.LIST", fmt.Appendf(nil, `{"offset":%d}`, offset))
	if err != nil {
		return nil, err
	}
	page := &streamPage{}
	if err := json.Unmarshal(m.Data, page); err != nil {
		return nil, err
	}
	if page.Error != nil {
		return nil, page.Error
	}
	return page, nil
}

func newReservation(info *jetstream.StreamInfo) Reservation {
	r := Reservation{
		Stream: info.Config.Name, Bytes: bytesize.Size(max(info.Config.MaxBytes, 0)), Wanted: WantedBytes(info.Config),
		Messages: info.State.Msgs, Stored: bytesize.Size(info.State.Bytes),
	}
	if c := info.Cluster; c != nil {
		if c.Leader != "" {
			r.Servers = append(r.Servers, c.Leader)
		}
		for _, p := range c.Replicas {
			r.Servers = append(r.Servers, p.Name)
		}
	}
	return r
}

// Reserved is what the streams have of max_store on the node where they have most. Where the next copy will be is the
// broker's choice, so this is what counts.
func Reserved(all []Reservation) (most bytesize.Size) {
	sums := map[string]bytesize.Size{}
	for _, r := range all {
		for _, server := range append(slices.Clone(r.Servers), "")[:max(1, len(r.Servers))] {
			sums[server] += r.Bytes
			most = max(most, sums[server])
		}
	}
	return most
}

// Grow gives a stream what was stated for it and did not fit then, or as much as is free now. It returns its size, 0 if
// nothing was changed. A stream that is not as it was listed is left alone: another node has given it a part of what
// was free.
func Grow(ctx context.Context, js jetstream.JetStream, r Reservation,
	free bytesize.Size) (size bytesize.Size, err error) {
	stream, err := find(ctx, js, r.Stream)
	if err != nil {
		return 0, fmt.Errorf("look up stream %s: %w", r.Stream, err)
	}
	c := stream.CachedInfo().Config
	wanted := WantedBytes(c)
	if wanted == 0 || c.MaxBytes != int64(r.Bytes) || !raise(&c, wanted, free) {
		return 0, nil
	}
	noteWanted(&c, wanted)
	ctx, cancel := context.WithTimeout(ctx, createTimeout)
	defer cancel()
	if _, err := js.UpdateStream(ctx, c); err != nil {
		return 0, fmt.Errorf("raise stream %s: %w", r.Stream, err)
	}
	return bytesize.Size(c.MaxBytes), nil
}

// Delete deletes a stream with all its messages. It is not an error if the stream does not exist.
func Delete(ctx context.Context, js jetstream.JetStream, name string) error {
	err := js.DeleteStream(ctx, name)
	if err != nil && !isNotFound(err) {
		return fmt.Errorf("delete stream %s: %w", name, err)
	}
	return nil
}

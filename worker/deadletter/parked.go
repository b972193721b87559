package deadletter

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"leasehold/partitioner"
	"leasehold/worker/stream"
)

// Places are the places of a partition's parked dead letters, by key; those of a key in order of sequence.
type Places map[partitioner.LetterKey][]partitioner.DeadLetterPlace

// parkedRead is one read of all parked dead letters of a group, for every lane that asked before it began.
type parkedRead struct {
	done  chan struct{}
	last  uint64 // The stream's last sequence.
	found map[int]Places
	err   error
}

// Parked waits for a read that began after the call. Lanes that start together, as after a takeover, share one.
//
// A stream's leader that has only just been elected may not have applied everything that an earlier one acknowledged.
// So a read that does not know the dead letter that the lease names is an error, and must be repeated.
func (d *Store) Parked(ctx context.Context, partition int, least uint64) (found Places, last uint64, err error) {
	r := d.join(ctx)
	select {
	case <-r.done:
	case <-ctx.Done():
		return nil, 0, context.Cause(ctx)
	}
	switch {
	case r.err != nil:
		return nil, 0, r.err
	case r.last < least:
		return nil, 0, fmt.Errorf("look for parked keys: the stream's leader knows its messages to %d only, not to %d",
			r.last, least)
	}
	return r.found[partition], r.last, nil
}

// join returns the next read, and starts it if need be.
func (d *Store) join(ctx context.Context) *parkedRead {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.next == nil {
		d.next = &parkedRead{done: make(chan struct{})}
	}
	if r := d.next; !d.busy {
		d.busy = true
		go d.runReads(context.WithoutCancel(ctx))
		return r
	}
	return d.next
}

// runReads reads as long as a lane waits. It ends by itself: each read is bounded in time.
func (d *Store) runReads(ctx context.Context) {
	for {
		d.mu.Lock()
		r := d.next
		d.next = nil
		if r == nil {
			d.busy = false
			d.mu.Unlock()
			return
		}
		d.mu.Unlock()
		r.found, r.last, r.err = d.readParked(ctx)
		close(r.done)
	}
}

// streamSubjects is the reply to STREAM.INFO with subjects. The server returns one page of them at a time.
type streamSubjects struct {
	Error *stream.APIError `json:"error"`
	Total int              `json:"total"`
	State struct {
		LastSeq  uint64            `json:"last_seq"`
		Subjects map[string]uint64 `json:"subjects"`
	} `json:"state"`
}

// readParked lists the subjects of the group's parked dead letters. The last sequence is that of the first page, so
// that no page is older.
func (d *Store) readParked(ctx context.Context) (map[int]Places, uint64, error) {
	found := map[int]Places{}
	var last uint64
	for offset := 0; ; {
		var page streamSubjects
		request := fmt.Appendf(nil, `{"subjects_filter":%q,"offset":%d}`,
			partitioner.DeadLetterFilter(d.Group, -1, partitioner.Parked, ""), offset)
		err := stream.Request(ctx, d.JS.Conn(), "STREAM.INFO", d.stream(), request, &page)
		if err == nil && page.Error != nil {
			err = page.Error
		}
		if err != nil {
			return nil, 0, fmt.Errorf("look for parked keys: %w", err)
		}
		if offset == 0 {
			last = page.State.LastSeq
		}
		for subject := range page.State.Subjects {
			if p, err := partitioner.ParseDeadLetter(subject); err == nil {
				addParked(found, p)
			}
		}
		offset += len(page.State.Subjects)
		if offset >= page.Total || len(page.State.Subjects) == 0 {
			break
		}
	}
	for _, keys := range found {
		for _, places := range keys {
			slices.SortFunc(places, func(a, b partitioner.DeadLetterPlace) int { return cmp.Compare(a.Seq, b.Seq) })
		}
	}
	return found, last, nil
}

func addParked(found map[int]Places, p partitioner.DeadLetterPlace) {
	if found[p.Partition] == nil {
		found[p.Partition] = Places{}
	}
	found[p.Partition][p.LetterKey] = append(found[p.Partition][p.LetterKey], p)
}

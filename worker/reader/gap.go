package reader

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"leasehold/internal/every"
	"leasehold/worker/stream"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	gapPause    = 500 * time.Millisecond
	gapTries    = 3                // Answers of the current leader before another replica is asked.
	leadTries   = 20               // Checks whether the replica that should lead does.
	searchAgain = 10 * time.Minute // After which replicas are made leaders once more for the same message.
	gapRetry    = 30 * time.Second // After which stopped lanes look again: the replica that has it may have been away.
)

// fill delivers the messages from pos up to to, which the consumer has skipped. Below the stream's first sequence there
// are none: messages are only ever deleted by prefix. All others are missing at least on this node's replica, and are
// fetched from another one.
func (s *scanner) fill(ctx context.Context, to uint64) error {
	warned := false
	for s.pos < to {
		first, err := s.r.firstSeq(ctx)
		if err == nil && first > s.pos {
			s.sink.skip(min(first, to))
			continue
		}
		if err == nil {
			err = s.fillOne(ctx)
		}
		if err == nil {
			continue
		}
		if !warned {
			warned = true
			s.r.Logger.Warn("cannot investigate a gap yet", "reader", s.name, "position", s.pos, "error", err)
		}
		if !every.Sleep(ctx, gapPause) {
			return ctx.Err()
		}
	}
	return nil
}

// fillOne delivers the message at pos, or stops the lanes that need it.
func (s *scanner) fillOne(ctx context.Context) error {
	e, err := s.r.fetchMissing(ctx, s.pos)
	switch {
	case err == nil:
		s.r.Logger.Warn("message missing on the local replica fetched from another replica", "seq", s.pos)
		s.sink.deliver(e)
	case errors.Is(err, stream.ErrNotFound):
		// The stream may have been purged since its first sequence was read.
		if first, err := s.r.firstSeq(ctx); err != nil || first > s.pos {
			return err
		}
		s.sink.missing(fmt.Sprintf("message %d of stream %s is missing on every replica", s.pos, s.r.Topic.Name))
	default:
		return err
	}
	return nil
}

// stopAtGap stops feeding a lane before the message at seq. r.mu is held.
func (r *Reader) stopAtGap(f *Cursor, seq uint64, text string) {
	r.setFeeder(f, byNobody)
	f.next, f.retryAt = seq, time.Now().Add(gapRetry)
	f.gapped = true
	f.lane.SetGap(text)
}

// passGap tells a lane that was stopped before a gap that it is fed again. r.mu is held.
func (r *Reader) passGap(f *Cursor) {
	if f.gapped {
		f.gapped = false
		f.lane.SetGap("")
	}
}

// retryGaps lets lanes that stopped before a gap look again.
func (r *Reader) retryGaps(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.cursors {
		if f.feeder == byNobody && now.After(f.retryAt) {
			r.setFeeder(f, byCatchUp)
			f.full = false
			r.wakeCatchUp()
		}
	}
}

// fetchMissing asks the stream's leader, then each of the other replicas by making it the leader: a plain direct get
// would be answered by the nearest replica, which is the one that lacks the message.
func (r *Reader) fetchMissing(ctx context.Context, seq uint64) (*stream.Entry, error) {
	r.gaps.Lock() // One search moves the leader at a time.
	defer r.gaps.Unlock()
	asked := map[string]bool{}
	for {
		leader, others, err := r.replicas(ctx)
		if err != nil {
			return nil, err
		}
		asked[leader] = true
		if e, err := r.fetchSurely(ctx, seq); !errors.Is(err, stream.ErrNotFound) {
			return e, err
		}
		next := slices.IndexFunc(others, func(name string) bool { return !asked[name] })
		if next < 0 || r.searched.seq == seq && time.Since(r.searched.at) < searchAgain {
			return nil, stream.ErrNotFound
		}
		asked[others[next]] = true // Even if it does not become the leader: once each.
		if err := r.lead(ctx, others[next]); err != nil {
			return nil, err
		}
		if len(asked) > len(others) {
			r.searched.seq, r.searched.at = seq, time.Now()
		}
	}
}

// fetchSurely asks the current leader several times before it accepts that there is no such message.
func (r *Reader) fetchSurely(ctx context.Context, seq uint64) (e *stream.Entry, err error) {
	for range gapTries {
		if e, err = r.fetch(ctx, seq); err == nil {
			return e, nil
		}
	}
	return nil, err
}

// fetch gets a message from the stream's leader.
func (r *Reader) fetch(ctx context.Context, seq uint64) (*stream.Entry, error) {
	return stream.GetMessage(ctx, r.JS.Conn(), r.Topic.Name, fmt.Appendf(nil, `{"seq":%d}`, seq))
}

// lead makes a replica the stream's leader and waits until it is.
func (r *Reader) lead(ctx context.Context, name string) error {
	var answer struct {
		Error *stream.APIError `json:"error"`
	}
	request := fmt.Appendf(nil, `{"placement":{"preferred":%q}}`, name)
	if err := r.ask(ctx, "STREAM.LEADER.STEPDOWN", request, &answer); err != nil {
		return err
	}
	if answer.Error != nil {
		return fmt.Errorf("make %s the leader: %w", name, answer.Error)
	}
	for range leadTries {
		if !every.Sleep(ctx, gapPause) {
			return ctx.Err()
		}
		if leader, _, err := r.replicas(ctx); err == nil && leader == name {
			return nil
		}
	}
	return fmt.Errorf("make %s the leader: another one was chosen", name)
}

// replicas returns the stream's leader, and the other servers whose replicas are current.
func (r *Reader) replicas(ctx context.Context) (leader string, others []string, err error) {
	info, err := r.streamInfo(ctx)
	if err != nil || info.Cluster == nil {
		return "", nil, err
	}
	for _, p := range info.Cluster.Replicas {
		if p.Current && !p.Offline {
			others = append(others, p.Name)
		}
	}
	return info.Cluster.Leader, others, nil
}

// firstSeq asks the stream's leader for the first sequence stored.
func (r *Reader) firstSeq(ctx context.Context) (uint64, error) {
	info, err := r.streamInfo(ctx)
	if err != nil {
		return 0, err
	}
	return info.State.FirstSeq, nil
}

func (r *Reader) streamInfo(ctx context.Context) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, stream.InfoTimeout)
	defer cancel()
	stream, err := r.JS.Stream(ctx, r.Topic.Name)
	if err != nil {
		return nil, fmt.Errorf("look at stream %s: %w", r.Topic.Name, err)
	}
	return stream.CachedInfo(), nil
}

// ask makes a request about the topic's stream that the client library has no call for.
func (r *Reader) ask(ctx context.Context, what string, request []byte, answer any) error {
	return stream.Request(ctx, r.JS.Conn(), what, r.Topic.Name, request, answer)
}

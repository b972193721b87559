package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	gapTimeout  = 2 * time.Second // For one request about a missing message.
	gapPause    = 500 * time.Millisecond
	gapTries    = 3                // Answers "not found" from the leader at hand before another replica is asked.
	gapRetry    = 30 * time.Second // After which stopped lanes look again: the replica that has it may have been away.
	notFoundErr = 10037
)

var errMissing = errors.New("no replica has it")

// fill gives the messages from pos up to another one, which the session has not delivered. Below the stream's first
// sequence there are none: messages are only ever deleted by prefix. Others are missing on this node's replica at
// least, and are fetched from elsewhere.
func (s *scan) fill(ctx context.Context, to uint64) error {
	for s.pos < to {
		first, replicas, err := s.r.firstSeq(ctx)
		switch {
		case err != nil:
			s.r.Logger.Warn("a gap cannot be looked into", "reader", s.name, "position", s.pos, "error", err)
		case first > s.pos:
			s.skip(min(first, to))
			continue
		default:
			err = s.fillOne(ctx, replicas)
		}
		if err != nil && !wait(ctx, gapPause) {
			return ctx.Err()
		}
	}
	return nil
}

// fillOne gives the message at pos, or stops the lanes that need it.
func (s *scan) fillOne(ctx context.Context, replicas int) error {
	e, err := s.r.fetchMissing(ctx, s.pos, replicas)
	switch {
	case err == nil:
		s.r.Logger.Warn("a message missing on the local replica was fetched from another one", "seq", s.pos)
		s.offer(e)
	case errors.Is(err, errMissing):
		// The stream may have been purged since its first sequence was read.
		if first, _, err := s.r.firstSeq(ctx); err != nil || first > s.pos {
			return err
		}
		s.miss(fmt.Sprintf("message %d of stream %s is missing on every replica", s.pos, s.r.Topic.Name))
	default:
		return err
	}
	return nil
}

// stopAtGap stops feeding a lane before the message at seq. r.mu is held.
func (r *Reader) stopAtGap(f *feed, seq uint64, text string) {
	r.setMode(f, feedGap)
	f.next, f.retryAt = seq, time.Now().Add(gapRetry)
	f.gapped = true
	f.lane.setGap(text)
}

// passGap tells a lane that was stopped before a gap that it is fed again. r.mu is held.
func (r *Reader) passGap(f *feed) {
	if f.gapped {
		f.gapped = false
		f.lane.setGap("")
	}
}

// retryGaps lets lanes that stopped before a gap look again.
func (r *Reader) retryGaps(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.lanes {
		if f.mode == feedGap && now.After(f.retryAt) {
			r.setMode(f, feedBehind)
			f.full = false
			r.wakeCatchUp()
		}
	}
}

// fetchMissing asks the stream's leader, then each of the other replicas by making it the leader: a plain direct get
// would be answered by the nearest replica, which is the one that has a hole.
func (r *Reader) fetchMissing(ctx context.Context, seq uint64, replicas int) (*entry, error) {
	for replica := 1; ; replica++ {
		for try := 1; try <= gapTries; try++ {
			e, err := r.fetch(ctx, seq)
			if err == nil || !errors.Is(err, errMissing) {
				return e, err
			}
		}
		if replica >= replicas {
			return nil, errMissing
		}
		if err := r.nextLeader(ctx); err != nil {
			return nil, err
		}
	}
}

// fetch gets a message from the stream's leader.
func (r *Reader) fetch(ctx context.Context, seq uint64) (*entry, error) {
	var answer struct {
		Error   *apiError `json:"error"`
		Message *struct {
			Subject string    `json:"subject"`
			Header  []byte    `json:"hdrs"`
			Data    []byte    `json:"data"`
			Time    time.Time `json:"time"`
		} `json:"message"`
	}
	if err := r.ask(ctx, "STREAM.MSG.GET", fmt.Appendf(nil, `{"seq":%d}`, seq), &answer); err != nil {
		return nil, err
	}
	switch {
	case answer.Error != nil && answer.Error.Code == notFoundErr:
		return nil, errMissing
	case answer.Error != nil || answer.Message == nil:
		return nil, fmt.Errorf("get message %d: %w", seq, answer.Error)
	}
	m := answer.Message
	e := &entry{seq: seq, published: m.Time, subject: m.Subject, data: m.Data}
	if len(m.Header) > 0 {
		h, err := nats.DecodeHeadersMsg(m.Header)
		if err != nil {
			return nil, fmt.Errorf("headers of message %d: %w", seq, err)
		}
		e.headers = h
	}
	return e, nil
}

// nextLeader makes another replica the stream's leader and waits until there is one.
func (r *Reader) nextLeader(ctx context.Context) error {
	var answer struct {
		Error *apiError `json:"error"`
	}
	if err := r.ask(ctx, "STREAM.LEADER.STEPDOWN", nil, &answer); err != nil {
		return err
	}
	if answer.Error != nil {
		return fmt.Errorf("step the leader down: %w", answer.Error)
	}
	return nil
}

// firstSeq asks the stream's leader for the first sequence stored, and how many replicas there are.
func (r *Reader) firstSeq(ctx context.Context) (first uint64, replicas int, err error) {
	ctx, cancel := context.WithTimeout(ctx, gapTimeout)
	defer cancel()
	stream, err := r.JS.Stream(ctx, r.Topic.Name)
	if err != nil {
		return 0, 0, fmt.Errorf("look at stream %s: %w", r.Topic.Name, err)
	}
	info := stream.CachedInfo()
	return info.State.FirstSeq, info.Config.Replicas, nil
}

// apiError is the server's own error.
type apiError struct {
	Code int    `json:"err_code"`
	Text string `json:"description"`
}

func (e *apiError) Error() string {
	if e == nil {
		return "empty answer"
	}
	return fmt.Sprintf("%s (%d)", e.Text, e.Code)
}

// ask makes a request about the stream that the client library has no call for.
func (r *Reader) ask(ctx context.Context, what string, request []byte, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, gapTimeout)
	defer cancel()
	m, err := r.JS.Conn().RequestWithContext(ctx, "$JS.API."+what+"."+r.Topic.Name, request)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if err := json.Unmarshal(m.Data, answer); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// wait waits for d. It returns false if ctx ends first.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

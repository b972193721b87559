package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"golang.org/x/sync/semaphore"

	"leasehold/internal/duration"
)

const (
	// MaxWait is how long one call may wait for a request to be applied.
	MaxWait  = time.Minute
	maxWaits = 64 // Calls that wait at a time.
)

// requestStatus answers how far a request is. A caller may wait until it is applied everywhere.
type requestStatus struct {
	*handler
	requests Requests
	waits    *semaphore.Weighted
	closing  <-chan struct{} // The server is being stopped.
}

func newRequestStatus(h *handler, r Requests, closing <-chan struct{}) http.Handler {
	s := &requestStatus{handler: h, requests: r, waits: semaphore.NewWeighted(maxWaits), closing: closing}
	return http.HandlerFunc(s.answer)
}

func (s *requestStatus) answer(w http.ResponseWriter, r *http.Request) {
	id, wait, err := parseRequestStatus(r)
	if err != nil {
		s.failWith(w, err)
		return
	}
	ctx := r.Context()
	if wait > 0 {
		if !s.waits.TryAcquire(1) {
			s.failWith(w, Mark(ErrBusy, fmt.Sprintf("%d calls wait for requests on this node, and there can be no more",
				maxWaits)))
			return
		}
		defer s.waits.Release(1)
		var stop func()
		ctx, stop = s.untilClosing(ctx)
		defer stop()
		control := http.NewResponseController(w)
		_ = control.SetReadDeadline(time.Time{}) // When it is over, the request would be too.
		_ = control.SetWriteDeadline(time.Now().Add(wait + writeTimeout))
	}
	asked, err := s.requests.Asked(ctx, r.PathValue("name"), id, wait)
	if err != nil && errors.Is(context.Cause(ctx), errClosing) { // Whatever was being read for it then was cut off.
		err = errClosing
	}
	if err != nil {
		s.failWith(w, err)
		return
	}
	s.write(w, http.StatusOK, asked)
}

func parseRequestStatus(r *http.Request) (id uint64, wait time.Duration, err error) {
	if id, err = strconv.ParseUint(r.PathValue("id"), 10, 64); err != nil {
		return 0, 0, badRequest("%q is not the number of a request", r.PathValue("id"))
	}
	text := r.URL.Query().Get("wait")
	if text == "" {
		return id, 0, nil
	}
	if wait, err = duration.Parse(text); err != nil || wait < 0 || wait > MaxWait {
		return 0, 0, badRequest("wait=%s is not a duration from 0s to %v", text, MaxWait)
	}
	return id, wait, nil
}

var errClosing = Mark(ErrNotYet, "the node is stopping")

// untilClosing ends its context when the server is told to stop: an answer that waits must not hold it up.
func (s *requestStatus) untilClosing(ctx context.Context) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() { // ends with the context, which stop ends
		select {
		case <-s.closing:
			cancel(errClosing)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// Asked says how far a request is: at once if wait is 0, else when it is applied everywhere or wait is over, which is
// at most MaxWait.
func (c *Client) Asked(ctx context.Context, group string, id uint64, wait time.Duration) (*Asked, error) {
	path := groupPath(group, "/requests/"+strconv.FormatUint(id, 10))
	if wait <= 0 {
		return ask[Asked](ctx, c, http.MethodGet, path)
	}
	wait = min(wait, MaxWait)
	patient := *c.http
	patient.Timeout = wait + askTimeout
	path += "?" + url.Values{"wait": {wait.String()}}.Encode()
	resp, err := c.request(ctx, &patient, http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var out Asked
	if err := c.read(resp, path, &out); err != nil {
		return nil, err
	}
	return &out, nil
}

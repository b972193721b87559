package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"leasehold/internal/api/listen"
)

// pendingRequests is a request that is never applied: a call that waits, waits for all of its time.
type pendingRequests struct {
	fakeRequests
	waits   chan time.Duration
	reading bool // It is cut off while it reads, and says no more than that.
}

func (f *pendingRequests) Asked(ctx context.Context, _ string, id uint64, wait time.Duration) (*Asked, error) {
	f.waits <- wait
	select {
	case <-ctx.Done():
		if f.reading {
			return nil, fmt.Errorf("read records: %w", ctx.Err())
		}
		return nil, context.Cause(ctx)
	case <-time.After(wait):
		return &Asked{ID: id, Waiting: []int{3}}, nil
	}
}

func TestACallerWaitsForARequestForAsLongAsItSays(t *testing.T) {
	f := &pendingRequests{waits: make(chan time.Duration, 10)}
	socket := filepath.Join(t.TempDir(), "agent.sock")
	s, err := New(Options{Socket: socket, Source: fakeSource{status: &Status{}}, Requests: f})
	if err != nil {
		t.Fatal(err)
	}
	runUntilEnd(t, s)
	c := NewClient(socket)
	for asked, want := range map[time.Duration]time.Duration{0: 0, -time.Second: 0,
		300 * time.Millisecond: 300 * time.Millisecond} {
		from := time.Now()
		got, err := c.Asked(t.Context(), "billing", 7, asked)
		if err != nil || got.ID != 7 || len(got.Waiting) != 1 || time.Since(from) < want {
			t.Errorf("wait %v: %+v, %v after %v", asked, got, err, time.Since(from))
		}
		if wait := <-f.waits; wait != want {
			t.Errorf("wait %v came through as %v", asked, wait)
		}
	}
	for _, bad := range []string{"soon", "-1s", "2m", "10"} {
		var out Asked
		err := c.get(t.Context(), "/v1/groups/billing/requests/7?wait="+bad, &out)
		if !errors.Is(err, ErrBadRequest) || !strings.Contains(err.Error(), "wait="+bad) {
			t.Errorf("wait=%s: %v", bad, err)
		}
	}
}

func TestAServerThatStopsAnswersThoseThatWait(t *testing.T) {
	stopWhileOneWaits(t, &pendingRequests{waits: make(chan time.Duration, 1)})
}

func TestAServerThatStopsAnswersThoseForWhomItReads(t *testing.T) {
	stopWhileOneWaits(t, &pendingRequests{waits: make(chan time.Duration, 1), reading: true})
}

func stopWhileOneWaits(t *testing.T, f *pendingRequests) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "agent.sock")
	s, err := New(Options{Socket: socket, Source: fakeSource{status: &Status{}}, Requests: f})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done, answer := make(chan error, 1), make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	<-s.Started()
	go func() {
		_, err := NewClient(socket).Asked(context.Background(), "billing", 7, time.Minute)
		answer <- err
	}()
	<-f.waits
	from := time.Now()
	cancel()
	if err := <-answer; !errors.Is(err, ErrNotYet) || !strings.Contains(err.Error(), "stopping") {
		t.Errorf("answered with %v", err)
	}
	if err := <-done; err != nil || time.Since(from) > shutdownLimit {
		t.Errorf("stopped after %v with %v", time.Since(from), err)
	}
}

func TestOnlySoManyCallersWaitAtATime(t *testing.T) {
	f := &pendingRequests{waits: make(chan time.Duration, maxWaits)}
	socket := filepath.Join(t.TempDir(), "agent.sock")
	s, err := New(Options{Socket: socket, Source: fakeSource{status: &Status{}}, Requests: f,
		limits: limits{connections: 2 * maxWaits}})
	if err != nil {
		t.Fatal(err)
	}
	runUntilEnd(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range maxWaits {
		go func() { _, _ = NewClient(socket).Asked(ctx, "billing", 7, time.Minute) }()
	}
	for range maxWaits {
		<-f.waits
	}
	if _, err := NewClient(socket).Asked(t.Context(), "billing", 7, time.Second); !errors.Is(err, ErrBusy) {
		t.Errorf("one more: %v", err)
	}
}

// An explanation may hold a message, so that a port without a token does not give one.
func TestExplanationsAreForThoseWhoMaySeeMessages(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "agent.sock")
	s, err := New(Options{Listen: "127.0.0.1:0", Socket: socket, Source: fakeSource{status: &Status{}},
		Explainer: fakeExplainer{}})
	if err != nil {
		t.Fatal(err)
	}
	runUntilEnd(t, s)
	of := ExplainTarget{Of: "orders/3/7"}
	for _, closed := range []string{s.Addr(), listen.ReadOnlySocket(socket)} {
		if e, err := NewClient(closed).Explain(t.Context(), "orders", of); !errors.Is(err, ErrNotAllowed) {
			t.Errorf("%s: %+v, %v", closed, e, err)
		}
	}
	c := NewClient(socket)
	if e, err := c.Explain(t.Context(), "orders", of); err != nil || e.Topic != "orders" || e.Key != of.Of || e.Stored {
		t.Errorf("%+v, %v", e, err)
	}
	if e, err := c.Explain(t.Context(), "orders", ExplainTarget{Of: "7", IsKey: true}); err != nil || e.Key != "7" ||
		!e.Stored {
		t.Errorf("a key: %+v, %v", e, err)
	}
	for _, query := range []string{"", "topic=orders", "of=7", "topic=orders&of=7&key=7"} {
		var out Explanation
		if err := c.do(t.Context(), http.MethodGet, "/v1/explain?"+query, &out); !errors.Is(err, ErrBadRequest) {
			t.Errorf("?%s: %v", query, err)
		}
	}
}

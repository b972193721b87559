package subprocess

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"leasehold/worker/handler"
	"leasehold/worker/handler/wire"

	"github.com/hashicorp/go-hclog"
)

// Waits between a child's failure and the next start.
const (
	restartMin = 500 * time.Millisecond
	restartMax = 30 * time.Second
)

// childSupervisor keeps one child running, from its first use.
type childSupervisor struct {
	cfg    Config
	env    handler.Env
	log    hclog.Logger
	wanted chan struct{} // Closed at the first use.
	want   sync.Once

	mu      sync.Mutex
	child   *child        // Ready for calls, or about to die; nil in between.
	failure error         // Why there is no child, if that is more than a short wait.
	until   time.Time     // When the next start comes, if down.
	starts  int           // How often a child has been started.
	stopped bool          // Run has ended.
	changed chan struct{} // Closed and replaced whenever one of the above changes.
}

func newChildSupervisor(cfg Config, env handler.Env, log hclog.Logger) *childSupervisor {
	return &childSupervisor{cfg: cfg, env: env, log: log, wanted: make(chan struct{}), changed: make(chan struct{})}
}

// update changes the supervisor's state and wakes up all that wait for it.
func (s *childSupervisor) update(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	close(s.changed)
	s.changed = make(chan struct{})
}

// run keeps a child alive until ctx ends, and returns after the last one is dead.
func (s *childSupervisor) run(ctx context.Context) {
	defer s.update(func() { s.stopped = true })
	select {
	case <-s.wanted:
	case <-ctx.Done():
		return
	}
	wait := restartMin
	for ctx.Err() == nil {
		c, err := s.start(ctx)
		if ctx.Err() != nil && err != nil {
			return
		}
		if err != nil {
			s.log.Warn("handler child failed to start", "error", err, "next_ms", wait.Milliseconds())
			s.pause(ctx, err, wait)
			wait = min(2*wait, restartMax)
			continue
		}
		s.update(func() { s.child, s.failure = c, nil })
		s.watch(ctx, c)
		s.update(func() { s.child = nil })
		wait = s.afterDeath(ctx, c, wait)
	}
}

// start starts a child and makes it ready.
func (s *childSupervisor) start(ctx context.Context) (*child, error) {
	s.update(func() { s.starts++ })
	c, err := spawn(s.cfg.program().Cmd(s.env.Lock), s.log, nil)
	if err != nil {
		return nil, fmt.Errorf("start handler child: %w", err)
	}
	if err := c.begin(ctx, wire.NewInitLine(s.env, s.cfg.Batch, s.cfg.Config, ""), s.cfg.StartTimeout); err != nil {
		return nil, err
	}
	c.log.Info("handler child ready")
	return c, nil
}

// watch returns when the child is dead; at the end of ctx it stops it.
func (s *childSupervisor) watch(ctx context.Context, c *child) {
	select {
	case <-c.dead:
	case <-ctx.Done():
		c.stop(s.cfg.StopTimeout)
	}
}

// afterDeath waits as the death of a child asks for, and returns the wait for the next one.
func (s *childSupervisor) afterDeath(ctx context.Context, c *child, wait time.Duration) time.Duration {
	e := c.exitCause()
	switch {
	case e.kind == stopped:
		return wait
	case e.kind != crashed:
		c.log.Warn("handler child killed", "reason", e.text)
		return restartMin // We ended it. The next one need not fail.
	case c.given() > 0:
		c.log.Warn("handler child died", "reason", e.text, "next_ms", restartMin.Milliseconds())
		s.pause(ctx, nil, restartMin) // It worked; for a message that kills it there is the lanes' backoff.
		return restartMin
	}
	c.log.Warn("handler child died before its first message", "reason", e.text, "next_ms", wait.Milliseconds())
	s.pause(ctx, errors.New(e.text), wait)
	return min(2*wait, restartMax)
}

// pause waits, and lets callers know why if there is a reason.
func (s *childSupervisor) pause(ctx context.Context, reason error, wait time.Duration) {
	s.update(func() { s.failure, s.until = reason, time.Now().Add(wait) })
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// ready returns a child that accepts calls, and whether it had to wait for it. It waits for one that is starting, but
// not for one that keeps failing: the result is then unavailable.
func (s *childSupervisor) ready(ctx context.Context) (c *child, waited bool, r handler.Result) {
	s.want.Do(func() { close(s.wanted) })
	for ; ; waited = true {
		s.mu.Lock()
		c, down, until, gone, changed := s.child, s.failure, s.until, s.stopped, s.changed
		s.mu.Unlock()
		switch {
		case c != nil && !c.dying():
			return c, waited, handler.Result{}
		case gone:
			return nil, waited, handler.NewUnavailable("handler is stopped")
		case down != nil:
			r = handler.NewUnavailable("%w", down)
			r.After = max(time.Until(until), restartMin)
			return nil, waited, r
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, waited, handler.NewUnavailable("waiting for the handler child: %w", context.Cause(ctx))
		}
	}
}

// current returns the child that there is, or nil.
func (s *childSupervisor) current() *child {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.child
}

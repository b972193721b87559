package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Waits between a child's failure and the next start.
const (
	restartMin = 500 * time.Millisecond
	restartMax = 30 * time.Second
)

// slot keeps one child alive, from the first time that somebody wants it.
type slot struct {
	cfg    SubprocessConfig
	env    HandlerEnv
	log    hclog.Logger
	wanted chan struct{} // Closed at the first use.
	want   sync.Once

	mu      sync.Mutex
	child   *child        // Ready for calls, or about to die; nil in between.
	down    error         // Why there is no child, if that is more than a short wait.
	until   time.Time     // When the next start comes, if down.
	starts  int           // How often a child has been started.
	gone    bool          // Run has ended.
	changed chan struct{} // Closed and made anew whenever one of the above changes.
}

func newSlot(cfg SubprocessConfig, env HandlerEnv, log hclog.Logger) *slot {
	return &slot{cfg: cfg, env: env, log: log, wanted: make(chan struct{}), changed: make(chan struct{})}
}

// update changes the slot's state and wakes everybody who waits for it.
func (s *slot) update(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	close(s.changed)
	s.changed = make(chan struct{})
}

// run keeps a child alive until ctx ends, and returns after the last one is dead.
func (s *slot) run(ctx context.Context) {
	defer s.update(func() { s.gone = true })
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
			s.log.Warn("handler child does not start", "error", err, "next_ms", wait.Milliseconds())
			s.pause(ctx, err, wait)
			wait = min(2*wait, restartMax)
			continue
		}
		s.update(func() { s.child, s.down = c, nil })
		s.watch(ctx, c)
		s.update(func() { s.child = nil })
		wait = s.afterDeath(ctx, c, wait)
	}
}

// start starts a child and makes it ready.
func (s *slot) start(ctx context.Context) (*child, error) {
	s.update(func() { s.starts++ })
	c, err := spawn(s.cfg.program().command(s.env.Lock), s.log, nil)
	if err != nil {
		return nil, fmt.Errorf("start handler child: %w", err)
	}
	if err := c.begin(ctx, newInitLine(s.env, s.cfg.Batch, s.cfg.Config, ""), s.cfg.StartTimeout); err != nil {
		return nil, err
	}
	c.log.Info("handler child ready")
	return c, nil
}

// watch returns when the child is dead; at the end of ctx it stops it.
func (s *slot) watch(ctx context.Context, c *child) {
	select {
	case <-c.dead:
	case <-ctx.Done():
		c.stop(s.cfg.StopTimeout)
	}
}

// afterDeath waits as the death of a child asks for, and returns the wait for the next one.
func (s *slot) afterDeath(ctx context.Context, c *child, wait time.Duration) time.Duration {
	e := c.ended()
	switch {
	case e.how == stopped:
		return wait
	case e.how != crashed:
		c.log.Warn("handler child killed", "reason", e.text)
		return restartMin // We ended it. Nothing says that the next one will fail.
	case c.given() > 0:
		c.log.Warn("handler child died", "reason", e.text, "next_ms", restartMin.Milliseconds())
		s.pause(ctx, nil, restartMin) // It worked; the lanes' backoff looks after a message that kills it.
		return restartMin
	}
	c.log.Warn("handler child died before its first message", "reason", e.text, "next_ms", wait.Milliseconds())
	s.pause(ctx, errors.New(e.text), wait)
	return min(2*wait, restartMax)
}

// pause waits, and lets callers know why if there is a reason.
func (s *slot) pause(ctx context.Context, reason error, wait time.Duration) {
	s.update(func() { s.down, s.until = reason, time.Now().Add(wait) })
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// ready returns a child that takes calls, and whether it had to wait for it. It waits for one that is on its way, but
// not for one that keeps failing: that is what unavailable is for.
func (s *slot) ready(ctx context.Context) (c *child, waited bool, r Result) {
	s.want.Do(func() { close(s.wanted) })
	for ; ; waited = true {
		s.mu.Lock()
		c, down, until, gone, changed := s.child, s.down, s.until, s.gone, s.changed
		s.mu.Unlock()
		switch {
		case c != nil && !c.dying():
			return c, waited, Result{}
		case gone:
			return nil, waited, unavailable("handler is stopped")
		case down != nil:
			r = unavailable("%w", down)
			r.After = max(time.Until(until), restartMin)
			return nil, waited, r
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, waited, unavailable("waiting for the handler child: %w", context.Cause(ctx))
		}
	}
}

// current returns the child that there is, or nil.
func (s *slot) current() *child {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.child
}

package supervise

import (
	"context"
	"strings"
	"sync"
	"time"

	"leasehold/internal/brokererr"
)

// SetupLimit bounds one attempt at asking the broker something while a node starts.
const SetupLimit = 5 * time.Second

// Waiting is what a node waits for. Nothing means that it is ready. The zero value waits for nothing.
type Waiting struct {
	mu   sync.Mutex
	what []string
}

// For sets what the node waits for; nothing means ready.
func (w *Waiting) For(what ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.what = nil
	for _, text := range what {
		w.what = append(w.what, brokererr.Plain(text))
	}
}

// Reasons lists what the node waits for.
func (w *Waiting) Reasons() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.what
}

// Until calls check at every interval until it returns no reasons to wait. Those that it returns show in Reasons.
func (w *Waiting) Until(ctx context.Context, interval time.Duration, check func() (reasons []string)) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		reasons := check()
		if len(reasons) == 0 {
			return nil
		}
		w.For(reasons...)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// Plain is a reason without the words that some of the broker's begin with.
func Plain(reason string) string { return strings.TrimPrefix(reason, "waiting for ") }

// Package every waits and repeats until a context ends.
package every

import (
	"context"
	"time"
)

// Sleep waits for d and returns true, or false as soon as ctx ends. It returns false at once if ctx has ended already.
func Sleep(ctx context.Context, d time.Duration) bool {
	if ctx.Err() != nil {
		return false
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// Loop calls f every d until ctx ends, for the first time after d. Calls do not overlap: a tick that comes while f runs
// is taken once f has returned, and further ones are dropped. It returns when ctx has ended and f has returned.
func Loop(ctx context.Context, d time.Duration, f func()) {
	t := time.NewTicker(d)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if ctx.Err() != nil {
				return
			}
			f()
		}
	}
}

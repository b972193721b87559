// Package supervise runs the named parts of a node beside each other, says what the node waits for, and knows the two
// ways in which a node ends that are not a clean stop: its config cannot run here (ErrConfig), or it starts again in
// the same process (RestartError).
package supervise

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrStuck is for a part that does not end. As long as it runs, no other run of the node can begin in this process.
var ErrStuck = errors.New("it does not end")

// stopLimit is how long a part may take that has nothing to do at its end.
const stopLimit = 10 * time.Second

// Part is a function that runs beside the others, under a name.
type Part struct {
	name   string
	cancel context.CancelFunc
	done   chan error
}

// Go runs f until Stop or StopWithin. If it ends before that, stop is called with its error, or with one that says that
// the part ended by itself.
func Go(ctx context.Context, stop context.CancelCauseFunc, name string, f func(context.Context) error) *Part {
	ctx, cancel := context.WithCancel(ctx)
	p := &Part{name: name, cancel: cancel, done: make(chan error, 1)}
	go func() { // joined by Stop
		err := f(ctx)
		if ctx.Err() == nil {
			if err == nil {
				err = fmt.Errorf("%s ended by itself", name)
			}
			stop(err)
		}
		p.done <- err
	}()
	return p
}

// Stop asks the part to end, waits for it, and returns its error.
func (p *Part) Stop() error {
	p.cancel()
	return <-p.done
}

// StopSoon is Stop for a part that may be waiting for a broker or a disk that hangs: after 10 s it returns ErrStuck.
func (p *Part) StopSoon() error {
	p.cancel()
	timer := time.NewTimer(stopLimit)
	defer timer.Stop()
	select {
	case err := <-p.done:
		return err
	case <-timer.C:
		return fmt.Errorf("%s: %w", p.name, ErrStuck)
	}
}

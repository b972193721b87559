package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"leasehold/server/disk"
)

// againError ends one life of a node so that another one begins in the same process. The service manager could start the
// process again just as well; but `leasehold dev` has none, and one that gives up after some failures would leave a node
// down that only had to wait for room. It is as safe as a new process: a life ends as a process does, with all lanes
// joined, the session ended and the broker stopped, and the next one opens the data directory anew, waits for handler
// children that hold its lock, and takes a new boot. If the broker does not stop, the process ends after all.
type againError struct {
	reason string
	fault  bool  // Something is broken, so the next life waits a while before it tries.
	aside  aside // The copy that the next life sets aside before it starts its broker.
}

func (e *againError) Error() string { return e.reason }

// startsAgain returns what ends this life only, nil if the node ends.
func startsAgain(err error) *againError {
	var again *againError
	errors.As(err, &again)
	return again
}

// Pauses between lives that end with a fault. They grow until a life has lasted for a while.
const (
	firstPause = time.Second
	longPause  = time.Minute
	goodLife   = 10 * time.Minute
)

// How often the broker is asked whether it still stores, and half of how long that may take.
const (
	storageEvery = time.Second
	storageLimit = 10 * time.Second
)

// nextPause is how long to wait after a life that ended with a fault.
func nextPause(last, lived time.Duration) time.Duration {
	if last == 0 || lived >= goodLife {
		return firstPause
	}
	return min(2*last, longPause)
}

// Run runs a node until ctx ends, then stops it in order: no more claims, lanes drained and handed over, session
// ended, HTTP closed, broker shut down. It returns nil after a clean stop. A node whose storage an error of the disk has
// switched off starts again by itself once there is room.
func Run(ctx context.Context, o Options) error {
	var before againError
	var pause time.Duration // After the last fault.
	for {
		begun := time.Now()
		err := newLife(o, before, pause).runLife(ctx)
		again := startsAgain(err)
		switch {
		case again == nil:
			return err
		case ctx.Err() != nil:
			return nil
		case again.fault:
			pause = nextPause(pause, time.Since(begun))
		}
		before = *again
	}
}

// room waits until the broker can be started: a while after a fault, and then for what it needs on the disk. Without
// that it would be off again at once.
func (n *Node) room(ctx context.Context) error {
	if n.before.fault {
		n.wait(fmt.Sprintf("the next start, %s after the last: %s", n.pause, n.before.reason))
		timer := time.NewTimer(n.pause)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
		}
	}
	said := false
	return n.until(ctx, disk.CheckEvery, func() []string {
		reasons := n.disk.StartBlockers()
		if len(reasons) > 0 && !said {
			said = true
			n.log.Error("the broker is not started before there is room", "waiting_for", reasons)
		}
		return reasons
	})
}

// storageFault asks the broker, and does not wait for ever: a broker that has locked itself up answers nobody.
func (n *Node) storageFault(ctx context.Context) string {
	answer := make(chan string, 1)
	go func() { answer <- n.broker.StorageFault() }() // ends with the process if the broker never answers
	timer := time.NewTimer(storageLimit)
	defer timer.Stop()
	for range 2 { // A process that was stopped for long finds that the time is over, and an answer a moment later.
		select {
		case <-ctx.Done():
			return ""
		case fault := <-answer:
			return fault
		case <-timer.C:
			timer.Reset(storageLimit)
		}
	}
	return "the broker does not answer"
}

// watchStorage ends this life when the broker cannot store any more, or is about to be unable to.
func (n *Node) watchStorage(ctx context.Context) error {
	tick := time.NewTicker(storageEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		fault := n.storageFault(ctx)
		if fault == "" && n.disk.Exhausted() {
			fault = "its disk is full"
		}
		if fault != "" {
			n.log.Error("stopping this node's part to start it again", "reason", fault)
			return &againError{reason: fault, fault: true}
		}
	}
}

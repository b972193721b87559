package node

import (
	"context"
	"fmt"
	"time"

	"leasehold/internal/every"
	"leasehold/internal/supervise"
	"leasehold/server/disk"
)

// Delays between runs that end with a fault. They grow until a run has lasted for a while.
const (
	firstDelay = time.Second
	maxDelay   = time.Minute
	goodRun    = 10 * time.Minute
)

// How often the broker is asked whether it still stores, and half of how long that may take.
const (
	storageEvery = time.Second
	storageLimit = 10 * time.Second
)

// nextDelay is how long to wait after a run that ended with a fault.
func nextDelay(last, lasted time.Duration) time.Duration {
	if last == 0 || lasted >= goodRun {
		return firstDelay
	}
	return min(2*last, maxDelay)
}

// Run runs a node until ctx ends, then stops it in order: no more claims, lanes drained and handed over, session ended,
// HTTP closed, broker shut down. It returns nil after a clean stop. A node whose storage an error of the disk has
// switched off restarts in the process once there is disk space.
func Run(ctx context.Context, o Options) error {
	var before supervise.RestartError
	var delay time.Duration // After the last fault.
	for {
		begun := time.Now()
		err := newRun(o, before, delay).run(ctx)
		restart := supervise.AsRestart(err)
		switch {
		case restart == nil:
			return err
		case ctx.Err() != nil:
			return nil
		case restart.Fault:
			delay = nextDelay(delay, time.Since(begun))
		}
		before = *restart
	}
}

// awaitDiskSpace waits until the broker can be started: a while after a fault, and then for what it needs on the disk.
// Without that it would be off again at once.
func (n *Node) awaitDiskSpace(ctx context.Context) error {
	if n.before.Fault {
		n.waiting.For(fmt.Sprintf("the next start, %s after the last: %s", n.delay, n.before.Reason))
		if !every.Sleep(ctx, n.delay) {
			return context.Cause(ctx)
		}
	}
	logged := false
	return n.waiting.Until(ctx, disk.CheckEvery, func() []string {
		reasons := n.disk.StartBlockers()
		if len(reasons) > 0 && !logged {
			logged = true
			n.log.Error("not starting the broker: waiting for free disk space", "waiting_for", reasons)
		}
		return reasons
	})
}

// storageFault asks the broker, and does not wait forever: a broker that has locked itself up answers nobody.
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

// watchStorage returns a RestartError when the broker cannot store any more, or is about to be unable to.
func (n *Node) watchStorage(ctx context.Context) error {
	for every.Sleep(ctx, storageEvery) {
		fault := n.storageFault(ctx)
		if fault == "" && n.disk.Exhausted() {
			fault = "its disk is full"
		}
		if fault != "" {
			n.log.Error("storage fault: restarting the node in this process", "reason", fault)
			return &supervise.RestartError{Reason: fault, Fault: true}
		}
	}
	return nil
}

package node

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"

	"leasehold/internal/every"
	"leasehold/internal/supervise"
	"leasehold/server"
	"leasehold/server/disk"
)

// How often the broker is asked whether it still stores, and half of how long that may take.
const (
	storageEvery = time.Second
	storageLimit = 10 * time.Second
)

// storage starts the broker only where it can store, and ends the run when it no longer can.
type storage struct {
	disk    *disk.Disk
	broker  *server.Server
	waiting *supervise.Waiting
	log     hclog.Logger
	before  supervise.RestartError // How the run before this one ended.
	delay   time.Duration          // How long to wait if that was a fault.
}

// awaitSpace waits until the broker can be started: a while after a fault, and then for what it needs on the disk.
// Without that it would be off again at once.
func (s *storage) awaitSpace(ctx context.Context) error {
	if s.before.Fault {
		s.waiting.For(fmt.Sprintf("the next start, %s after the last: %s", s.delay, s.before.Reason))
		if !every.Sleep(ctx, s.delay) {
			return context.Cause(ctx)
		}
	}
	logged := false
	return s.waiting.Until(ctx, disk.CheckEvery, func() []string {
		reasons := s.disk.StartBlockers()
		if len(reasons) > 0 && !logged {
			logged = true
			s.log.Error("not starting the broker: waiting for free disk space", "waiting_for", reasons)
		}
		return reasons
	})
}

// fault asks the broker, and does not wait forever: a broker that has locked itself up answers nobody.
func (s *storage) fault(ctx context.Context) string {
	answer := make(chan string, 1)
	go func() { answer <- s.broker.StorageFault() }() // ends with the process if the broker never answers
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

// watch returns a RestartError when the broker cannot store any more, or is about to be unable to.
func (s *storage) watch(ctx context.Context) error {
	for every.Sleep(ctx, storageEvery) {
		fault := s.fault(ctx)
		if fault == "" && s.disk.Exhausted() {
			fault = "its disk is full"
		}
		if fault != "" {
			s.log.Error("storage fault: restarting the node in this process", "reason", fault)
			return &supervise.RestartError{Reason: fault, Fault: true}
		}
	}
	return nil
}

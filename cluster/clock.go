package cluster

import (
	"time"

	"golang.org/x/sys/unix"

	"leasehold/cluster/lease"
	"leasehold/internal/skewclock"
)

// Clock is the time that sessions and leases are measured with.
type Clock interface{ Now() lease.Time }

// BootClock is CLOCK_BOOTTIME: the time since the machine started, its suspended hours included. Go's monotonic clock is
// CLOCK_MONOTONIC, which stands still in suspend, so that a node would wake up with lease left that others have long
// declared over.
type BootClock struct{}

// Now reads the clock.
func (BootClock) Now() lease.Time {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("the kernel has no boot-time clock: " + err.Error()) // Linux has had it since 2.6.39
	}
	return time.Duration(ts.Nano()) + skewclock.Boot()
}

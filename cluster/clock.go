package cluster

import (
	"time"

	"golang.org/x/sys/unix"

	"leasehold/cluster/lease"
	"leasehold/internal/skewclock"
)

// Clock is the time by which sessions and leases are measured.
type Clock interface{ Now() lease.Time }

// BootClock is CLOCK_BOOTTIME: the time since the machine started, its suspended hours included. Go's monotonic clock
// is CLOCK_MONOTONIC, which stands still in suspend: after one a node would still count on a session that the others
// have long declared dead.
type BootClock struct{}

// Now reads the clock.
func (BootClock) Now() lease.Time {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("the kernel has no boot-time clock: " + err.Error()) // Linux has had it since 2.6.39
	}
	return time.Duration(ts.Nano()) + skewclock.Boot()
}

//go:build !skewclock

// Package skewclock lets tests put the clocks of one node wrong: in a binary built with the tag "skewclock", and with the
// overlay that internal/chaos/clock makes, the wall clock and our boot-time clock are ahead by what a file says. Timers and
// Go's monotonic clock are not touched. In any other build there is nothing of it.
package skewclock

import "time"

// Boot is how far the boot-time clock is ahead: not at all in this build.
func Boot() time.Duration { return 0 }

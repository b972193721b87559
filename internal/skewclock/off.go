//go:build !skewclock

package skewclock

import "time"

// Boot is how far the boot-time clock is ahead: not at all in this build.
func Boot() time.Duration { return 0 }

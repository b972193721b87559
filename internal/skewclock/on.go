//go:build skewclock

package skewclock

import (
	"fmt"
	"os"
	"sync/atomic"
	"time"
	_ "unsafe" // for go:linkname
)

// wall is what time.Now adds, in nanoseconds. It stands in the overlay's file of package time.
//
//go:linkname wall time.skewclockWall
var wall atomic.Int64

var boot atomic.Int64

// Boot is how far the boot-time clock is ahead.
func Boot() time.Duration { return time.Duration(boot.Load()) }

// started is before anything looks at a clock, so that a process can start with wrong ones.
var started = start()

func start() bool {
	path := os.Getenv(Variable)
	if path == "" {
		return false
	}
	f := follower{path: path}
	f.look()
	go f.follow()
	return true
}

// follower does what the file says. It lives as long as the process.
type follower struct {
	path  string
	skew  Skew
	since time.Time // When skew was read; for its monotonic part.
}

func (f *follower) follow() {
	for range time.Tick(100 * time.Millisecond) {
		f.look()
	}
}

// look takes in the file. One that is missing says nothing new.
func (f *follower) look() {
	s, err := Load(f.path)
	if err == nil && s != f.skew {
		f.skew, f.since = s, time.Now()
		fmt.Fprintln(os.Stderr, s.Said())
	}
	wall.Store(int64(f.skew.Wall) + int64(f.skew.Drift*float64(time.Since(f.since))))
	boot.Store(int64(f.skew.Boot))
}

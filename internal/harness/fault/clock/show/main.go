// Show prints its clocks ten times a second, in nanoseconds: the wall clock,
// Go's monotonic clock and the boot-time clock that leases are measured with.
package main

import (
	"fmt"
	"time"

	"leasehold/cluster"
)

func main() {
	start := time.Now()
	for range time.Tick(100 * time.Millisecond) {
		now := time.Now()
		if _, err := fmt.Println(now.UnixNano(), now.Sub(start).Nanoseconds(), int64(cluster.BootClock{}.Now())); err != nil {
			return
		}
	}
}

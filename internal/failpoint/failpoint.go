//go:build failpoints

// Package failpoint lets tests end a node at the worst moments: a binary built with the tag "failpoints" kills itself,
// without any clean-up, when it comes by the place that the environment names. In any other build there is nothing of
// it.
package failpoint

import (
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
)

// The environment's variables: which place, and how often it is passed unharmed first.
const (
	nameVariable  = "LEASEHOLD_FAILPOINT"
	afterVariable = "LEASEHOLD_FAILPOINT_AFTER"
)

var (
	armed = os.Getenv(nameVariable)
	left  = passes()
)

func passes() *atomic.Int64 {
	var n atomic.Int64
	after, _ := strconv.Atoi(os.Getenv(afterVariable)) // Nothing is never.
	n.Store(int64(after))
	return &n
}

// Hit ends the process if this is the place.
func Hit(place Place) {
	if string(place) != armed || left.Add(-1) >= 0 {
		return
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

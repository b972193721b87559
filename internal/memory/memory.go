// Package memory gives the process a soft limit for its memory, from what its control group or its machine has, and
// shares of it to those who hold messages in memory.
package memory

import (
	"math"
	"os"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/hashicorp/go-hclog"
)

// handlersLeast is what a control group's limit leaves at least to handlers, which run in the same group.
const handlersLeast = 64 << 20

// SetLimit has Go collect harder before the process reaches what it may have, instead of being killed there.
// GOMEMLIMIT, if it is set, counts as it is. It says in the log what it did.
func SetLimit(log hclog.Logger) {
	if text, set := os.LookupEnv("GOMEMLIMIT"); set {
		log.Info("memory limit", "source", "GOMEMLIMIT", "limit", text)
		return
	}
	source, have := "AUTOMEMLIMIT", uint64(0) // Which turns the library off, or says what part to take.
	provider := func() (uint64, error) {
		var err error
		if have, err = memlimit.FromCgroup(); err == nil {
			source = "control group"
			return ofGroup(have), nil
		}
		source = "machine"
		have, err = memlimit.FromSystem()
		return ofMachine(have), err
	}
	limit, err := memlimit.Set(memlimit.WithProvider(provider), memlimit.WithRatio(1))
	if err != nil {
		log.Warn("no memory limit: set GOMEMLIMIT to about two thirds of what the node may have", "error", err)
		return
	}
	log.Info("memory limit", "source", source, "limit_mib", limit>>20, "of_mib", have>>20)
}

// ofGroup is the node's part of a control group: four fifths, less where handlers would have next to nothing.
func ofGroup(limit uint64) uint64 {
	return max(limit-min(limit, max(limit/5, handlersLeast)), limit/2)
}

// ofMachine is the node's part of a machine that has no limit for it: half, since others live there, and the kernel's
// cache of the store.
func ofMachine(total uint64) uint64 { return total / 2 }

// Share is most, or one part in so many of the memory limit if that is less.
func Share(most int64, parts int64) int64 {
	limit := debug.SetMemoryLimit(-1) // Only asks.
	if limit == math.MaxInt64 {
		return most
	}
	return min(most, limit/parts)
}

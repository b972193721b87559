// Package raft sets the broker's Raft timers, for which it has no options.
package raft

import (
	"fmt"
	"sync"
	"time"

	"leasehold/internal/fielderr"
)

// Timing is a named set of Raft timers, the same on every node of a cluster.
type Timing struct {
	Name string
	// Heartbeat is how often a leader that has nothing else to send tells its followers that it is there.
	Heartbeat time.Duration
	// A follower that hears nothing for a random time in [ElectionMin, ElectionMax) asks for votes.
	// Heartbeat < ElectionMin < ElectionMax.
	ElectionMin, ElectionMax time.Duration
	// LostQuorum is how long a leader may hear from no majority before it steps down; it looks as often, so it may
	// take twice as long.
	LostQuorum time.Duration
}

// Names of the timings.
const (
	TimingLAN = "lan"
	TimingWAN = "wan"
)

// TimingByName returns the timing of the name TimingLAN or TimingWAN, or a *fielderr.Error of the table cluster.
//
// lan finds a new leader in 1.3 s (median, kill -9) and wants disks whose fsync stays under 250 ms: three nodes that
// stalled for 1.5 s had 9 to 14 elections. wan is the broker's own 4–9 s, which such disks do not disturb.
func TimingByName(name string) (Timing, error) {
	switch name {
	case TimingLAN:
		return Timing{Name: name, Heartbeat: 250 * time.Millisecond, ElectionMin: time.Second,
			ElectionMax: 2 * time.Second, LostQuorum: 2500 * time.Millisecond}, nil
	case TimingWAN:
		return Timing{Name: name, Heartbeat: time.Second, ElectionMin: 4 * time.Second,
			ElectionMax: 9 * time.Second, LostQuorum: 10 * time.Second}, nil
	}
	return Timing{}, &fielderr.Error{
		Key: "timing", Name: "cluster.timing", Err: fmt.Errorf("%q is neither %q nor %q", name, TimingLAN, TimingWAN),
	}
}

// Timers guards the broker's timers, which are variables of the process: every broker in it reads them, unlocked,
// from its own goroutines. So they are written only while none runs, and a second broker must want the same.
var Timers TimerGuard

type TimerGuard struct {
	mu    sync.Mutex
	users int
	now   Timing
}

// Acquire sets the timers for a broker that is about to start. Each success needs one release.
func (g *TimerGuard) Acquire(t Timing) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.users > 0 && g.now != t {
		return fmt.Errorf("set Raft timers %q: a broker of this process already runs with %q, and they are one set "+
			"for the whole process", t.Name, g.now.Name)
	}
	if g.now != t {
		setRaftTimers(t)
		g.now = t
	}
	g.users++
	return nil
}

// Release says that a broker has ended with all its goroutines. One that has not must keep its claim.
func (g *TimerGuard) Release() {
	g.mu.Lock()
	g.users--
	g.mu.Unlock()
}

package raft

import (
	"time"
	_ "unsafe" // for go:linkname
)

// The broker has no option for its Raft timers. They are unexported package variables (nats-server v2.15.2,
// server/raft.go: var minElectionTimeout and following), and its 4–9 s elections alone would take longer than our
// whole bound for a failed node. go:linkname gives these names to those very variables; it needs no linker flag.
//
// The linker does not complain when a name vanishes in a later version: we would then set variables that nobody
// reads. TestTimingTookEffect measures a real broker's heartbeats and is what an upgrade has to pass.

//go:linkname minElectionTimeout github.com/nats-io/nats-server/v2/server.minElectionTimeout
var minElectionTimeout time.Duration

//go:linkname maxElectionTimeout github.com/nats-io/nats-server/v2/server.maxElectionTimeout
var maxElectionTimeout time.Duration

//go:linkname hbInterval github.com/nats-io/nats-server/v2/server.hbInterval
var hbInterval time.Duration

//go:linkname lostQuorumInterval github.com/nats-io/nats-server/v2/server.lostQuorumInterval
var lostQuorumInterval time.Duration

//go:linkname lostQuorumCheck github.com/nats-io/nats-server/v2/server.lostQuorumCheck
var lostQuorumCheck time.Duration

// setRaftTimers writes the broker's variables. Only timerGuard calls it.
func setRaftTimers(t Timing) {
	minElectionTimeout, maxElectionTimeout = t.ElectionMin, t.ElectionMax
	hbInterval = t.Heartbeat
	lostQuorumInterval, lostQuorumCheck = t.LostQuorum, t.LostQuorum
}

// InUse reads back the timers that the broker uses. Its Timing has no name.
func InUse() Timing {
	return Timing{Heartbeat: hbInterval, ElectionMin: minElectionTimeout, ElectionMax: maxElectionTimeout,
		LostQuorum: min(lostQuorumInterval, lostQuorumCheck)}
}

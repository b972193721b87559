package history

import "time"

// Repeats says when a message may be delivered to a handler again, other than
// by a retry that the handler requested.
type Repeats int

// From strict to lax. A stop (SIGSTOP) counts as a kill: the node is declared dead.
const (
	// RepeatsNever is for planned moves: nothing is delivered twice.
	RepeatsNever Repeats = iota
	// RepeatsAfterOwnerKilled wants a kill of the very node that owned the
	// partition, while it owned it.
	RepeatsAfterOwnerKilled
	// RepeatsAfterAnyKill wants any kill since the old owner's first call: a
	// survivor may lose its lease to an election on a starved machine.
	RepeatsAfterAnyKill
	// RepeatsAlways accepts every change of epoch as a reason.
	RepeatsAlways
)

// Rules says what a run may do and what it must at least have done. A minimum
// that is not reached makes the run inconclusive: it proved nothing.
type Rules struct {
	// Groups that must have processed everything. Empty: those seen in calls.
	Groups []string

	Repeats Repeats
	// RepeatWithin bounds how long before the kill a message may have been
	// finished and still be repeated: checkpoint interval plus the time in
	// which checkpoints could not be written. 0: not bounded.
	RepeatWithin time.Duration
	// AllowStaleTail lets a node that was stopped finish or deliver one call
	// late, per partition and stop (claim G2w of the design).
	AllowStaleTail bool
	// AllowReject counts a rejected message as finished (dead letter).
	AllowReject bool
	// MaxAttempts counts a message as finished (dead letter) by a call of that
	// attempt that failed or never ended. 0: none is.
	MaxAttempts int
	// MaxStall bounds how long a partition with work to do starts no call,
	// MaxPublishGap how long no publish is acknowledged. 0: not bounded.
	MaxStall      time.Duration
	MaxPublishGap time.Duration

	MinAcked       int // acknowledged publishes
	MinKeys        int // different keys called
	MinKills       int // kill, term, stop and struck events
	MinHandoffs    int // changes of a partition's owner, of either kind
	MinTakeovers   int // those of them that follow a kill of the old owner
	MinRedelivered int // calls repeated
}

// killSlack is how long after a kill event the killed node's handler may still
// start a call: the event is recorded before the signal is sent, and the
// parent-death signal follows the parent's exit.
const killSlack = int64(500 * time.Millisecond)

// struckSlack is the same for a node that was struck and is alive. Until it notices, which takes a ttl, it may make its
// first call under a lease that it claimed before.
const struckSlack = int64(5 * time.Second)

// finished reports whether the call finished its message.
func (r Rules) finished(c Call) bool {
	switch {
	case c.ok():
		return true
	case c.End != 0 && c.Result == "reject":
		return r.AllowReject
	case r.MaxAttempts == 0 || c.Attempt < r.MaxAttempts:
		return false
	}
	return c.Result == "retry" || c.open()
}

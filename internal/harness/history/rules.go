package history

import "time"

// Repeats says when a message that was already handed to a handler may be
// handed out again for another reason than a retry that the handler asked for.
type Repeats int

// From strict to lax. A stop (SIGSTOP) counts as a kill: the node is buried.
const (
	// RepeatsNever is for planned moves: nothing is handed out twice.
	RepeatsNever Repeats = iota
	// RepeatsAfterOwnerKilled wants a kill of the very node that held the
	// partition, while it held it.
	RepeatsAfterOwnerKilled
	// RepeatsAfterAnyKill wants any kill since the old owner's first call: a
	// survivor may lose its lease to an election on a starved machine.
	RepeatsAfterAnyKill
	// RepeatsAlways takes every change of epoch as a reason.
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

// killSlack is how long after the time of a kill event the killed node's
// handler may still start a call: the event is noted before the signal is
// sent, and the parent-death signal comes after the parent's exit.
const killSlack = int64(500 * time.Millisecond)

// struckSlack is the same for a node that was struck, and lives: it may make its first call under a lease that it had
// claimed before until it notices, which takes a ttl.
const struckSlack = int64(5 * time.Second)

// finished tells whether the call ended its message.
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

package lease

import (
	"time"

	"leasehold/internal/ownership"
)

// Input is something that happened. Each is one of the types below.
type Input interface{ input() }

type (
	// Tick is the passing of time; feed one at least every Config.Renew / 10.
	Tick struct{}

	// Saw is a record as a read or a message showed it, however old. Revision 0 means that no record was there. A revision
	// without a record was deleted or, if Invalid says why, is not a record.
	Observed struct {
		Key      Key
		Revision uint64
		Invalid  string
		Session  *Session
		Lease    *Lease
		Commands *Commands
	}

	// Loaded says that every session and every lease of the configured groups has been shown by Saw at least once.
	Synced struct{}

	// Wrote is the end of a Write: with OK it is known to have landed as that revision; anything else leaves it unknown.
	// Exactly one Wrote follows each Write.
	WriteDone struct {
		ID       uint64
		OK       bool
		Revision uint64
	}

	// SavedBoot says that the boot number of a SaveBoot is on disk.
	SavedBoot struct{ Boot uint64 }

	// Moved says how far the lane of a held lease has come. A lane's Moved and Stopped come in the order they were.
	Progressed struct {
		Key      Key
		Epoch    uint64
		Progress ownership.Progress
	}

	// Stopped says that a lane is joined: nothing runs for it any more. It carries the lane's last progress.
	Stopped struct {
		Key      Key
		Epoch    uint64
		Progress ownership.Progress
	}

	// Witnessed is the proof that the process with this broker id is gone, found after the node's record had been read at
	// this revision. It says nothing of any other process of that name, and nothing of a later revision.
	Witnessed struct {
		Node     string
		ServerID string
		Revision uint64
		By       []string // The other nodes that saw it, too; for the log.
	}

	// CutOff says that the connections to all other nodes have ended, at At, for the Nth time. Others may take that for
	// the death of this process, so no call starts before a renewal that was sent since is answered.
	Isolated struct {
		N  uint64
		At Time
	}

	// Stop asks for a clean end: hand everything over, then end the session.
	Stop struct{}
)

func (Tick) input()       {}
func (Observed) input()   {}
func (Synced) input()     {}
func (WriteDone) input()  {}
func (SavedBoot) input()  {}
func (Progressed) input() {}
func (Stopped) input()    {}
func (Witnessed) input()  {}
func (Isolated) input()   {}
func (Stop) input()       {}

// Action is something to be done. Each is one of the types below; do them in order.
type Action interface{ action() }

type (
	// Write is a compare-and-set of one record on Revision (0: the key must be new). Report its end as Wrote within
	// Config.WriteLimit; do not retry it. Announce asks to tell the other nodes once it has landed.
	Write struct {
		ID       uint64
		Key      Key
		Revision uint64
		Session  *Session
		Lease    *Lease
		Commands *Commands // Never by a core: people write them.
		Announce bool

		Witnesses []string // Of a burial on proof: who else saw it; for the log. Nil if it was silence.
	}

	// Read asks for a fresh look at one record, answered by Saw.
	Read struct{ Key Key }

	// SaveBoot asks for the boot number to be synced to disk, answered by SavedBoot.
	SaveBoot struct{ Boot uint64 }

	// Fence moves the deadline: a call may start while now < At, unless there was a CutOff after the one that Cut
	// numbers. The watchdog cancels every lane at At, or at such a CutOff.
	Fence struct {
		At  Time
		Cut uint64
	}

	// Start asks for a lane, from the message after Checkpoint. Its driver fills in what the lane may call.
	Start struct {
		Key Key
		ownership.Grant
	}

	// Drain asks a lane to finish the call in flight and stop. Answered by Stopped.
	Drain struct{ Key Key }

	// Cancel asks a lane to end its call and stop at once. Answered by Stopped.
	Cancel struct {
		Key   Key
		Cause error
	}

	// Committed says that this much of a lane's progress is stored.
	Committed struct {
		Key      Key
		Epoch    uint64
		Progress ownership.Progress
	}

	// Alarm says that a record is not what it can be, if nothing but nodes write records, and what comes of it. An operator
	// has to look for what wrote it.
	Alarm struct {
		Key      Key
		Revision uint64
		Text     string
	}

	// Exit asks for the end of the process: Err says why this node must not go on.
	Exit struct{ Err error }

	// Finished follows Stop: every lane is joined, every lease handed over or given up, the session ended if it could be.
	Finished struct{}
)

func (Write) action()     {}
func (Read) action()      {}
func (SaveBoot) action()  {}
func (Fence) action()     {}
func (Start) action()     {}
func (Drain) action()     {}
func (Cancel) action()    {}
func (Committed) action() {}
func (Alarm) action()     {}
func (Exit) action()      {}
func (Finished) action()  {}

// Config is what a node knows about itself and its cluster before it starts.
type Config struct {
	Self   Session // Identity of this process: everything but Version, Boot, State, Nonce and TTL, which Core fills.
	Boot   uint64  // Boot counter on disk; 0 on a new directory.
	Secret string  // Unique to this process; the stem of its nonces.
	Groups []Group // Groups that this node serves.

	TTL                 time.Duration // Life of a session revision.
	Renew               time.Duration // Time between renewals.
	Margin              time.Duration // How long before the end of the ttl this node stops: covers watchdog delay, kill and join.
	WriteLimit          time.Duration // Longest time until a Write is reported.
	StabilizationWindow time.Duration // How long a newcomer is left out of the plan.
	MinHold             time.Duration // A lease younger than this is handed over at stop only.
}

// Group is a set of partitions that are planned together.
type Group struct {
	Name       string
	Partitions int
	Kind       ownership.Kind
	Start      uint64        // Checkpoint of a lease that was never written.
	Handover   time.Duration // How long a draining lane may finish its call.
}

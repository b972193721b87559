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

	// Observed is a record as a read or an announcement showed it; it may be stale. Revision 0: there was no record. A
	// revision without a record was deleted or, if Invalid says why, is not a valid record.
	Observed struct {
		Key      Key
		Revision uint64
		Invalid  string
		Session  *Session
		Lease    *Lease
		Commands *Commands
	}

	// Synced: every session and every lease of the configured groups has been fed by Observed at least once.
	Synced struct{}

	// WriteDone is the outcome of a Write. OK: it landed as Revision. Otherwise the outcome is unknown. Exactly one
	// WriteDone follows each Write.
	WriteDone struct {
		ID       uint64
		OK       bool
		Revision uint64
	}

	// SavedBoot: the boot number of a SaveBoot is on disk.
	SavedBoot struct{ Boot uint64 }

	// Progressed is how far a lane has come. A lane's Progressed and Stopped arrive in the order in which they
	// happened.
	Progressed struct {
		Key      Key
		Epoch    uint64
		Progress ownership.Progress
	}

	// Stopped: a lane is joined, nothing runs for it any more. It carries the lane's last progress.
	Stopped struct {
		Key      Key
		Epoch    uint64
		Progress ownership.Progress
	}

	// Witnessed is the proof that the process with this broker id is gone, found after the node's record had been read
	// at this revision. It proves nothing about another process of that name, or about a later revision.
	Witnessed struct {
		Node     string
		ServerID string
		Revision uint64
		By       []string // The other nodes that confirmed it; for the log.
	}

	// Isolated: the connections to all other nodes have ended, at At, for the Nth time. Others may take that for the
	// death of this process, so no call starts before a renewal that was sent since is answered.
	Isolated struct {
		N  uint64
		At Time
	}

	// Stop asks for a clean stop: hand everything over, then end the session.
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
	// Write is a compare-and-set of one record on Revision (0: the key must be new). Report its outcome as WriteDone
	// within Config.WriteLimit; do not retry it. Announce: tell the other nodes once it has landed.
	Write struct {
		ID       uint64
		Key      Key
		Revision uint64
		Session  *Session
		Lease    *Lease
		Commands *Commands // Never by a core: operators write them.
		Announce bool

		Witnesses []string // Of a proven death: the nodes that confirmed it, for the log. Nil for silence.
	}

	// Read asks to read one record, answered by Observed.
	Read struct{ Key Key }

	// SaveBoot asks for the boot number to be synced to disk, answered by SavedBoot.
	SaveBoot struct{ Boot uint64 }

	// Fence moves the deadline: a call may start while now < At, unless there was an Isolated after the one that Cut
	// numbers. The watchdog cancels every lane at At, or at such an Isolated.
	Fence struct {
		At  Time
		Cut uint64
	}

	// Start asks for a lane, from the message after Checkpoint. The driver fills in the grant's functions.
	Start struct {
		Key Key
		ownership.Grant
	}

	// Drain asks a lane to finish the call in flight and stop, answered by Stopped.
	Drain struct{ Key Key }

	// Cancel asks a lane to end its call and stop at once, answered by Stopped.
	Cancel struct {
		Key   Key
		Cause error
	}

	// Committed: this much of a lane's progress is stored.
	Committed struct {
		Key      Key
		Epoch    uint64
		Progress ownership.Progress
	}

	// Alarm: a record is not what a node can have written. Text says what is wrong and what happens next. An operator
	// has to find what wrote it.
	Alarm struct {
		Key      Key
		Revision uint64
		Text     string
	}

	// Exit asks to end the process: Err says why this node must not continue.
	Exit struct{ Err error }

	// Finished follows Stop: every lane is joined, every lease handed over or given up, the session ended if possible.
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

	TTL   time.Duration // Life of a session revision.
	Renew time.Duration // Time between renewals.
	// Time between the fence and the end of the ttl: covers watchdog delay, kill and join.
	Margin              time.Duration
	WriteLimit          time.Duration // Longest time until a Write's outcome is reported.
	StabilizationWindow time.Duration // How long no node must have joined before newcomers are admitted to the plan.
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

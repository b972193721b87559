// Package ownership holds what the cluster, which decides who owns a partition, and the workers, which process it, say
// to each other: the grant that a lane starts with, and the progress that it reports.
package ownership

// AllKeys in Progress.Release stands for every parked key.
const AllKeys = "*"

// Kind says what the owner of a partition does for it.
type Kind int

// Kinds of ownership.
const (
	// Messages: the owner processes the partition's messages and reports its progress.
	Messages Kind = iota
	// Housekeeping: the owner looks after a topic. There is no progress to report, so an owner may start anywhere.
	Housekeeping
)

// Grant is what an owner knows about a partition when its lane starts.
type Grant struct {
	Kind      Kind
	Group     string
	Partition int
	Boot      uint64 // Boot number of the owner's session.
	Epoch     uint64 // Fencing token of every call that the lane starts.
	Progress
	Applied uint64 // ID of the last command that was applied to the partition; 0 if there was none.

	// MayStart checks the fence, right before every call. False: the lane starts no more calls and waits to be
	// cancelled or drained. It never blocks. nil always allows.
	MayStart func() bool
	// Wake says that the lane has progress to store at once. It never blocks. nil does nothing.
	Wake func()
}

// Progress is how far a lane has come: what its lease stores and the next owner continues from.
type Progress struct {
	Checkpoint uint64 // Messages of the partition with a stream sequence ≤ Checkpoint are finished. Only a seek lowers it.
	Attempt    int    // Failed attempts of the first message after Checkpoint.
	Paused     string // Why no message is handled; "" if not paused. A lane may pause, only a command resumes.
	Release    string // Keys, separated by blanks, whose parked messages go first, or AllKeys. A lane only removes keys.

	// DeadLetterSeq is a sequence in the stream of the group's dead letters. Those of the partition are not above it.
	DeadLetterSeq uint64
	// CheckDeadLetters says that a dead letter may be stored that neither DeadLetterSeq nor Attempt accounts for: its
	// owner died before it could record it, or the record was lost. Only a lane that has checked clears it.
	CheckDeadLetters bool
}

package worker

// Progress is how far a lane has come: what is stored in its lease, and what the next owner goes on from.
type Progress struct {
	Done    uint64 // Every message of the partition with a sequence ≤ Done is finished. Only a person's seek lowers it.
	Attempt int    // Attempts that the first message after Done has used up.
	Paused  string // Why no message is handled until a person resumes; "" if it is not paused.
	Release string // Keys whose parked messages are handled first, with blanks between, or ReleaseAll.
	Letters uint64 // Sequence among the group's dead letters: those of this partition are not above it.
	Unsure  bool   // Some may be: stored by an owner that died before it said so, or told of by a record that was lost.
}

// ReleaseAll stands for every parked key in Progress.Release.
const ReleaseAll = "*"

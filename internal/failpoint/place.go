package failpoint

// Place is a place in the program where a crash would be worst.
type Place string

// The places. Each is between two steps of which a crash may leave the first done and the second not.
const (
	Claimed      Place = "claimed"       // A lease was claimed, its lane not started.
	Renewed      Place = "renewed"       // The session was renewed, and the node does not know yet.
	HandedOver   Place = "handed-over"   // A lease was handed over, others not yet.
	Ended        Place = "ended"         // The session was ended, the process not.
	Handled      Place = "handled"       // The handler has succeeded, the checkpoint has not moved.
	Finished     Place = "finished"      // The checkpoint has moved, and is not stored.
	AttemptKept  Place = "attempt-kept"  // A failed attempt is stored, the next not made.
	LetterStored Place = "letter-stored" // A dead letter is stored, the checkpoint has not moved.
	Released     Place = "released"      // A parked message was handled, and is not removed.
	Requeued     Place = "requeued"      // A dead letter was published again, and is not removed.
	Asked        Place = "asked"         // A request was applied to a lease, its lane not started.
)

// Places lists them all.
func Places() []Place {
	return []Place{Claimed, Renewed, HandedOver, Ended, Handled, Finished, AttemptKept, LetterStored, Released, Requeued,
		Asked}
}

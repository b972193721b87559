// Package history judges a fault run. Its input is what publishers were told,
// every handler call with its start and end, and the faults that were
// injected. Its output is the list of guarantees that the run broke.
//
// The package is pure. All times are nanoseconds of the machine-wide
// monotonic clock (CLOCK_MONOTONIC), so that histories written by different
// processes of one machine can be compared; it never reads a clock itself.
// One history covers one topic and any number of its groups.
package history

// Outcome is what a publisher knows about one message.
type Outcome string

// The four outcomes of a publish.
const (
	Stored    Outcome = "stored"
	Duplicate Outcome = "duplicate"
	Refused   Outcome = "refused"
	Unknown   Outcome = "unknown"
)

// PublishRecord is the final outcome of one message at its publisher. Retries
// with the same id are one record.
type PublishRecord struct {
	// ID is the publisher's message id, unique in the run.
	ID  string `json:"id"`
	Key string `json:"key"`
	// Seq is the stream sequence of a stored or duplicate message, else 0.
	Seq     uint64  `json:"seq,omitempty"`
	Outcome Outcome `json:"outcome"`
	// Sent is when the first attempt was sent, Acked when the final outcome
	// was known; Sent ≤ Acked, in ns.
	Sent  int64 `json:"sent"`
	Acked int64 `json:"acked"`
}

func (p PublishRecord) acked() bool { return p.Outcome == Stored || p.Outcome == Duplicate }

// Call is one handler call as the handler itself saw it.
type Call struct {
	Node string `json:"node"`
	// Agent is the process id of the node's process, PID that of the process
	// that handled the call (the same for handlers inside the node).
	Agent     int    `json:"agent"`
	PID       int    `json:"pid"`
	Group     string `json:"group"`
	Partition int    `json:"partition"`
	Epoch     uint64 `json:"epoch"`
	Seq       uint64 `json:"seq"`
	Attempt   int    `json:"attempt"`
	Key       string `json:"key"`
	// ID is the idempotency key, which is the publisher's message id.
	ID string `json:"id"`
	// Start is written before the work, End after it and before the result is
	// sent; in ns. End is 0 if the call never ended (its process was killed),
	// Start is 0 if the log has an end without a start.
	Start int64 `json:"start"`
	End   int64 `json:"end,omitempty"`
	// Result is the handler's result ("ok", "retry", …), empty if the call never ended.
	Result string `json:"result,omitempty"`
}

func (c Call) ok() bool   { return c.End != 0 && c.Result == "ok" }
func (c Call) open() bool { return c.End == 0 }

// over returns the last known time of the call: its end, or its start if it
// never ended.
func (c Call) over() int64 { return max(c.Start, c.End) }

// partitionID names one partition of one group.
type partitionID struct {
	group     string
	partition int
}

func (c Call) partitionID() partitionID { return partitionID{c.Group, c.Partition} }

// owner is one process of one node.
type owner struct {
	node  string
	agent int
}

func (c Call) owner() owner { return owner{c.Node, c.Agent} }

// EventKind is what was done to a node.
type EventKind string

// The faults that a run injects. Start is the start of a process.
const (
	Start EventKind = "start"
	Kill  EventKind = "kill"
	Term  EventKind = "term"
	Stop  EventKind = "stop"
	Cont  EventKind = "cont"
	// Struck: another fault hit the node, after which others may take its
	// partitions although it is alive: it was cut off or starved, or its disk or
	// clock failed. It excuses no late call.
	Struck EventKind = "struck"
	// Sought: an operator moved the group by a seek, so the next epoch of each
	// partition may begin anywhere. Its node is empty.
	Sought EventKind = "sought"
)

// Event is one fault or start, at the moment before the signal was sent.
type Event struct {
	Kind EventKind `json:"kind"`
	Node string    `json:"node"`
	At   int64     `json:"at"`
}

// History is everything that is known about a run.
type History struct {
	Publishes []PublishRecord
	Calls     []Call
	Events    []Event
}

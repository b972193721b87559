// Package handler is the contract between lanes and handlers: a message, what a handler may answer, and what a kind
// of handler consists of. The kinds are packages below it.
package handler

import (
	"context"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
)

// Message is one call of a handler: a stored message and where, by whom and in which attempt it is
// handled.
type Message struct {
	ID             string              // "topic/partition/seq", the same on every redelivery.
	IdempotencyKey string              // The publisher's message id, or ID if there was none.
	Topic          string              // Topic that holds the message.
	Group          string              // Group that handles it.
	Node           string              // Node that makes this call.
	Partition      int                 // Partition of the key.
	Seq            uint64              // Sequence in the topic; grows within a partition, with gaps.
	Epoch          uint64              // Fencing token: a later owner of the partition has a higher one.
	Attempt        int                 // 1 for the first call, counting only failures of this message.
	MaxAttempts    int                 // The group's limit.
	Key            string              // Key token or tokens, joined by ".".
	Subject        string              // Subject the publisher used.
	Timeout        time.Duration       // How long the call may take.
	Published      time.Time           // When the broker stored it.
	Headers        map[string][]string // All of the publisher's headers.
	Traceparent    string              // W3C trace context, empty if the publisher sent none.
	Data           []byte              // Payload. The handler must not change it.

	// Released says that the message was parked and an operator released it: it comes out of the partition's order, though
	// not out of its key's.
	Released bool
}

// Status is the outcome of a call.
type Status string

// The statuses that a handler can return, and whether they count as a failed attempt of the message.
const (
	OK          Status = "ok"          // Done; the next message follows.
	Retry       Status = "retry"       // This message failed and may work later. Counts.
	Reject      Status = "reject"      // This message will never work.
	Unavailable Status = "unavailable" // The handler or what it needs is down. Does not count.
	Pause       Status = "pause"       // An operator must look. Does not count.
	Timeout     Status = "timeout"     // No answer by the deadline; then as Retry. Counts.
)

// Counts reports whether the answer counts as a failed attempt of the message.
func (s Status) Counts() bool { return s == Retry || s == Timeout }

// Result is a handler's answer to one message.
type Result struct {
	Status Status
	Reason string        // For operators: logs and status. Empty for OK.
	After  time.Duration // How long to wait before the next call; 0 leaves it to the group's backoff.
	Err    error         // Cause inside this process, if any; it adds nothing that an operator must see.
}

// Handler handles messages. Handle is called for one message of a partition at a time and for several partitions at
// once.
//
// The context ends at the message's timeout (except for a DeadlineOwner), and at once with another cause when the
// partition is lost or the node stops. Handle must then give up and return without delay: the next owner's call may
// start as soon as it has returned, and nothing of this call may continue after that. Its result counts even if it
// arrives late. A panic counts as Retry.
type Handler interface {
	Handle(ctx context.Context, m *Message) Result
}

// Func makes a function a Handler.
type Func func(ctx context.Context, m *Message) Result

// Handle calls f.
func (f Func) Handle(ctx context.Context, m *Message) Result { return f(ctx, m) }

// Batcher is a Handler that can take several messages of a partition in one call. Only a prefix of them can succeed.
type Batcher interface {
	// BatchSize is how many messages a call for the partition may have at present. With 1 or less Handle is called. It is
	// asked before every call and must not block.
	BatchSize(partition int) int
	// HandleBatch handles at least two messages of one partition, in the given order. Otherwise the rules of Handle apply;
	// the whole batch has the timeout of one message.
	HandleBatch(ctx context.Context, ms []*Message) BatchResult
}

// BatchResult is a handler's answer to a batch.
type BatchResult struct {
	OK int // How many messages, from the first on, are done.

	// Rest says that the call ended after the last of them for a reason that is not the others' fault: they are called
	// next. At least one message is done.
	Rest bool

	// Result is the outcome of the others; it is ignored if there are none, or with Rest. Only with Named is it about one
	// message, the first that is not done. Otherwise it is unknown which message failed: no attempt is counted, and the
	// messages are called one by one until the failing one shows.
	Result Result
	Named  bool
}

// Runner is a Handler that has something to run beside its calls: children, connections. Run is called once, before any
// other method, returns after ctx has ended and all of that is gone, or earlier with an error that ends the group. All
// calls have returned before ctx ends.
type Runner interface {
	Run(ctx context.Context) error
}

// Assignment is a partition that this node holds.
type Assignment struct {
	Partition int
	Epoch     uint64
	NextSeq   uint64 // No message below it will come in this epoch.
}

// Assigner is a Handler that wants to know which partitions it is responsible for. No call of Handle of the same
// partition is under way during either of them.
//
// Assign comes before the first message of an epoch; an error is handled like Unavailable and Assign is called again.
// Revoke comes after the last one, also if the partition is lost, and after an Assign that failed. Both return soon
// after ctx has ended.
type Assigner interface {
	Assign(ctx context.Context, a Assignment) error
	Revoke(ctx context.Context, a Assignment, reason string)
}

// DeadlineOwner is a Handler that enforces Message.Timeout itself and answers Timeout, because only it knows when its
// work on a message began. The contexts of its calls have no deadline; they still end when the partition is lost.
type DeadlineOwner interface {
	OwnsDeadline() bool
}

// Env is what a node gives to its handlers.
type Env struct {
	App   string // "leasehold/0.1.0".
	Node  string
	Group string
	Topic string

	// Conn and Subject are what the nats handler makes its requests with, and where they go.
	Conn    *nats.Conn
	Subject string

	// Lock is the open handler lock of the data directory, nil in tests. Child processes inherit it, so that the lock
	// stays taken until the last of them has gone, whatever becomes of the node.
	Lock   *os.File
	Logger hclog.Logger // nil logs nothing.
}

// LoggerFor returns a logger for the handler kind named.
func (e Env) LoggerFor(kind string) hclog.Logger {
	if e.Logger == nil {
		return hclog.NewNullLogger()
	}
	return e.Logger.Named(kind).With("group", e.Group)
}

// MaxBatch is the maximum number of messages in a call: a lane never has more at hand.
const MaxBatch = 512

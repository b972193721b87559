package sdk

import (
	"context"
	"encoding/json"
	"time"
)

// Handler is what a program does with messages. Only Handle is required.
type Handler struct {
	// Handle handles one message. See the package documentation for what the error means.
	Handle func(ctx context.Context, m *Message) error

	// HandleBatch, if set, handles at least two messages of one partition, in order. The context's deadline is one
	// timeout for all of them. nil means that all are done. A Partial error says how many are. Any other error leaves
	// all of them undone and blames none: unless it is Unavailable or Pause, they are then handled one by one, so a batch
	// must do no harm if its messages are repeated. Single messages still go to Handle.
	HandleBatch func(ctx context.Context, ms []*Message) error

	// Parallel has partitions handled side by side, instead of one call at a time.
	Parallel bool

	// Init, if set, is called once, before anything else, within the group's start_timeout. An error ends Run. The node
	// then starts the process again, and the group's partitions are unavailable until one succeeds.
	Init func(ctx context.Context, in Init) error

	// Assign, if set, is called before the first message of a partition in an epoch: load its state here. After an error
	// it is called again before each message, which is unavailable until Assign succeeds.
	Assign func(ctx context.Context, a Assignment) error

	// Revoke, if set, is called when no more messages of the partition will come in this epoch. The node waits a second
	// at most. It is not called if the process is killed, so the next owner must not rely on it.
	Revoke func(ctx context.Context, a Assignment, reason string)

	// Grace is how long Run waits for calls in flight that do not return when the node is gone. 0 stands for a second.
	Grace time.Duration
}

// Init is what the node says first.
type Init struct {
	App      string          `json:"app"` // Like "leasehold/0.1.0".
	Node     string          `json:"node"`
	Group    string          `json:"group"`
	Topic    string          `json:"topic"`
	MaxBatch int             `json:"max_batch"` // Most messages of a batch.
	Config   json.RawMessage `json:"config"`    // The table config of the group's handler: a JSON object.
}

// Assignment is a partition that this process handles from now on.
type Assignment struct {
	Partition int    `json:"partition"`
	Epoch     uint64 `json:"epoch"`    // Fencing token: every new owner of the partition has a higher one.
	NextSeq   uint64 `json:"next_seq"` // No message below it comes in this epoch. 0 for Revoke.
}

// Message is one call.
type Message struct {
	ID             string              `json:"id"`              // "topic/partition/seq", the same on every redelivery.
	IdempotencyKey string              `json:"idempotency_key"` // The publisher's message id, else ID.
	Topic          string              `json:"topic"`
	Group          string              `json:"group"`
	Node           string              `json:"node"`
	Partition      int                 `json:"partition"`
	Seq            uint64              `json:"seq"`     // Grows within a partition, with gaps.
	Epoch          uint64              `json:"epoch"`   // Fencing token of the partition.
	Attempt        int                 `json:"attempt"` // 1 for the first call; counts only failures of this message.
	MaxAttempts    int                 `json:"max_attempts"`
	Key            string              `json:"key"`
	Subject        string              `json:"subject"` // Subject that the publisher used.
	Headers        map[string][]string `json:"headers"`
	Traceparent    string              `json:"traceparent"` // W3C trace context, empty if there is none.
	Released       bool                `json:"released"`    // It was parked and an operator released it.
	Timeout        time.Duration       `json:"-"`           // How long the call may take.
	Time           time.Time           `json:"-"`           // When the broker stored it.
	Data           []byte              `json:"-"`           // Payload.
}

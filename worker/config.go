package worker

import (
	"cmp"
	"fmt"
	"time"

	"leasehold/internal/bytesize"
	"leasehold/internal/fielderr"
	"leasehold/internal/validname"
	"leasehold/worker/handler"
	"leasehold/worker/lane"
)

// Where a group that is new begins.
const (
	StartEarliest = "earliest" // At the oldest message that is still stored.
	StartLatest   = "latest"   // After the newest message at the moment the group is created.
)

// Config is one group: a [[group]] table. A zero value of any field stands for its default.
type Config struct {
	Name  string `toml:"name"`
	Topic string `toml:"topic"`
	// StartEarliest (default) or StartLatest; fixed when the group is created.
	Start   string        `toml:"start"`
	Handler HandlerConfig `toml:"handler"` // What handles the messages.
	// How often progress is stored; more often means fewer repeats after a crash.
	CommitInterval time.Duration `toml:"commit_interval"`
	Commit         string        `toml:"commit"`       // CommitInterval (default) or CommitEach.
	Timeout        time.Duration `toml:"timeout"`      // How long a call may take.
	MaxAttempts    int           `toml:"max_attempts"` // Failed calls of a message before on_exhausted applies.
	Backoff        lane.Backoff  `toml:"backoff"`      // Waits between the attempts of a message.
	// ExhaustedDeadLetter (default), ExhaustedBlock or ExhaustedPark.
	OnExhausted string        `toml:"on_exhausted"`
	DLQMaxBytes bytesize.Size `toml:"dlq_max_bytes"` // How much the group's dead letters may hold.
	// How long a hand-over waits for the call in flight; default Timeout.
	HandoverTimeout time.Duration `toml:"handover_timeout"`
}

// DefaultConfig returns a group's defaults. It is not valid by itself: name, topic and handler are the user's, and a
// HandoverTimeout of 0 stands for Timeout.
func DefaultConfig() Config {
	p := lane.DefaultPolicy()
	return Config{
		Start:          StartEarliest,
		CommitInterval: 100 * time.Millisecond,
		Commit:         p.Commit,
		Timeout:        p.Timeout,
		MaxAttempts:    p.MaxAttempts,
		Backoff:        p.Backoff,
		OnExhausted:    p.OnExhausted,
	}
}

// Policy returns what the group's lanes need of its config.
func (c Config) Policy() lane.Policy {
	return lane.Policy{
		Group: c.Name, Commit: c.Commit, Timeout: c.Timeout, MaxAttempts: c.MaxAttempts, Backoff: c.Backoff,
		OnExhausted: c.OnExhausted,
	}
}

// WithDefaults returns c with its zero fields filled in.
func (c Config) WithDefaults() Config {
	d, p := DefaultConfig(), c.Policy().WithDefaults()
	c.Start = cmp.Or(c.Start, d.Start)
	c.CommitInterval = cmp.Or(c.CommitInterval, d.CommitInterval)
	c.Commit, c.Timeout, c.MaxAttempts, c.Backoff, c.OnExhausted = p.Commit, p.Timeout, p.MaxAttempts, p.Backoff,
		p.OnExhausted
	c.HandoverTimeout = cmp.Or(c.HandoverTimeout, c.Timeout)
	c.Handler = c.Handler.WithDefaults()
	return c
}

// Validate returns every fault of a group that has its defaults, each a *fielderr.Error.
func (c Config) Validate() error {
	faults := fielderr.NewList(fmt.Sprintf("group %q: ", c.Name))
	fault := faults.Add
	if !validname.OK(c.Name) {
		fault("name", validname.Rule)
	}
	if c.Topic == "" {
		fault("topic", "must name a topic")
	}
	handler.OneOf(fault, "start", c.Start, StartEarliest, StartLatest)
	handler.OneOf(fault, "commit", c.Commit, lane.CommitInterval, lane.CommitEach)
	handler.Within(fault, "commit_interval", c.CommitInterval, 10*time.Millisecond, time.Minute)
	handler.Within(fault, "timeout", c.Timeout, 10*time.Millisecond, 24*time.Hour)
	handler.Within(fault, "handover_timeout", c.HandoverTimeout, 10*time.Millisecond, 24*time.Hour)
	if c.MaxAttempts < 1 {
		fault("max_attempts", "must be at least 1, is %d", c.MaxAttempts)
	}
	handler.OneOf(fault, "on_exhausted", c.OnExhausted, lane.ExhaustedDeadLetter, lane.ExhaustedBlock, lane.ExhaustedPark)
	if c.DLQMaxBytes < 0 {
		fault("dlq_max_bytes", "must not be negative")
	}
	c.Backoff.Validate(fault)
	c.Handler.validate(fault)
	return faults.Err()
}

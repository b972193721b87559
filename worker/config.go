package worker

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"leasehold/internal/bytesize"
	"leasehold/internal/fielderr"
	"leasehold/internal/validname"
)

// Where a group that is new begins.
const (
	StartEarliest = "earliest" // At the oldest message that is still stored.
	StartLatest   = "latest"   // After the newest message at the moment the group is created.
)

// When a group's progress is stored.
const (
	CommitInterval = "interval" // Every commit_interval, if it moved.
	CommitEach     = "each"     // After every message.
)

// What becomes of a message that has used up its attempts.
const (
	ExhaustedDeadLetter = "dead_letter" // It is set aside; the next one follows.
	ExhaustedBlock      = "block"       // The partition stays there: nothing is ever skipped.
	ExhaustedPark       = "park_key"    // It and every later one of its key are set aside, in order; other keys go on.
)

// Handler kinds of this version.
const (
	KindSubprocess = "subprocess"
	KindHTTP       = "http"
	KindNATS       = "nats"
	KindExec       = "exec"
	KindFile       = "file"
	KindLog        = "log"
	KindDiscard    = "discard"
)

// How the file handler syncs.
const (
	SyncNone = "none" // The operating system writes lines out when it likes.
	SyncEach = "each" // Every line is on the disk before its message is done.
)

// Config is one group: a [[group]] table. A zero value of any field stands for its default.
type Config struct {
	Name            string        `toml:"name"`
	Topic           string        `toml:"topic"`
	Start           string        `toml:"start"`            // StartEarliest (default) or StartLatest; fixed when the group is created.
	Handler         HandlerConfig `toml:"handler"`          // What handles the messages.
	CommitInterval  time.Duration `toml:"commit_interval"`  // How often progress is stored; more often means fewer repeats after a crash.
	Commit          string        `toml:"commit"`           // CommitInterval (default) or CommitEach.
	Timeout         time.Duration `toml:"timeout"`          // How long a call may take.
	MaxAttempts     int           `toml:"max_attempts"`     // Failed calls of a message before on_exhausted applies.
	Backoff         Backoff       `toml:"backoff"`          // Waits between the attempts of a message.
	OnExhausted     string        `toml:"on_exhausted"`     // ExhaustedDeadLetter (default), ExhaustedBlock or ExhaustedPark.
	DLQMaxBytes     bytesize.Size `toml:"dlq_max_bytes"`    // How much the group's dead letters may hold.
	HandoverTimeout time.Duration `toml:"handover_timeout"` // How long a hand-over waits for the call in flight; default Timeout.
}

// Backoff says how long to wait before attempt n + 1: initial × factor^(n-1), at most max, ± jitter.
type Backoff struct {
	Initial time.Duration `toml:"initial"`
	Max     time.Duration `toml:"max"`
	Factor  float64       `toml:"factor"` // ≥ 1.
	Jitter  float64       `toml:"jitter"` // Share of the wait, 0 ≤ jitter < 1, by which it may be shorter or longer.
}

// HandlerConfig is a group's handler table. Which keys mean something depends on the kind.
type HandlerConfig struct {
	Kind string `toml:"kind"`

	Command      []string          `toml:"command"`       // subprocess, exec: program and arguments.
	Processes    int               `toml:"processes"`     // subprocess: number of children; default: number of cores.
	StartTimeout time.Duration     `toml:"start_timeout"` // subprocess: how long a child may take to be ready, or to take a partition over.
	StopTimeout  time.Duration     `toml:"stop_timeout"`  // subprocess: from the stop line to SIGKILL.
	Env          map[string]string `toml:"env"`           // subprocess, exec: variables to set.
	PassEnv      []string          `toml:"pass_env"`      // subprocess, exec: names of the node's own variables to pass on.
	Config       map[string]any    `toml:"config"`        // subprocess: free table, sent to the child in its init line.

	Batch int `toml:"batch"` // subprocess, http, nats: most messages of a call; 1 is none of several.

	URL         string            `toml:"url"`          // http: where messages are posted to.
	Headers     map[string]string `toml:"headers"`      // http: headers of every request.
	SecretFiles []string          `toml:"secret_files"` // http: each holds a secret that signs requests; several while one is being changed.
	BearerFile  string            `toml:"bearer_file"`  // http: holds a token for the Authorization header.
	CAFile      string            `toml:"ca_file"`      // http: certificates to trust instead of the system's.
	CertFile    string            `toml:"cert_file"`    // http: certificate to show, with KeyFile.
	KeyFile     string            `toml:"key_file"`     // http: its private key.
	OKStatus    []int             `toml:"ok_status"`    // http, nats: statuses besides 2xx that mean ok.

	Path    string `toml:"path"`    // file: directory.
	Sync    string `toml:"sync"`    // file: SyncNone (default) or SyncEach.
	Payload bool   `toml:"payload"` // log: log payloads too.
}

// DefaultConfig returns a group's defaults. It is not valid by itself: name, topic and handler are the user's, and a
// HandoverTimeout of 0 stands for Timeout.
func DefaultConfig() Config {
	return Config{
		Start:          StartEarliest,
		CommitInterval: 100 * time.Millisecond,
		Commit:         CommitInterval,
		Timeout:        30 * time.Second,
		MaxAttempts:    8,
		Backoff:        DefaultBackoff(),
		OnExhausted:    ExhaustedDeadLetter,
	}
}

// DefaultBackoff returns the default waits: 0.5 s, 1 s, 2 s … 60 s, each ± 20 %.
func DefaultBackoff() Backoff {
	return Backoff{Initial: 500 * time.Millisecond, Max: time.Minute, Factor: 2, Jitter: 0.2}
}

// WithDefaults returns c with its zero fields filled in.
func (c Config) WithDefaults() Config {
	d := DefaultConfig()
	setDefault(&c.Start, d.Start)
	setDefault(&c.CommitInterval, d.CommitInterval)
	setDefault(&c.Commit, d.Commit)
	setDefault(&c.Timeout, d.Timeout)
	setDefault(&c.MaxAttempts, d.MaxAttempts)
	setDefault(&c.OnExhausted, d.OnExhausted)
	setDefault(&c.HandoverTimeout, c.Timeout)
	c.Backoff = c.Backoff.WithDefaults()
	c.Handler = c.Handler.WithDefaults()
	return c
}

// WithDefaults returns b with its zero fields filled in, the jitter only if all of it is zero: no jitter is a choice.
func (b Backoff) WithDefaults() Backoff {
	d := DefaultBackoff()
	if b == (Backoff{}) {
		return d
	}
	setDefault(&b.Initial, d.Initial)
	setDefault(&b.Max, max(d.Max, b.Initial))
	setDefault(&b.Factor, d.Factor)
	return b
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
	oneOf(fault, "start", c.Start, StartEarliest, StartLatest)
	oneOf(fault, "commit", c.Commit, CommitInterval, CommitEach)
	within(fault, "commit_interval", c.CommitInterval, 10*time.Millisecond, time.Minute)
	within(fault, "timeout", c.Timeout, 10*time.Millisecond, 24*time.Hour)
	within(fault, "handover_timeout", c.HandoverTimeout, 10*time.Millisecond, 24*time.Hour)
	if c.MaxAttempts < 1 {
		fault("max_attempts", "must be at least 1, is %d", c.MaxAttempts)
	}
	oneOf(fault, "on_exhausted", c.OnExhausted, ExhaustedDeadLetter, ExhaustedBlock, ExhaustedPark)
	if c.DLQMaxBytes < 0 {
		fault("dlq_max_bytes", "must not be negative")
	}
	c.Backoff.validate(fault)
	c.Handler.validate(fault)
	return faults.Err()
}

func (b Backoff) validate(fault faultFunc) {
	within(fault, "backoff.initial", b.Initial, time.Millisecond, time.Hour)
	within(fault, "backoff.max", b.Max, time.Millisecond, 24*time.Hour)
	if b.Max < b.Initial {
		fault("backoff.max", "must not be less than backoff.initial (%s), is %s", b.Initial, b.Max)
	}
	if !(b.Factor >= 1 && b.Factor <= 100) {
		fault("backoff.factor", "must be from 1 to 100, is %v", b.Factor)
	}
	if !(b.Jitter >= 0 && b.Jitter < 1) {
		fault("backoff.jitter", "must be at least 0 and less than 1, is %v", b.Jitter)
	}
}

// faultFunc takes a fault of the key named.
type faultFunc func(key, format string, args ...any)

func oneOf(fault faultFunc, key, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		fault(key, "must be %s, is %q", orList(allowed), value)
	}
}

func within(fault faultFunc, key string, value, low, high time.Duration) {
	if value < low || value > high {
		fault(key, "must be from %s to %s, is %s", low, high, value)
	}
}

// orList prints names as a choice: "a", "b" or "c".
func orList(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = fmt.Sprintf("%q", n)
	}
	if len(quoted) == 1 {
		return quoted[0]
	}
	return strings.Join(quoted[:len(quoted)-1], ", ") + " or " + quoted[len(quoted)-1]
}

// setDefault gives *v the default d if it is zero.
func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

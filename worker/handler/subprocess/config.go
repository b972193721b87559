package subprocess

import (
	"cmp"
	"encoding/json"
	"runtime"
	"time"

	"leasehold/worker/handler"
	"leasehold/worker/handler/process"
)

// Config is the config of the kind "subprocess". A zero value of any field stands for its default.
type Config struct {
	Command   []string `toml:"command"`   // Program and arguments.
	Processes int      `toml:"processes"` // Number of children; default: number of cores.
	// Maximum size of a batch for a child that takes batches; default 100.
	Batch int `toml:"batch"`
	// How long a child may take to be ready, or to take a partition over; default 10 s.
	StartTimeout time.Duration     `toml:"start_timeout"`
	StopTimeout  time.Duration     `toml:"stop_timeout"` // From the stop line to SIGKILL; default 5 s.
	Env          map[string]string `toml:"env"`          // Variables to set.
	PassEnv      []string          `toml:"pass_env"`     // Names of the node's own variables to pass on.
	Config       map[string]any    `toml:"config"`       // Free table, sent to the child in its init line.
}

// Kind has messages handled by long-lived child processes.
var Kind = handler.NewKind(kindName, New, handler.ConformanceProtocol)

const kindName = "subprocess"

func (c Config) program() process.Program {
	return process.Program{Command: c.Command, Env: c.Env, PassEnv: c.PassEnv}
}

// Defaulted returns c with its zero fields filled in.
func (c Config) Defaulted() handler.Config {
	c.Processes = cmp.Or(c.Processes, runtime.GOMAXPROCS(0))
	c.Batch = cmp.Or(c.Batch, 100)
	c.StartTimeout = cmp.Or(c.StartTimeout, 10*time.Second)
	c.StopTimeout = cmp.Or(c.StopTimeout, 5*time.Second)
	return c
}

// Validate reports every fault by its key.
func (c Config) Validate(fault handler.FaultFunc) {
	handler.ValidateBatch(fault, c.Batch)
	c.program().Validate(fault, "")
	if c.Processes < 1 || c.Processes > 1024 {
		fault("processes", "must be from 1 to 1024, is %d", c.Processes)
	}
	handler.Within(fault, "start_timeout", c.StartTimeout, 10*time.Millisecond, time.Hour)
	handler.Within(fault, "stop_timeout", c.StopTimeout, 10*time.Millisecond, time.Hour)
	if _, err := json.Marshal(c.Config); err != nil {
		fault("config", "cannot be sent to the child: %s", err)
	}
}

// Resources are the program.
func (c Config) Resources() handler.Resources { return handler.Resources{Command: c.Command} }

// WithPaths returns c: a command is looked up when it is started.
func (c Config) WithPaths(_, _ func(path string) string) handler.Config { return c }

// CheckFiles finds no fault: the config names no files to read.
func (c Config) CheckFiles() error { return nil }

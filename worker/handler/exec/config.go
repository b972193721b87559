package exec

import (
	"leasehold/worker/handler"
	"leasehold/worker/handler/process"
)

// Config is the config of the kind "exec".
type Config struct {
	Command []string          `toml:"command"`  // Program and arguments.
	Env     map[string]string `toml:"env"`      // Variables to set.
	PassEnv []string          `toml:"pass_env"` // Names of the node's own variables to pass on.
}

// Kind starts a program for each message.
var Kind = handler.NewKind(kindName, New, handler.ConformanceCalls)

const kindName = "exec"

func (c Config) program() process.Program {
	return process.Program{Command: c.Command, Env: c.Env, PassEnv: c.PassEnv}
}

// Defaulted returns c, which has no defaults.
func (c Config) Defaulted() handler.Config { return c }

// Validate reports every fault by its key.
func (c Config) Validate(fault handler.FaultFunc) { c.program().Validate(fault, varPrefix) }

// Resources are the program.
func (c Config) Resources() handler.Resources { return handler.Resources{Command: c.Command} }

// WithPaths returns c: a command is looked up when it is started.
func (c Config) WithPaths(_, _ func(path string) string) handler.Config { return c }

// CheckFiles finds no fault: the config names no files to read.
func (c Config) CheckFiles() error { return nil }

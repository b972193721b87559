package worker

// ExecConfig is the config of the kind "exec".
type ExecConfig struct {
	Command []string          `toml:"command"`  // Program and arguments.
	Env     map[string]string `toml:"env"`      // Variables to set.
	PassEnv []string          `toml:"pass_env"` // Names of the node's own variables to pass on.
}

// ExecKind starts a program for each message.
var ExecKind = NewKind(kindExec, NewExec, ConformanceCalls)

const kindExec = "exec"

func (c ExecConfig) program() program {
	return program{Command: c.Command, Env: c.Env, PassEnv: c.PassEnv}
}

// Defaulted returns c, which has no defaults.
func (c ExecConfig) Defaulted() KindConfig { return c }

// Validate reports every fault by its key.
func (c ExecConfig) Validate(fault faultFunc) { c.program().validate(fault, varPrefix) }

// Resources are the program.
func (c ExecConfig) Resources() Resources { return Resources{Command: c.Command} }

// WithPaths returns c: a command is looked up when it is started.
func (c ExecConfig) WithPaths(_, _ func(path string) string) KindConfig { return c }

// CheckFiles finds no fault: the config names no files to read.
func (c ExecConfig) CheckFiles() error { return nil }

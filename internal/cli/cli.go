// Package cli is the command line: one file a command.
//
// Data goes to stdout; progress, notes and errors go to stderr. A command ends with one of the exit codes in exit.go,
// and an error says what to do next.
package cli

import (
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"leasehold/internal/cli/screen"
	"leasehold/internal/config"
	"leasehold/internal/devcluster"
	"leasehold/internal/node"
)

// RunNode is a node's life: it returns nil after a clean stop.
type RunNode func(ctx context.Context, o node.Options) error

// App is a command line and the world around it.
type App struct {
	Run      RunNode
	Service  func(context.Context) context.Context // Of a command that runs until it is stopped; nil changes nothing.
	In       io.Reader
	Out, Err io.Writer
	Program  string // How the user calls this binary; empty: leasehold.

	lasting        atomic.Bool   // The command runs until it is stopped.
	interruptLimit time.Duration // For tests; 0: the usual.

	configPath  string // --config
	contextName string // --context
	addr        string // --addr
	tokenFile   string // --token-file
	caFile      string // --tls-ca

	asked      *found // The agent that the command asks, for its errors.
	passedOver string // What in the current directory was not used, and why; may be empty.
}

// defaultConfig is where a node's config is if nobody says otherwise.
const defaultConfig = "/etc/leasehold/config.toml"

// whereFound says in one phrase what findAgent does if nobody names an agent.
const whereFound = "the context in use, a node of " + devcluster.DefaultDir +
	", the config in this directory or of this machine"

// The environment's --addr, --token-file and --tls-ca.
const (
	addrVariable  = "LEASEHOLD_ADDR"
	tokenVariable = "LEASEHOLD_TOKEN_FILE"
	caVariable    = "LEASEHOLD_TLS_CA"
)

// Main runs one command and returns its exit code.
func (a *App) Main(ctx context.Context, args []string) int {
	out, errs := screen.Of(a.Out), screen.Of(a.Err)
	defer out.Flush()
	defer errs.Flush()
	if a.program() != productName {
		out.SetProgram(a.program())
		errs.SetProgram(a.program())
	}
	a.Out, a.Err = out, errs
	root := a.root() //nolint:contextcheck // Commands get ctx from execute, as cobra hands it out.
	root.SetArgs(args)
	root.SetIn(a.In)
	cmd, err := a.execute(ctx, root)
	if err == nil {
		return exitOK
	}
	var e *Error
	if !errors.As(err, &e) { // Everything that our commands return is one; the rest is cobra's about the arguments.
		e = &Error{Code: exitUsage, Err: err, Hint: "`" + cmd.CommandPath() + " --help` for usage"}
	}
	a.addAgent(e)
	printError(a.Err, e, wantsJSON(cmd) || asksJSON(args))
	return e.Code
}

// addAgent says of an error which agent was asked, and by what it was found. Wrong arguments are wrong with any.
func (a *App) addAgent(e *Error) {
	if a.asked == nil || e.Code == exitUsage {
		return
	}
	e.Agent = a.asked.String()
	if a.passedOver != "" {
		e.Agent += "; " + a.passedOver
	}
}

// interruptLimit is how long a command may go on after a signal: more than publishing waits for the answers to what it
// has sent.
const interruptLimit = 12 * time.Second

// execute runs a command. One that a signal should have ended, and that sits in a read of a pipe or a terminal, is left
// there: the process ends. Those that run until they are stopped have bounds of their own.
func (a *App) execute(ctx context.Context, root *cobra.Command) (*cobra.Command, error) {
	type outcome struct {
		cmd *cobra.Command
		err error
	}
	ended := make(chan outcome, 1)
	go func() {
		cmd, err := root.ExecuteContextC(ctx)
		ended <- outcome{cmd, err}
	}()
	select {
	case o := <-ended:
		return o.cmd, o.err
	case <-ctx.Done():
	}
	limit := time.NewTimer(cmp.Or(a.interruptLimit, interruptLimit))
	defer limit.Stop()
	for {
		select {
		case o := <-ended:
			return o.cmd, o.err
		case <-limit.C:
			if !a.lasting.Load() {
				return root, failure(exitFailed, "", "interrupted while reading or writing: %w", context.Cause(ctx))
			}
		}
	}
}

// service is the context of a command that runs until it is stopped.
func (a *App) service(ctx context.Context) context.Context {
	a.lasting.Store(true)
	if a.Service == nil {
		return ctx
	}
	return a.Service(ctx)
}

func (a *App) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "leasehold",
		Short: "An ordered message processor with its own broker, in one binary",
		Long: "Leasehold keeps messages on three nodes and hands them to your handler: per key in order, one at a time,\n" +
			"each partition by one node, taken over by the others when that node is gone.",
		Example: "  leasehold dev                                   three nodes on this machine, to try it out\n" +
			"  leasehold pub events --key c-17 'hello'         publish one message\n" +
			"  leasehold status                                show cluster health",
		Args:          cobra.NoArgs,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetVersionTemplate(thisVersion().line() + "\n")
	root.AddCommand(a.agentCommand(), a.configCommand(), a.contextCommand(), a.devCommand(), a.dlqCommand(),
		a.groupCommand(), a.initCommand(), a.nodeCommand(), a.pauseCommand(), a.pubCommand(), a.resumeCommand(),
		a.seekCommand(), a.statusCommand(), a.tlsCommand(), a.userCommand(), a.topicCommand(), a.versionCommand())
	root.AddCommand(a.tapCommand(), a.explainCommand(), a.handlerCommand())
	limitAsking(root)
	a.completeArguments(root)
	a.completeTree(root)
	return root
}

// action wraps what a command does so that every error of it has an exit code.
func action(run func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if err := run(cmd, args); err != nil {
			return asError(err)
		}
		return nil
	}
}

// group is a command that only holds others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, Example: commands[0].Example, RunE: showHelp}
	cmd.AddCommand(commands...)
	return cmd
}

// noConfigHint says how to come by a config.
func noConfigHint() string {
	if isConfig(localConfig) {
		return "name the one in this directory: --config " + localConfig
	}
	return "name the file with --config, make one with `leasehold init`, or try leasehold out with `leasehold agent --dev`"
}

// configError says what to do about a config that cannot be read.
func (a *App) configError(err error) error {
	var faults *config.Error
	switch {
	case errors.As(err, &faults):
		return err
	case errors.Is(err, os.ErrNotExist):
		return &Error{Code: exitUsage, Err: err, Hint: noConfigHint()}
	case errors.Is(err, os.ErrPermission):
		return &Error{Code: exitNotAllowed, Err: err, Hint: "run this as the user that runs the agent, or give --addr"}
	}
	return &Error{Code: exitUsage, Err: err}
}

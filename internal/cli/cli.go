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

	"leasehold/internal/api"
	"leasehold/internal/config"
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

	lasting        atomic.Bool   // The command runs until it is stopped.
	interruptLimit time.Duration // For tests; 0: the usual.

	configPath string // --config
	addr       string // --addr
	tokenFile  string // --token-file
	caFile     string // --tls-ca
}

// defaultConfig is where a node's config is if nobody says otherwise.
const defaultConfig = "/etc/leasehold/config.toml"

// The environment's --addr, --token-file and --tls-ca.
const (
	addrVariable  = "LEASEHOLD_ADDR"
	tokenVariable = "LEASEHOLD_TOKEN_FILE"
	caVariable    = "LEASEHOLD_TLS_CA"
)

// Main runs one command and returns its exit code.
func (a *App) Main(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	cmd, err := a.execute(ctx, root)
	if err == nil {
		return exitOK
	}
	var e *Error
	if !errors.As(err, &e) { // Everything that our commands return is one; the rest is cobra's about the arguments.
		e = &Error{Code: exitUsage, Err: err, Hint: "`" + cmd.CommandPath() + " --help` shows how to call it"}
	}
	printError(a.Err, e, wantsJSON(cmd) || asksJSON(args))
	return e.Code
}

// interruptLimit is how long a command may go on after a signal: more than publishing waits for the answers to what it has sent.
const interruptLimit = 12 * time.Second

// execute runs a command. One that a signal should have ended, and that sits in a read of a pipe or a terminal, is left there:
// the process ends. Those that run until they are stopped have bounds of their own.
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
				return root, failure(exitFailed, "", "interrupted in the middle of reading or writing: %w", context.Cause(ctx))
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
			"  leasehold status                                is it fine?",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	flags := root.PersistentFlags()
	flags.StringVar(&a.configPath, "config", defaultConfig, "config file of the node")
	flags.StringVar(&a.addr, "addr", os.Getenv(addrVariable), "agent to ask: host:port, https://host:port, or the path of its socket (default: the socket in the config's data_dir; environment: "+addrVariable+")")
	flags.StringVar(&a.tokenFile, "token-file", os.Getenv(tokenVariable), "file with the token for an agent on another machine (environment: "+tokenVariable+")")
	flags.StringVar(&a.caFile, "tls-ca", os.Getenv(caVariable), "PEM `file` of the CA that nodes' certificates must come from; on a node, leasehold tls ca prints it (environment: "+caVariable+")")
	root.AddCommand(a.agentCommand(), a.configCommand(), a.devCommand(), a.dlqCommand(), a.groupCommand(), a.initCommand(), a.nodeCommand(), a.pauseCommand(), a.pubCommand(), a.resumeCommand(), a.seekCommand(), a.statusCommand(), a.tlsCommand(), a.userCommand(),
		a.topicCommand(), a.versionCommand())
	root.AddCommand(a.tapCommand(), a.explainCommand(), a.handlerCommand())
	a.completeArguments(root)
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
	cmd := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, Example: commands[0].Example, RunE: func(cmd *cobra.Command, _ []string) error {
		return cmd.Help()
	}}
	cmd.AddCommand(commands...)
	return cmd
}

// defaultHTTP is asked if there is neither a config nor an address.
const defaultHTTP = "127.0.0.1:8222"

// client finds the agent to ask.
func (a *App) client(cmd *cobra.Command) (*api.Client, error) {
	flagged := cmd.Flag("config").Changed && !cmd.Flag("addr").Changed // A flag goes before the environment.
	if a.addr != "" && !flagged {
		return a.nodeClient(a.addr)
	}
	c, err := config.Load(a.configPath)
	if err == nil {
		return api.NewClient(c.SocketPath()), nil
	}
	if errors.Is(err, os.ErrNotExist) && !cmd.Flag("config").Changed {
		return a.nodeClient(defaultHTTP)
	}
	return nil, a.configError(err)
}

// configError says what to do about a config that cannot be read.
func (a *App) configError(err error) error {
	var faults *config.Error
	switch {
	case errors.As(err, &faults):
		return err
	case errors.Is(err, os.ErrNotExist):
		return &Error{Code: exitUsage, Err: err, Hint: "name the file with --config, or make one with `leasehold init`"}
	case errors.Is(err, os.ErrPermission):
		return &Error{Code: exitNotAllowed, Err: err, Hint: "run this as the user that runs the agent, or give --addr"}
	}
	return &Error{Code: exitUsage, Err: err}
}

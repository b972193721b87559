package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"leasehold/internal/cli/screen"
	"leasehold/internal/config"
	"leasehold/internal/devcluster"
	"leasehold/internal/logsink"
	"leasehold/internal/node"
)

func (a *App) agentCommand() *cobra.Command {
	var dev bool
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run a node in the foreground",
		Long: "Runs a node in the foreground and logs to stderr. SIGTERM or ^C stops it cleanly: calls in flight finish " +
			"and\n" +
			"partitions are handed over; a second signal ends it at once. SIGHUP stops it cleanly too, with exit code 129, so " +
			"that a\n" +
			"service manager restarts it. Exit codes: 0 clean stop, 1 failed, 2 config, 129 SIGHUP.\n" +
			"With --dev it needs no config: it runs a single node in ./leasehold-dev, with a sample topic, to try things out.",
		Example: "  leasehold agent --config /etc/leasehold/config.toml\n  leasehold agent --dev",
		Args:    cobra.NoArgs,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			switch {
			case dev && changed(cmd, "config"):
				return usage("--dev and --config: use only one; --dev has its own config in %s", devcluster.DefaultDir)
			case dev:
				return a.runDevAgent(cmd)
			}
			return a.runAgent(cmd.Context(), func() (*config.Config, error) {
				c, err := config.Load(a.configPath)
				if err != nil {
					return nil, a.configError(err)
				}
				return c, nil
			})
		}),
	}
	cmd.Flags().BoolVar(&dev, "dev", false, "run a single node in "+devcluster.DefaultDir+", without a config")
	return cmd
}

// ErrHangup is the cause of a context that SIGHUP has ended. As with other signals that is a wish and no fault.
var ErrHangup = fmt.Errorf("SIGHUP: %w", context.Canceled)

// lastWords bounds how long the end of the process waits for what reads its log.
const lastWords = 2 * time.Second

// runAgent runs the node of a config. Whatever it writes goes through a sink: a log that nobody reads must not hold up
// a node, nor the end of one.
func (a *App) runAgent(ctx context.Context, load func() (*config.Config, error)) error {
	ctx = a.service(ctx)
	stderr := screen.Of(a.Err).Raw() // The end of the command must not wait for a write of the log.
	c, err := load()
	if err != nil {
		return a.lastError(newLogSink(config.LogSection{}, stderr), asError(err))
	}
	sink := newLogSink(c.Log, stderr)
	log := newLogger(c.Log, sink)
	defer context.AfterFunc(ctx, func() { logHangup(ctx, log) })()
	err = a.Run(ctx, node.Options{Config: c, Logger: log, Log: sink, Version: version})
	// Whoever reads the log by machine finds the reason there.
	if c.Log.Format == "json" && err != nil && !isConfigFault(err) {
		log.Error("the node ended", "error", err)
		sink.Close(lastWords)
		return &Error{Code: agentCode(ctx, err), Err: err, Shown: true}
	}
	return a.lastError(sink, agentError(ctx, err))
}

// lastError writes why the agent ends, if it is an error, and all that is left to write.
func (a *App) lastError(sink *logsink.Sink, e *Error) error {
	defer sink.Close(lastWords)
	if e == nil {
		return nil
	}
	printError(sink, e, false)
	e.Shown = true
	return e
}

func isConfigFault(err error) bool {
	var faults *config.Error
	return errors.As(err, &faults)
}

// agentError is what the agent ends with, nil after a clean stop that was asked for.
func agentError(ctx context.Context, err error) *Error {
	switch code := agentCode(ctx, err); {
	case code == exitHangup && err == nil:
		return &Error{Code: code, Err: ErrHangup, Shown: true}
	case err == nil:
		return nil
	case isConfigFault(err):
		return asError(err)
	default:
		return &Error{Code: code, Err: err}
	}
}

// agentCode is the agent's exit code. A stop by SIGHUP is a failure to the service manager, which then starts the node
// again: who sends one wants the config to be read, or has lost a terminal.
func agentCode(ctx context.Context, err error) int {
	switch {
	case errors.Is(err, node.ErrConfig):
		return exitUsage
	case err != nil:
		return exitFailed
	case errors.Is(context.Cause(ctx), ErrHangup):
		return exitHangup
	}
	return exitOK
}

func logHangup(ctx context.Context, log hclog.Logger) {
	if errors.Is(context.Cause(ctx), ErrHangup) {
		log.Warn("SIGHUP: a running node does not read its config again, so it stops; start it again to apply changes",
			"exit_code", exitHangup)
	}
}

// newLogSink puts a sink in front of w that reports dropped lines as the logger would.
func newLogSink(c config.LogSection, w io.Writer) *logsink.Sink {
	return logsink.Open(w, func(dropped uint64) []byte {
		var line bytes.Buffer
		newLogger(c, &line).Warn("log lines dropped: stderr did not take them; check what reads it, or the disk that it "+
			"goes to", "lines", dropped)
		return line.Bytes()
	})
}

func newLogger(c config.LogSection, w io.Writer) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{
		Name:       "leasehold",
		Level:      hclog.LevelFromString(c.Level),
		Output:     w,
		JSONFormat: c.Format == "json",
	})
}

package cli

import (
	"context"
	"errors"
	"io"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"leasehold/internal/config"
	"leasehold/internal/node"
)

func (a *App) agentCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "agent",
		Short: "Run a node in the foreground",
		Long: "Runs a node in the foreground and logs to stderr. SIGTERM or ^C stops it cleanly: calls in flight finish and\n" +
			"partitions are handed over; a second signal ends it at once. Exit codes: 0 clean stop, 1 failed, 2 config.",
		Example: "  leasehold agent --config /etc/leasehold/config.toml",
		Args:    cobra.NoArgs,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			return a.runAgent(cmd.Context())
		}),
	}
}

func (a *App) runAgent(ctx context.Context) error {
	c, err := config.Load(a.configPath)
	if err != nil {
		return a.configError(err)
	}
	log := newLogger(c.Log, a.Err)
	err = a.Run(ctx, c, log, version)
	var faults *config.Error
	if err == nil || errors.As(err, &faults) {
		return err
	}
	code := exitFailed
	if errors.Is(err, node.ErrConfig) {
		code = exitUsage
	}
	if c.Log.Format == "json" { // Whoever reads the log by machine finds the reason there, and no line that is no JSON.
		log.Error("the node ended", "error", err)
		return &Error{Code: code, Err: err, Shown: true}
	}
	return &Error{Code: code, Err: err}
}

func newLogger(c config.LogSection, w io.Writer) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{
		Name:       "leasehold",
		Level:      hclog.LevelFromString(c.Level),
		Output:     w,
		JSONFormat: c.Format == "json",
	})
}

package cli

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/spf13/cobra"
)

// asksAgents are the commands that ask an agent, or hold such commands. Those with a --timeout of their own are not
// among them.
var asksAgents = []string{"dlq", "explain", "group", "node", "pause", "resume", "seek", "tap", "topic"}

// limitAsking gives them the flag --timeout.
func limitAsking(root *cobra.Command) {
	for _, cmd := range root.Commands() {
		if !slices.Contains(asksAgents, cmd.Name()) {
			continue
		}
		if cmd.HasSubCommands() {
			limited(cmd.Commands()...)
		} else {
			limited(cmd)
		}
	}
}

// limited gives commands the flag --timeout, which bounds all that they ask and wait for together.
func limited(commands ...*cobra.Command) {
	for _, cmd := range commands {
		var limit time.Duration
		limitVar(cmd, &limit, "timeout", 0,
			"give up after this long, with exit code 6 (default: only the command's own limits)")
		run := cmd.RunE
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if limit == 0 {
				return run(cmd, args)
			}
			return runLimited(cmd, args, limit, run)
		}
	}
}

func runLimited(cmd *cobra.Command, args []string, limit time.Duration,
	run func(*cobra.Command, []string) error) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), limit)
	defer cancel()
	cmd.SetContext(ctx)
	err := run(cmd, args)
	var e *Error
	if err == nil || !timedOut(ctx) || errors.As(err, &e) && (e.Shown || e.Code == exitTimeout) {
		return err
	}
	return failure(exitTimeout, "`leasehold status` shows whether the cluster works; --timeout waits longer",
		"%s: not done within %s", cmd.CommandPath(), limit)
}

// timedOut reports whether --timeout has ended the context, and not the user.
func timedOut(ctx context.Context) bool { return errors.Is(ctx.Err(), context.DeadlineExceeded) }

package cli

import (
	"context"
	"os"

	"github.com/hashicorp/go-hclog"

	"leasehold/internal/config"
	"leasehold/internal/memory"
	"leasehold/internal/node"
)

// Main runs the command that the arguments name, with the process's own standard streams, and returns its exit code.
func Main(ctx context.Context, args []string) int {
	app := &App{Run: runNode, In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Program: calledAs(os.Args[0])}
	return app.Main(ctx, args)
}

func runNode(ctx context.Context, c *config.Config, log hclog.Logger, version string) error {
	memory.SetLimit(log)
	return node.Run(ctx, node.Options{Config: c, Logger: log, Version: version})
}

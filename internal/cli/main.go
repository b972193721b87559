package cli

import (
	"context"
	"os"

	"leasehold/internal/memory"
	"leasehold/internal/node"
)

// Main runs the command that the arguments name, with the process's own standard streams, and returns its exit code. A
// command that runs until it is stopped gets its context from service, which handles the signals that only end others.
func Main(ctx context.Context, args []string, service func(context.Context) context.Context) int {
	app := &App{Run: runNode, Service: service, In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Program: calledAs(os.Args[0])}
	return app.Main(ctx, args)
}

func runNode(ctx context.Context, o node.Options) error {
	memory.SetLimit(o.Logger)
	return node.Run(ctx, o)
}

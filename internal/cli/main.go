package cli

import (
	"context"
	"os"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"leasehold/internal/memory"
	"leasehold/internal/node"
)

// Main runs the command that the arguments name, with the process's own standard streams, and returns its exit code. A
// command that runs until it is stopped gets its context from service, which handles the signals that only end others.
func Main(ctx context.Context, args []string, service func(context.Context) context.Context) int {
	app := &App{Run: runNode, Service: service, In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		Program: calledAs(os.Args[0])}
	return app.Main(ctx, args)
}

func runNode(ctx context.Context, o node.Options) error {
	hideMemory(o.Logger)
	memory.SetLimit(o.Logger)
	return node.Run(ctx, o)
}

// hideMemory closes this process's memory, environment and descriptors to others of its user, handlers among them, and
// leaves no core file: secrets are in all of it. A program that is started from here is not meant.
func hideMemory(log hclog.Logger) {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		log.Warn("handlers can read this process's memory: prctl failed", "error", err)
	}
}

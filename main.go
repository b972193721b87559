// Leasehold is an ordered message processor with its own clustered broker.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"leasehold/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // From then on a second signal does what signals do: it ends the process at once.
	os.Exit(cli.Main(ctx, os.Args[1:]))
}

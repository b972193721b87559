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
	os.Exit(cli.Main(ctx, os.Args[1:], service))
}

// service has a process outlive the reader of its output and stop cleanly when its terminal goes, however often it is
// told.
func service(ctx context.Context) context.Context {
	// Or Go ends it at the first EPIPE. Ignoring it would be inherited by handlers.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	if signal.Ignored(syscall.SIGHUP) { // As nohup has it.
		return ctx
	}
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	ctx, hangUp := context.WithCancelCause(ctx)
	go func() { <-hangup; hangUp(cli.ErrHangup) }()
	return ctx
}

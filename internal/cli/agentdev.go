package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"leasehold/internal/api"
	"leasehold/internal/config"
)

// runDevAgent runs a node on its own in ./leasehold-dev: `dev --nodes 1` in one process, with its log in front of the
// user.
func (a *App) runDevAgent(cmd *cobra.Command) error {
	dir, err := filepath.Abs(defaultDevDir)
	if err != nil {
		return err
	}
	n, err := a.prepareDevAgent(cmd, dir)
	if err != nil {
		return err
	}
	defer os.Remove(n.pidFile())
	c, err := config.Load(n.config())
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(cmd.Context())
	var greeting sync.WaitGroup
	greeting.Go(func() { a.greet(ctx, n, c) })
	err = a.runAgent(cmd.Context(), func() (*config.Config, error) { return c, nil })
	stop()
	greeting.Wait()
	return err
}

// prepareDevAgent writes the node's files as `dev` does, and notes this process as the node.
func (a *App) prepareDevAgent(cmd *cobra.Command, dir string) (devNode, error) {
	unlock, err := lockDev(dir)
	if err != nil {
		return devNode{}, err
	}
	defer unlock()
	f := devFlags{dir: defaultDevDir, sample: aloneTopics, ports: a.program() + " dev --nodes 1 ", nodes: 1, natsPort: devNATSPort, clusterPort: devClusterPort, httpPort: devHTTPPort}
	if last, err := readDevRecord(dir); err != nil || last.Nodes > 1 {
		if err == nil {
			err = failure(exitUsage, "start it with `leasehold dev`, or go to another directory", "%s holds a cluster of %s", defaultDevDir, count(last.Nodes, "node"))
		}
		return devNode{}, err
	}
	nodes, err := a.prepareDev(cmd, dir, f)
	if err != nil {
		removeIfUnused(dir)
		return devNode{}, err
	}
	return nodes[0], nodes[0].writePID(os.Getpid())
}

// greetEvery is how often the node is asked whether it is ready.
const greetEvery = 100 * time.Millisecond

// greet says what to type next, once the node is ready.
func (a *App) greet(ctx context.Context, n devNode, c *config.Config) {
	tick := time.NewTicker(greetEvery)
	defer tick.Stop()
	for {
		if reasons, err := api.NewClient(n.socket()).Ready(ctx); err == nil && len(reasons) == 0 {
			break
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
	fmt.Fprintf(a.Out, "\nReady: one node, NATS on %s, HTTP on %s, data in %s\n", c.Server.Listen, c.HTTP.Listen, shortPath(n.dir))
	fmt.Fprintln(a.Out, "In another terminal, in this directory:")
	if !a.findsDev(ctx, []devNode{n}) {
		fmt.Fprintf(a.Out, "  export %s=%s\n", addrVariable, shellWord(shortPath(n.socket())))
	}
	if topic := firstTopic(n); topic != "" {
		fmt.Fprintf(a.Out, "  %[1]s pub %[2]s --key c-17 hello\n  %[1]s tap %[2]s\n", a.program(), shellWord(topic))
	}
	fmt.Fprintf(a.Out, "  %s status\n", a.program())
	fmt.Fprintf(a.Out, "For topics and handlers of your own, edit %s and start this again. ^C stops the node.\n\n", shortPath(n.config()))
}

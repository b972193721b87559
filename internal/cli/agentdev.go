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
	"leasehold/internal/devcluster"
)

// runDevAgent runs a node on its own in ./leasehold-dev: `dev --nodes 1` in one process, with its log in front of the
// user.
func (a *App) runDevAgent(cmd *cobra.Command) error {
	dir, err := filepath.Abs(devcluster.DefaultDir)
	if err != nil {
		return err
	}
	n, err := a.prepareDevAgent(cmd, dir)
	if err != nil {
		return err
	}
	defer os.Remove(n.PIDFile())
	c, err := config.Load(n.Config())
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
func (a *App) prepareDevAgent(cmd *cobra.Command, dir string) (devcluster.Node, error) {
	unlock, err := lockDev(dir)
	if err != nil {
		return devcluster.Node{}, err
	}
	defer unlock()
	f := devFlags{dir: devcluster.DefaultDir, sample: aloneTopics, ports: a.program() + " dev --nodes 1 ", nodes: 1,
		natsPort: devNATSPort, clusterPort: devClusterPort, httpPort: devHTTPPort}
	if last, err := readDevRecord(dir); err != nil || last.Nodes > 1 {
		if err == nil {
			err = failure(exitUsage, "start it with `leasehold dev`, or change to another directory", "%s holds a cluster of %s",
				devcluster.DefaultDir, count(last.Nodes, "node"))
		}
		return devcluster.Node{}, err
	}
	nodes, err := a.prepareDev(cmd, dir, f)
	if err != nil {
		removeIfUnused(dir)
		return devcluster.Node{}, err
	}
	return nodes[0], nodes[0].WritePID(os.Getpid())
}

// greetEvery is how often the node is asked whether it is ready.
const greetEvery = 100 * time.Millisecond

// greet says what to type next, once the node is ready.
func (a *App) greet(ctx context.Context, n devcluster.Node, c *config.Config) {
	tick := time.NewTicker(greetEvery)
	defer tick.Stop()
	for {
		if reasons, err := api.NewClient(n.Socket()).Ready(ctx); err == nil && len(reasons) == 0 {
			break
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
	fmt.Fprintf(a.Out, "\nReady: one node, NATS on %s, HTTP on %s, data in %s\n", c.Server.Listen, c.HTTP.Listen,
		shortPath(n.Dir))
	fmt.Fprintln(a.Out, "In another terminal, in this directory:")
	if !a.findsDev(ctx, []devcluster.Node{n}) {
		fmt.Fprintf(a.Out, "  export %s=%s\n", addrVariable, shellWord(shortPath(n.Socket())))
	}
	if topic := firstTopic(n); topic != "" {
		fmt.Fprintf(a.Out, "  %[1]s pub %[2]s --key c-17 hello\n  %[1]s tap %[2]s\n", a.program(), shellWord(topic))
	}
	fmt.Fprintf(a.Out, "  %s status\n", a.program())
	fmt.Fprintf(a.Out, "For topics and handlers of your own, edit %s and start this again. ^C stops the node.\n\n",
		shortPath(n.Config()))
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"leasehold/internal/api"
	"leasehold/internal/config"
	"leasehold/internal/devcluster"
)

type devFlags struct {
	dir         string
	topics      string
	sample      string // Topics of a new directory without --topics.
	nodes       int
	ports       string // Command that takes flags of ports, if it is not this one.
	natsPort    int
	clusterPort int
	httpPort    int
	detach      bool
	timeout     time.Duration
}

// The ports of n1; those of the other nodes follow.
const (
	devNATSPort    = 4222
	devClusterPort = 6222
	devHTTPPort    = 8222
)

func (a *App) devCommand() *cobra.Command {
	f := devFlags{sample: devTopics}
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a three-node cluster on this machine for development",
		Long: "Starts n1, n2 and n3 as processes of this binary, with their data, configs and logs in --dir, and waits " +
			"until all\n" +
			"are ready. ^C stops them; with --detach they stay until `leasehold dev down`. The file given with --topics " +
			"holds\n" +
			"[[topic]] and [[group]] tables for every node; in it {{node}} is the node's name and {{dir}} the directory.\n" +
			"A later start needs no flags: settings that are not given stay as they were, and a config that you edited is kept.",
		Example: "  leasehold dev\n  leasehold dev --nodes 1\n  leasehold dev --dir /tmp/demo --topics topics.toml " +
			"--detach\n" +
			"  leasehold dev kill n2 --dir /tmp/demo\n  leasehold dev start n2 --dir /tmp/demo\n  leasehold dev down --dir " +
			"/tmp/demo",
		Args: cobra.NoArgs,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			return a.runDev(cmd, f)
		}),
	}
	cmd.PersistentFlags().StringVar(&f.dir, "dir", devcluster.DefaultDir, "directory for data, configs, logs and outputs")
	flags := cmd.Flags()
	flags.StringVar(&f.topics, "topics", "",
		"file with [[topic]] and [[group]] tables (default: a topic \"events\" with a file group)")
	numberVar(cmd, &f.nodes, "nodes", 3, 0, "number of nodes: 1, or at least 3")
	numberVar(cmd, &f.natsPort, "nats-port", devNATSPort, 1, "NATS port of n1; the others follow")
	numberVar(cmd, &f.clusterPort, "cluster-port", devClusterPort, 1, "cluster port of n1; the others follow")
	numberVar(cmd, &f.httpPort, "http-port", devHTTPPort, 1, "HTTP port of n1; the others follow")
	flags.BoolVar(&f.detach, "detach", false, "leave the nodes running and return once they are ready")
	limitVar(cmd, &f.timeout, "timeout", 2*time.Minute, "how long to wait until all nodes are ready")
	cmd.AddCommand(a.devDownCommand(&f.dir), a.devKillCommand(&f.dir), a.devStartCommand(&f.dir),
		a.devStatusCommand(&f.dir))
	return cmd
}

func (a *App) runDev(cmd *cobra.Command, f devFlags) error {
	dir, err := filepath.Abs(f.dir)
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	if !f.detach { // The nodes end with it, so it must not end at once.
		ctx = a.service(ctx)
	}
	nodes, reapers, err := a.startDev(cmd, dir, f)
	defer reapers.Join()
	if err != nil {
		return err
	}
	a.printDevHints(ctx, f, nodes)
	if f.detach {
		return nil
	}
	a.watchNodes(ctx, f.dir, nodes)
	fmt.Fprintln(a.Err, "stopping all nodes")
	devcluster.StopAll(nodes)
	return nil
}

// startDev writes the nodes' files and starts them. If one does not become ready it stops them all.
func (a *App) startDev(cmd *cobra.Command, dir string, f devFlags) ([]devcluster.Node, *devcluster.Reapers, error) {
	none := &devcluster.Reapers{}
	unlock, err := lockDev(dir)
	if err != nil {
		return nil, none, err
	}
	defer unlock()
	nodes, err := a.prepareDev(cmd, dir, f)
	if err != nil {
		removeIfUnused(dir)
		return nil, none, err
	}
	fmt.Fprintf(a.Out, "Cluster of %s in %s\n", count(len(nodes), "node"), shortPath(dir))
	reapers, err := devcluster.LaunchAll(nodes, f.detach)
	if err == nil {
		err = a.waitReady(cmd.Context(), nodes, f.timeout)
	}
	if err != nil {
		devcluster.StopAll(nodes)
	}
	return nodes, reapers, err
}

// prepareDev does all of a start that can be refused before a process is started.
func (a *App) prepareDev(cmd *cobra.Command, dir string, f devFlags) ([]devcluster.Node, error) {
	if err := a.refuseRunning(f.dir); err != nil {
		return nil, err
	}
	nodes, err := a.writeDevSite(cmd, dir, f)
	if err != nil {
		return nil, err
	}
	return nodes, refuseTakenPorts(nodes, f.ports)
}

// removeIfUnused takes back what lockDev made if nothing came of it.
func removeIfUnused(dir string) {
	if _, err := os.Stat(filepath.Join(dir, recordFile)); err != nil {
		_ = os.Remove(filepath.Join(dir, devcluster.LockFile))
		_ = os.Remove(dir) // Fails if there is anything else, as it should.
	}
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// refuseTakenPorts looks before it starts: three nodes that each fail on their own are harder to read.
func refuseTakenPorts(nodes []devcluster.Node, choose string) error {
	for _, n := range nodes {
		c, err := config.Load(n.Config())
		if err != nil {
			return err
		}
		for _, place := range []struct{ flag, address string }{
			{"--nats-port", c.Server.Listen}, {"--cluster-port", c.ClusterListen()}, {"--http-port", c.HTTP.Listen},
		} {
			if place.address == "" {
				continue // A node on its own has no cluster listener.
			}
			l, err := net.Listen("tcp", place.address)
			if err != nil {
				return &Error{Code: exitFailed, Err: fmt.Errorf("port of node %s: %w", n.Name, err),
					Hint: "free it, or choose other ports with " + choose + place.flag}
			}
			l.Close()
		}
	}
	return nil
}

// readyEvery is how often a starting node is asked.
const readyEvery = 250 * time.Millisecond

// waitReady waits until every node is ready, and says what each waits for.
func (a *App) waitReady(ctx context.Context, nodes []devcluster.Node, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	line := newNotice(a.Err)
	defer line.clear()
	tick := time.NewTicker(readyEvery)
	defer tick.Stop()
	for {
		waits, err := askReady(ctx, nodes)
		if err != nil {
			return err
		}
		if len(waits) == 0 {
			return nil
		}
		text := strings.Join(waits, " · ")
		line.show(text)
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return failure(exitTimeout, "look at the logs: "+shortPath(nodes[0].LogFile()), "not ready after %s: %s", timeout,
					text)
			}
			return failure(exitInterrupted, "", "interrupted while waiting for: %s", text)
		case <-tick.C:
		}
	}
}

// askReady lists what each node that is not ready waits for. A node that has ended is an error.
func askReady(ctx context.Context, nodes []devcluster.Node) ([]string, error) {
	var waits []string
	for _, n := range nodes {
		if _, running := n.PID(); !running {
			return nil, failure(exitFailed, "its whole log: "+shortPath(n.LogFile()), "node %s exited while starting:\n%s",
				n.Name, n.LogTail())
		}
		reasons, err := api.NewClient(n.Socket()).Ready(ctx)
		switch {
		case err != nil:
			waits = append(waits, n.Name+": starting")
		case len(reasons) > 0:
			waits = append(waits, n.Name+": "+strings.Join(reasons, ", "))
		}
	}
	return waits, nil
}

// printDevHints says what to type next. The nodes of the default directory are found from here; of others one
// variable says where they are.
func (a *App) printDevHints(ctx context.Context, f devFlags, nodes []devcluster.Node) {
	fmt.Fprintf(a.Out, "All ready. Logs: %s\n", filepath.Join(shortPath(filepath.Dir(nodes[0].Dir)), "*",
		devcluster.LogName))
	if !a.findsDev(ctx, nodes) {
		fmt.Fprintf(a.Out, "Type  export %s=%s\n", addrVariable, shellWord(shortPath(nodes[0].Socket())))
	}
	fmt.Fprintf(a.Out, "Try   %s status\n", a.program())
	if topic := firstTopic(nodes[0]); topic != "" {
		fmt.Fprintf(a.Out, "      %s pub %s --key c-17 hello\n", a.program(), shellWord(topic))
	}
	if len(nodes) > 1 {
		fmt.Fprintf(a.Out, "      %s\n      %s\n", a.devLine(f.dir, "kill", "n2"), a.devLine(f.dir, "start", "n2"))
	}
	if f.detach {
		fmt.Fprintf(a.Out, "      %s\n", a.devLine(f.dir, "down"))
		return
	}
	fmt.Fprintln(a.Out, "      ^C stops all nodes")
}

// findsDev reports whether commands without flags ask one of the nodes: nothing else is named, and they lie here.
func (a *App) findsDev(ctx context.Context, nodes []devcluster.Node) bool {
	if name, _, err := currentContext(); os.Getenv(addrVariable) != "" || name != "" || err != nil {
		return false
	}
	n, ok := a.runningDevNode(ctx)
	return ok && slices.Contains(nodes, n)
}

// firstTopic is a topic to publish to; empty if the node has none.
func firstTopic(n devcluster.Node) string {
	c, err := config.Load(n.Config())
	if err != nil || len(c.Topics) == 0 {
		return ""
	}
	return c.Topics[0].Name
}

// devLine is a `dev` command for the cluster in dir, to be pasted.
func (a *App) devLine(dir string, words ...string) string {
	return a.program() + " dev " + strings.Join(words, " ") + dirFlag(dir)
}

// dirFlag is the flag that names a cluster's directory, with a blank before it; empty for the default.
func dirFlag(dir string) string {
	if dir == devcluster.DefaultDir {
		return ""
	}
	return " --dir " + shellWord(dir)
}

// watchEvery is how often the foreground looks for nodes that have ended or come back.
const watchEvery = 500 * time.Millisecond

// watchNodes tells of nodes that end or come back, until ctx ends.
func (a *App) watchNodes(ctx context.Context, dir string, nodes []devcluster.Node) {
	up := map[string]bool{}
	for _, n := range nodes {
		up[n.Name] = true
	}
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, n := range nodes {
			_, running := n.PID()
			if running == up[n.Name] {
				continue
			}
			up[n.Name] = running
			if running {
				fmt.Fprintf(a.Err, "%s is running again\n", n.Name)
			} else {
				fmt.Fprintf(a.Err, "%s has exited; start it again with: %s\n", n.Name, a.devLine(dir, "start", n.Name))
			}
		}
	}
}

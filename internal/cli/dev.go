package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"leasehold/internal/api"
	"leasehold/internal/config"
	"leasehold/internal/smallfile"
)

type devFlags struct {
	dir         string
	topics      string
	nodes       int
	natsPort    int
	clusterPort int
	httpPort    int
	detach      bool
	timeout     time.Duration
}

// defaultDevDir is where `dev` keeps everything if it is not told.
const defaultDevDir = "./leasehold-dev"

// devTopics is what `dev` runs if it is given nothing: enough to publish to and to see something happen.
const devTopics = `
[[topic]]
name = "events"
partitions = 16

[[group]]
name = "file"
topic = "events"
handler = { kind = "file", path = "{{dir}}/out/file/{{node}}" }
`

func (a *App) devCommand() *cobra.Command {
	var f devFlags
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a cluster of three nodes on this machine, to try things out",
		Long: "Starts n1, n2 and n3 as processes of this binary, with their data, configs and logs in --dir, and waits until all\n" +
			"are ready. ^C stops them; with --detach they stay until `leasehold dev down`. The file given with --topics holds\n" +
			"[[topic]] and [[group]] tables for every node; in it {{node}} is the node's name and {{dir}} the directory.",
		Example: "  leasehold dev\n  leasehold dev --dir /tmp/demo --topics topics.toml --detach\n" +
			"  leasehold dev kill n2 --dir /tmp/demo\n  leasehold dev start n2 --dir /tmp/demo\n  leasehold dev down --dir /tmp/demo",
		Args: cobra.NoArgs,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			return a.runDev(cmd.Context(), f)
		}),
	}
	cmd.PersistentFlags().StringVar(&f.dir, "dir", defaultDevDir, "directory for data, configs, logs and outputs")
	flags := cmd.Flags()
	flags.StringVar(&f.topics, "topics", "", "file with [[topic]] and [[group]] tables (default: a topic \"events\" with a file group)")
	flags.IntVar(&f.nodes, "nodes", 3, "number of nodes")
	flags.IntVar(&f.natsPort, "nats-port", 4222, "NATS port of n1; the others follow")
	flags.IntVar(&f.clusterPort, "cluster-port", 6222, "cluster port of n1; the others follow")
	flags.IntVar(&f.httpPort, "http-port", 8222, "HTTP port of n1; the others follow")
	flags.BoolVar(&f.detach, "detach", false, "leave the nodes running and return once they are ready")
	flags.DurationVar(&f.timeout, "timeout", 2*time.Minute, "how long to wait until all nodes are ready")
	cmd.AddCommand(a.devDownCommand(&f.dir), a.devKillCommand(&f.dir), a.devStartCommand(&f.dir), a.devStatusCommand(&f.dir), a.devCheckCommand(&f.dir))
	return cmd
}

func (a *App) runDev(ctx context.Context, f devFlags) error {
	if !f.detach { // The nodes end with it, so it must not end at once.
		ctx = a.service(ctx)
	}
	dir, err := filepath.Abs(f.dir)
	if err != nil {
		return err
	}
	if err := refuseRunning(dir); err != nil {
		return err
	}
	nodes, err := writeDevSite(dir, f)
	if err != nil {
		return err
	}
	if err := refuseTakenPorts(nodes); err != nil {
		return err
	}
	fmt.Fprintf(a.Out, "Cluster of %s in %s\n", count(len(nodes), "node"), dir)
	keepers, err := launchAll(nodes, f.detach)
	defer keepers.join()
	if err == nil {
		err = a.waitReady(ctx, nodes, f.timeout)
	}
	if err != nil {
		stopAll(nodes)
		return err
	}
	a.printDevHints(f, nodes)
	if f.detach {
		return nil
	}
	a.watchNodes(ctx, nodes)
	fmt.Fprintln(a.Err, "stopping all nodes")
	stopAll(nodes)
	return nil
}

// writeDevSite writes the nodes' directories. The secret of an earlier run is kept, and so is the data: only what the
// flags say is new.
func writeDevSite(dir string, f devFlags) ([]devNode, error) {
	extra := devTopics
	if f.topics != "" {
		text, err := smallfile.Read(f.topics, smallfile.Most)
		if err != nil {
			return nil, &Error{Code: exitUsage, Err: fmt.Errorf("read --topics: %w", err)}
		}
		extra = string(text)
	}
	s := site{cluster: "dev", secret: config.NewSecret(), extra: strings.ReplaceAll(extra, "{{dir}}", dir)}
	var nodes []devNode
	for i := range f.nodes {
		s.nodes = append(s.nodes, siteNode{
			name: "n" + strconv.Itoa(i+1), address: loopback(f.clusterPort + i), dataDir: "data",
			listen: loopback(f.natsPort + i), httpListen: loopback(f.httpPort + i),
		})
		nodes = append(nodes, devNode{name: s.nodes[i].name, dir: filepath.Join(dir, s.nodes[i].name)})
	}
	if old, err := os.ReadFile(filepath.Join(dir, "n1", secretFile)); err == nil {
		s.secret = string(old)
	}
	if err := s.check(dir); err != nil {
		return nil, err
	}
	return nodes, s.write(dir)
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// refuseTakenPorts looks before it starts: three nodes that each fail on their own are harder to read.
func refuseTakenPorts(nodes []devNode) error {
	for _, n := range nodes {
		c, err := config.Load(n.config())
		if err != nil {
			return err
		}
		for _, place := range []struct{ flag, address string }{
			{"--nats-port", c.Server.Listen}, {"--cluster-port", c.ClusterListen()}, {"--http-port", c.HTTP.Listen},
		} {
			l, err := net.Listen("tcp", place.address)
			if err != nil {
				return &Error{Code: exitFailed, Err: fmt.Errorf("port of node %s: %w", n.name, err), Hint: "free it, or choose other ports with " + place.flag}
			}
			l.Close()
		}
	}
	return nil
}

// readyEvery is how often a starting node is asked.
const readyEvery = 250 * time.Millisecond

// waitReady waits until every node is ready, and says what each waits for.
func (a *App) waitReady(ctx context.Context, nodes []devNode, timeout time.Duration) error {
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
				return failure(exitTimeout, "look at the logs: "+nodes[0].logFile(), "not ready after %s: %s", timeout, text)
			}
			return failure(exitFailed, "", "interrupted while waiting for: %s", text)
		case <-tick.C:
		}
	}
}

// askReady lists what each node that is not ready waits for. A node that has ended is an error.
func askReady(ctx context.Context, nodes []devNode) ([]string, error) {
	var waits []string
	for _, n := range nodes {
		if _, running := n.pid(); !running {
			return nil, failure(exitFailed, "its whole log: "+n.logFile(), "node %s ended while starting:\n%s", n.name, n.logTail())
		}
		reasons, err := api.NewClient(n.socket()).Ready(ctx)
		switch {
		case err != nil:
			waits = append(waits, n.name+": starting")
		case len(reasons) > 0:
			waits = append(waits, n.name+": "+strings.Join(reasons, ", "))
		}
	}
	return waits, nil
}

func (a *App) printDevHints(f devFlags, nodes []devNode) {
	fmt.Fprintf(a.Out, "All ready. Logs: %s\n", filepath.Join(filepath.Dir(nodes[0].dir), "*", logName))
	fmt.Fprintf(a.Out, "Try:  leasehold status --config %s\n", nodes[0].config())
	if f.topics == "" {
		fmt.Fprintf(a.Out, "      leasehold pub events --key c-17 hello --config %s\n", nodes[0].config())
	}
	fmt.Fprintf(a.Out, "      leasehold dev kill n2 --dir %s;  leasehold dev start n2 --dir %s\n", f.dir, f.dir)
	if f.detach {
		fmt.Fprintf(a.Out, "      leasehold dev down --dir %s\n", f.dir)
		return
	}
	fmt.Fprintln(a.Out, "      ^C stops all nodes")
}

// watchEvery is how often the foreground looks for nodes that have ended or come back.
const watchEvery = 500 * time.Millisecond

// watchNodes tells of nodes that end or come back, until ctx ends.
func (a *App) watchNodes(ctx context.Context, nodes []devNode) {
	up := map[string]bool{}
	for _, n := range nodes {
		up[n.name] = true
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
			_, running := n.pid()
			if running == up[n.name] {
				continue
			}
			up[n.name] = running
			if running {
				fmt.Fprintf(a.Err, "%s runs again\n", n.name)
			} else {
				fmt.Fprintf(a.Err, "%s has ended; start it again with: leasehold dev start %s --dir %s\n", n.name, n.name, filepath.Dir(n.dir))
			}
		}
	}
}

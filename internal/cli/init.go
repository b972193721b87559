package cli

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"leasehold/internal/config"
	"leasehold/internal/plural"
)

// leastNodes is the size from which a cluster survives the loss of a node.
const leastNodes = 3

// defaultClusterPort is what a node's address gets if it names none.
const defaultClusterPort = "6222"

// initTopics is what a new config starts from: it runs as it is, and shows where to go on.
const initTopics = `
[[topic]]
name = "events"
partitions = 64

[[group]]
name = "log"
topic = "events"
# Logs each message. Replace it by your own, for example:
# handler = { kind = "subprocess", command = ["python3", "/opt/events/handler.py"] }
handler = { kind = "log" }
`

func (a *App) initCommand() *cobra.Command {
	var cluster, nodes, out string
	var single bool
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Write the configs and the shared secret of a new cluster, or the config of one node",
		Long: "Writes OUT/NODE/config.toml and OUT/NODE/cluster_secret for every node. Copy each directory to its node as\n" +
			"/etc/leasehold, and start the agents. With --single it writes OUT/config.toml of a node on its own, with its data\n" +
			"beside it. Nothing that exists is overwritten.",
		Example: "  leasehold init --single\n  leasehold init --cluster-name plant-7 --nodes n1=10.0.0.11,n2=10.0.0.12,n3=10.0.0.13 --out ./plant-7\n" +
			"  scp -r ./plant-7/n1/. root@10.0.0.11:/etc/leasehold/",
		Args: cobra.NoArgs,
		RunE: action(func(*cobra.Command, []string) error {
			s := site{cluster: cluster, secret: config.NewSecret(), extra: initTopics}
			if single {
				return a.initSingle(cluster, nodes, out, s)
			}
			err := requireCluster(cluster, nodes, out)
			if err != nil {
				return err
			}
			if s.nodes, err = parseNodes(nodes); err != nil {
				return err
			}
			return a.runInit(s, out)
		}),
	}
	cmd.Flags().StringVar(&cluster, "cluster-name", "", "name of the cluster (required without --single)")
	cmd.Flags().StringVar(&nodes, "nodes", "", "nodes, name=host or name=host:port, separated by commas; at least three (required without --single)")
	cmd.Flags().StringVar(&out, "out", "", "directory to write to (required without --single, where it is the current one)")
	cmd.Flags().BoolVar(&single, "single", false, "one node on its own, in single mode")
	return cmd
}

func parseNodes(list string) ([]siteNode, error) {
	var nodes []siteNode
	if parts := strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(" ,;\t\n", r) }); strings.Count(list, "=") > strings.Count(list, ",")+1 {
		return nil, usage("--nodes: separate nodes by commas: %s", strings.Join(parts, ","))
	}
	for _, entry := range strings.Split(list, ",") {
		name, address, found := strings.Cut(strings.TrimSpace(entry), "=")
		if !found || name == "" || address == "" || name != filepath.Base(name) || strings.HasPrefix(name, ".") {
			return nil, usage("--nodes: %q must be name=host or name=host:port", entry)
		}
		if _, _, err := net.SplitHostPort(address); err != nil {
			address = net.JoinHostPort(strings.Trim(address, "[]"), defaultClusterPort)
		}
		nodes = append(nodes, siteNode{name: name, subdir: name, address: address, dataDir: "/var/lib/leasehold"})
	}
	if len(nodes) == 1 {
		return nil, failure(exitUsage, "name three, or write the config of a node on its own with `leasehold init --single`",
			"--nodes: one node is too few for a cluster, which survives the loss of a node")
	}
	if len(nodes) < leastNodes {
		return nil, usage("--nodes: %s %s too few for a cluster, which needs %d: with two, the loss of either stops both",
			count(len(nodes), "node"), plural.Verb(len(nodes), "is", "are"), leastNodes)
	}
	return nodes, nil
}

func (a *App) runInit(s site, out string) error {
	if err := s.check(out); err != nil {
		return &Error{Code: exitUsage, Err: fmt.Errorf("the config would not be valid:\n%w", err), Hint: "correct --cluster-name or --nodes"}
	}
	path, err := s.existing(out)
	if err != nil {
		return err
	}
	if path != "" {
		return failure(exitFailed, "choose another --out, or remove it yourself", "%s is there already; nothing was written", path)
	}
	if err := s.write(out); err != nil {
		return writeError("--out", err)
	}
	if s.alone() {
		a.printSingle(s, out)
		return nil
	}
	for _, n := range s.nodes {
		host, _, _ := net.SplitHostPort(n.address) // As parseNodes joined it.
		fmt.Fprintf(a.Out, "%s\tcopy to /etc/leasehold on %s\n", filepath.Join(out, n.name), host)
	}
	fmt.Fprintf(a.Out, "Whoever has %s can join the cluster: keep it safe. Then, on every node: leasehold agent\n", secretFile)
	return nil
}

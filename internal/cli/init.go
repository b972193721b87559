package cli

import (
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"leasehold/internal/config"
	"leasehold/internal/plural"
)

// leastNodes is the size from which a cluster survives the loss of a node.
const leastNodes = 3

// defaultClusterPort is what a node's address gets if it names none.
const defaultClusterPort = "6222"

// initSample shows what to add to a new config. It is all comment: a topic that exists keeps its name, its partitions
// and its share of max_store, so none is made that nobody asked for.
const initSample = `
# Add your topics and groups, the same on every node. A topic's partitions are fixed once it exists.
# [[topic]]
# name = "orders"
# partitions = 64
#
# [[group]]
# name = "billing"
# topic = "orders"
# handler = { kind = "subprocess", command = ["python3", "/opt/orders/handler.py"] }
`

// initTopic is a topic that was asked for, with its name and its number of partitions.
const initTopic = `
[[topic]]
name = %[1]q
partitions = %[2]d

# Nothing handles its messages yet, and none is removed before a group has handled it. Add a group, for example:
# [[group]]
# name = %[3]q
# topic = %[1]q
# handler = { kind = "subprocess", command = ["python3", "/opt/%[1]s/handler.py"] }
`

// defaultPartitions is what --topic gives a topic: enough for three nodes.
const defaultPartitions = 64

// initText is the part of a config with these topics, each as NAME or NAME:PARTITIONS.
func initText(topics []string) (string, error) {
	if len(topics) == 0 {
		return initSample, nil
	}
	var b strings.Builder
	for _, t := range topics {
		name, number, found := strings.Cut(t, ":")
		partitions := defaultPartitions
		if found {
			var err error
			if partitions, err = strconv.Atoi(number); err != nil {
				return "", usage("--topic: %q must be NAME or NAME:PARTITIONS, like orders:64", t)
			}
		}
		if strings.ContainsAny(name, "\r\n") {
			return "", usage("--topic: %q is not a valid name of a topic", name)
		}
		fmt.Fprintf(&b, initTopic, name, partitions, name+"-handler")
	}
	return b.String(), nil
}

func (a *App) initCommand() *cobra.Command {
	var cluster, nodes, out string
	var single bool
	var topics []string
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Write the configs and the shared secret of a new cluster, or the config of one node",
		Long: "Writes OUT/NODE/config.toml and OUT/NODE/cluster_secret for every node. Copy each directory to its node as\n" +
			"/etc/leasehold, and start the agents. With --single it writes OUT/config.toml of a single node, with its data\n" +
			"next to it. Existing files are never overwritten.",
		Example: "  leasehold init --single\n" +
			"  leasehold init --cluster-name plant-7 --nodes n1=10.0.0.11,n2=10.0.0.12,n3=10.0.0.13 --topic orders:64 --out " +
			"./plant-7\n" +
			"  scp -r ./plant-7/n1/. root@10.0.0.11:/etc/leasehold/",
		Args: cobra.NoArgs,
		RunE: action(func(*cobra.Command, []string) error {
			text, err := initText(topics)
			if err != nil {
				return err
			}
			s := site{cluster: cluster, secret: config.NewSecret(), extra: text}
			if single {
				return a.initSingle(cluster, nodes, out, s)
			}
			if err = requireCluster(cluster, nodes, out); err != nil {
				return err
			}
			if s.nodes, err = parseNodes(nodes); err != nil {
				return err
			}
			return a.runInit(s, out)
		}),
	}
	cmd.Flags().StringVar(&cluster, "cluster-name", "", "name of the cluster (required without --single)")
	cmd.Flags().StringVar(&nodes, "nodes", "",
		"nodes, name=host or name=host:port, separated by commas; at least three (required without --single)")
	cmd.Flags().StringVar(&out, "out", "",
		"directory to write to (required without --single, where it is the current one)")
	cmd.Flags().BoolVar(&single, "single", false, "a single node, without a cluster")
	cmd.Flags().StringArrayVar(&topics, "topic", nil, "topic to create, NAME or NAME:PARTITIONS; repeat it for more")
	return cmd
}

func parseNodes(list string) ([]siteNode, error) {
	var nodes []siteNode
	if parts := strings.FieldsFunc(list, func(r rune) bool {
		return strings.ContainsRune(" ,;\t\n", r)
	}); strings.Count(list, "=") > strings.Count(list, ",")+1 {
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
		return nil, failure(exitUsage, "name three, or write the config of a single node with `leasehold init --single`",
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
		return &Error{Code: exitUsage, Err: fmt.Errorf("the config would not be valid:\n%w", err),
			Hint: "fix --cluster-name, --nodes or --topic"}
	}
	path, err := s.existing(out)
	if err != nil {
		return err
	}
	if path != "" {
		return failure(exitFailed, "choose another --out, or remove it yourself", "%s exists already; nothing was written",
			path)
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
	fmt.Fprintf(a.Out, "Anyone who has %s can join the cluster: keep it safe. Then, on every node: leasehold agent\n",
		secretFile)
	return nil
}

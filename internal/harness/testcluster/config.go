package testcluster

import (
	"fmt"
	"strings"
)

// Spec says what cluster to run.
type Spec struct {
	// Nodes is how many; named n1, n2, … Default 3. With 1 the node runs alone,
	// in single mode.
	Nodes  int
	Topics []Topic
	Groups []Group
	// Server and Cluster are further lines of those tables of the config.
	Server, Cluster string
	// LogLevel of the agents, default "debug".
	LogLevel string
	// Users are whole [[user]] tables.
	Users string
	// Binary is the build of the agent that nodes run; empty: the ordinary one.
	Binary string
	// Hosts say where each node runs. None: all on this machine's loopback.
	Hosts []Host
	// Skewed nodes have clocks that Node.Skew can put wrong.
	Skewed bool
}

// Host is where a node runs, as far as it is not simply this machine.
type Host struct {
	// Address is where it listens; empty: 127.0.0.1. Elsewhere the load and the
	// test's questions need credentials, which the cluster makes.
	Address string
	// Namespace is the path of the network namespace in which its process
	// starts; empty: the test's own.
	Namespace string
	// DataDir is its data directory; empty: one below the cluster's directory.
	DataDir string
}

func (h Host) loopback() bool { return h.Address == "127.0.0.1" }

// Topic is one topic of the config.
type Topic struct {
	Name       string
	Partitions int
	Extra      string // further lines of the table
}

// Group is one group of the config.
type Group struct {
	Name, Topic string
	// Handler is the inline table, for example from Cluster.CallLogHandler.
	Handler string
	Extra   string // further lines of the table
}

// Ports are the ports of one node.
type Ports struct{ NATS, Cluster, HTTP int }

// config renders the node's config.
func (c *Cluster) config(n *Node) string {
	var b strings.Builder
	fmt.Fprintf(&b, "[node]\nname = %q\ndata_dir = %q\n\n", n.Name, n.Host.DataDir)
	fmt.Fprintf(&b, "[server]\nlisten = \"%s:%d\"\n%s\n\n", n.Host.Address, n.Ports.NATS, c.Spec.Server)
	fmt.Fprintf(&b, "[http]\nlisten = \"%s:%d\"\n%s\n\n", n.Host.Address, n.Ports.HTTP, c.tokenLine(n))
	fmt.Fprintf(&b, "[log]\nlevel = %q\n\n", c.Spec.LogLevel)
	peers, topics, groups := c.Nodes, c.Spec.Topics, c.Spec.Groups
	if n.own != nil {
		peers, topics, groups = n.own.Peers, n.own.Topics, n.own.Groups
	}
	if len(peers) > 1 {
		fmt.Fprintf(&b, "[cluster]\nname = \"test\"\nnodes = [%s]\nsecret_file = %q\n%s\n\n", routes(peers), c.secretFile(),
			c.Spec.Cluster)
	}
	for _, t := range topics {
		fmt.Fprintf(&b, "[[topic]]\nname = %q\npartitions = %d\n%s\n\n", t.Name, t.Partitions, t.Extra)
	}
	for _, g := range groups {
		fmt.Fprintf(&b, "[[group]]\nname = %q\ntopic = %q\nhandler = %s\n%s\n\n", g.Name, g.Topic, g.Handler, g.Extra)
	}
	b.WriteString(c.Spec.Users)
	return b.String()
}

func routes(peers []*Node) string {
	var routes []string
	for _, n := range peers {
		routes = append(routes, fmt.Sprintf("\"%s=%s:%d\"", n.Name, n.Host.Address, n.Ports.Cluster))
	}
	return strings.Join(routes, ", ")
}

package config

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/go-hclog"

	"leasehold/internal/fielderr"
	"leasehold/internal/plural"
	"leasehold/internal/validname"
	"leasehold/partitioner"
	"leasehold/server"
	"leasehold/server/datadir"
	"leasehold/server/raft"
	"leasehold/worker"
)

// check notes every fault of a config that has its defaults.
func (c *Config) check(f *faults) {
	c.checkNode(f)
	f.addAll("server", c.Server.Validate())
	c.checkListeners(f)
	c.checkCluster(f)
	c.checkTiming(f)
	c.checkPorts(f)
	c.checkLog(f)
	c.checkTopics(f)
	c.checkGroups(f)
	c.checkUsers(f)
	c.checkStore(f)
}

func (c *Config) checkNode(f *faults) {
	if !validname.OK(c.Node.Name) {
		f.add("node.name", "node.name: %q %s", c.Node.Name, validname.Rule)
	}
	if c.Node.DataDir == "" {
		f.add("node.data_dir", "node.data_dir: must name a directory")
	}
}

// minNodes is the smallest cluster: with two nodes, the loss of either stops both, which is worse than one.
const minNodes = 3

func (c *Config) checkCluster(f *faults) {
	if c.Cluster.Name != "" && !validname.OK(c.Cluster.Name) {
		f.add("cluster.name", "cluster.name: %q %s", c.Cluster.Name, validname.Rule)
	}
	if c.Mode() == datadir.Single {
		return
	}
	if c.Cluster.Name == "" {
		f.add("cluster.name", "cluster.name: a cluster needs a name, the same on every node")
	}
	if c.Cluster.SecretFile == "" {
		f.add("cluster.secret_file",
			"cluster.secret_file: must name the file with the cluster's secret, the same on every node; `leasehold init` "+
				"makes one")
	}
	if a := c.Cluster.Advertise; a != "" && !validAddress(a) {
		f.add("cluster.advertise", "cluster.advertise: %q is not a host:port that others can reach", a)
	} else if a != "" {
		checkConnectable(f, "cluster.advertise", a)
	}
	if n := len(c.Cluster.Nodes); n < minNodes {
		f.add("cluster.nodes", "cluster.nodes: %s %s too few for a cluster, it needs %d (with two, the loss of either "+
			"stops both); "+
			"for a node on its own leave nodes out", plural.Of(n, "node"), plural.Verb(n, "is", "are"), minNodes)
	}
	c.checkNodes(f)
}

func (c *Config) checkNodes(f *faults) {
	names, addresses := map[string]bool{}, map[string]string{}
	for i, p := range c.Peers() {
		if !validname.OK(p.Name) || !validAddress(p.Address) {
			f.add("cluster.nodes", "cluster.nodes: %q must be \"name=host:port\", like \"n1=10.0.0.11:6222\"",
				c.Cluster.Nodes[i])
			continue
		}
		checkConnectable(f, "cluster.nodes", p.Address)
		if names[p.Name] {
			f.add("cluster.nodes", "cluster.nodes: there are two nodes %q", p.Name)
		}
		if other, there := addresses[p.Address]; there {
			f.add("cluster.nodes", "cluster.nodes: %q and %q have the same address %s", other, p.Name, p.Address)
		}
		names[p.Name], addresses[p.Address] = true, p.Name
	}
	if !names[c.Node.Name] && validname.OK(c.Node.Name) {
		f.add("cluster.nodes", "cluster.nodes: this node, %q, is not in the list; every node is, the same list everywhere",
			c.Node.Name)
	}
}

func checkConnectable(f *faults, key, address string) {
	if err := server.CheckConnectable(address); err != nil {
		f.add(key, "%s: %q: %v", key, address, err)
	}
}

// validAddress holds for a host and a port that others can connect to.
func validAddress(address string) bool {
	host, port, err := net.SplitHostPort(address)
	n, err2 := strconv.ParseUint(port, 10, 16)
	return err == nil && err2 == nil && host != "" && n > 0
}

// checkTiming holds the session to what an election may take: a node that loses the broker's leader has to get its
// renewal through after the election before it must stop, also if it had just been about to renew.
func (c *Config) checkTiming(f *faults) {
	raft, err := raft.TimingByName(c.Cluster.Timing)
	if err != nil {
		f.addAll("cluster", err)
		return
	}
	if t := c.Cluster.LeaseTiming(); t.Slack() <= raft.ElectionMax {
		f.add("cluster.session_ttl",
			"cluster.session_ttl: session_ttl − margin − renew − renew/2 must be more than the longest election of timing %q "+
				"(%s), "+"but %s − %s − %s − %s is %s", raft.Name, raft.ElectionMax, t.TTL, t.Margin, t.Renew, t.WriteLimit,
			t.Slack())
	}
}

func (c *Config) checkPorts(f *faults) {
	places := []struct{ key, address string }{
		{"server.listen", c.Server.Listen}, {"http.listen", c.HTTP.Listen}, {"cluster.nodes", c.ClusterListen()},
	}
	for i, a := range places {
		for _, b := range places[i+1:] {
			if samePlace(a.address, b.address) {
				f.add(b.key, "%s: %s is used by %s (%s); each needs its own port", b.key, b.address, a.key, a.address)
			}
		}
	}
}

func (c *Config) checkLog(f *faults) {
	if levels := []string{"trace", "debug", "info", "warn", "error"}; !slices.Contains(levels, c.Log.Level) ||
		hclog.LevelFromString(c.Log.Level) == hclog.NoLevel {
		f.add("log.level", "log.level: %q must be one of %s", c.Log.Level, strings.Join(levels, ", "))
	}
	if c.Log.Format != "text" && c.Log.Format != "json" {
		f.add("log.format", "log.format: %q must be \"text\" or \"json\"", c.Log.Format)
	}
}

func (c *Config) checkTopics(f *faults) {
	for i, t := range c.Topics {
		f.addAll(fielderr.Element("topic", i), t.Validate())
	}
	f.addAll("", partitioner.CheckOverlap(c.Topics))
}

func (c *Config) checkGroups(f *faults) {
	seen := map[string]bool{}
	for i, g := range c.Groups {
		path := fielderr.Element("group", i)
		f.addAll(path, g.Validate())
		if seen[g.Name] {
			f.add(fielderr.Join(path, "name"), "group %q: name: there are two groups of this name", g.Name)
		}
		seen[g.Name] = true
		if _, ok := c.Topic(g.Topic); g.Topic != "" && !ok {
			f.add(fielderr.Join(path, "topic"), "group %q: topic: there is no topic %q%s", g.Name, g.Topic,
				suggest(g.Topic, c.topicNames()))
		}
	}
}

func (c *Config) topicNames() []string {
	var names []string
	for _, t := range c.Topics {
		names = append(names, t.Name)
	}
	return names
}

// warn notes settings that are allowed but probably not intended.
func (c *Config) warn() {
	warn := func(format string, args ...any) { c.warnings = append(c.warnings, fmt.Sprintf(format, args...)) }
	if n := len(c.Cluster.Nodes); n > 0 && n%2 == 0 {
		warn("cluster.nodes: %d nodes survive the loss of no more nodes than %d do; use an odd number", n, n-1)
	}
	c.warnings = append(c.warnings, c.listenerWarnings()...)
	c.warnings = append(c.warnings, c.handlerWarnings()...)
	if len(c.Topics) == 0 {
		warn("there is no [[topic]]: this node stores no messages")
	}
	for _, t := range c.Topics {
		used := slices.ContainsFunc(c.Groups, func(g worker.Config) bool { return g.Topic == t.Name })
		if !used {
			warn("topic %q has no [[group]]: its messages are never handled and never removed", t.Name)
		}
	}
}

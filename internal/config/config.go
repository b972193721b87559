// Package config is a node's config file: read strictly, checked as a whole, every fault with its line.
//
// Each section belongs to the package that it configures; here they meet, get their defaults, and are checked against
// one another. What needs the machine (a free port, a readable secret) is asked by CheckEnvironment, apart from the
// rest, so that a file can be checked on another machine than the one it is for.
package config

import (
	"cmp"
	"net"
	"path/filepath"
	"strings"
	"time"

	"leasehold/cluster/lease"
	"leasehold/internal/bytesize"
	"leasehold/partitioner"
	"leasehold/server"
	"leasehold/server/access"
	"leasehold/server/datadir"
	"leasehold/server/pki"
	"leasehold/server/raft"
	"leasehold/worker"
)

// Config is a node's configuration, complete with defaults. Paths in it are absolute.
type Config struct {
	Node    NodeSection         `toml:"node"`
	Server  server.Config       `toml:"server"`
	HTTP    HTTPSection         `toml:"http"`
	Cluster ClusterSection      `toml:"cluster"`
	Log     LogSection          `toml:"log"`
	Topics  []partitioner.Topic `toml:"topic"`
	Groups  []worker.Config     `toml:"group"`
	Users   []access.UserConfig `toml:"user"`

	path     string // Of the file, absolute.
	warnings []string
}

// NodeSection is the [node] table.
type NodeSection struct {
	Name    string `toml:"name"`     // Unique in the cluster, and fixed once the data directory exists.
	DataDir string `toml:"data_dir"` // On a local file system.
}

// HTTPSection is the [http] table.
type HTTPSection struct {
	Listen    string        `toml:"listen"`     // host:port, loopback only without a token_file.
	TokenFile string        `toml:"token_file"` // Holds what callers on the port must show; empty: nothing.
	TLS       pki.TLSConfig `toml:"tls"`
}

// ClusterSection is the [cluster] table. Without nodes the node stands alone, in single mode.
type ClusterSection struct {
	Name string `toml:"name"`
	// "name=host:port" of every node including this one, the same list everywhere.
	Nodes      []string `toml:"nodes"`
	SecretFile string   `toml:"secret_file"` // As written; SecretPath says where it is.
	Advertise  string   `toml:"advertise"`   // host:port at which the others reach this node, if not the one in nodes.

	Timing     string        `toml:"timing"`      // "lan" or "wan"; the same on every node.
	SessionTTL time.Duration `toml:"session_ttl"` // How long a silent node keeps its partitions.
	Renew      time.Duration `toml:"renew"`       // How often a node renews its session.
	Margin     time.Duration `toml:"margin"`      // How long before its ttl ends a node stops its calls.

	FastTakeover bool `toml:"fast_takeover"`
}

// LogSection is the [log] table.
type LogSection struct {
	Level  string `toml:"level"`  // "trace", "debug", "info", "warn" or "error".
	Format string `toml:"format"` // "text" or "json".
}

// DefaultConfig is what an empty file means. It is not valid by itself: a node has a name.
func DefaultConfig() Config {
	return Config{
		Node:    NodeSection{DataDir: "/var/lib/leasehold"},
		Server:  server.DefaultConfig(),
		HTTP:    HTTPSection{Listen: "127.0.0.1:8222", TLS: pki.DefaultTLSConfig()},
		Cluster: ClusterSection{Timing: raft.TimingLAN, FastTakeover: true},
		Log:     LogSection{Level: "info", Format: "text"},
	}
}

// Path is the file that the config was read from.
func (c *Config) Path() string { return c.path }

// Warnings lists settings that are allowed but probably not intended.
func (c *Config) Warnings() []string { return c.warnings }

// Mode says whether the node stands alone.
func (c *Config) Mode() datadir.Mode {
	if len(c.Cluster.Nodes) == 0 {
		return datadir.Single
	}
	return datadir.Cluster
}

// Identity is whose data the node's directory holds. A node in single mode without a cluster name lends it its own.
func (c *Config) Identity() datadir.Identity {
	return datadir.Identity{Node: c.Node.Name, Cluster: cmp.Or(c.Cluster.Name, c.Node.Name), Mode: c.Mode()}
}

// Peers lists the cluster's nodes including this one, none in single mode.
func (c *Config) Peers() []server.Peer {
	var peers []server.Peer
	for _, entry := range c.Cluster.Nodes {
		name, address, _ := strings.Cut(entry, "=")
		peers = append(peers, server.Peer{Name: strings.TrimSpace(name), Address: strings.TrimSpace(address)})
	}
	return peers
}

// ClusterListen is this node's own address in the list of nodes, empty in single mode.
func (c *Config) ClusterListen() string {
	for _, p := range c.Peers() {
		if p.Name == c.Node.Name {
			return p.Address
		}
	}
	return ""
}

// Listeners are the addresses at which this node listens for the network.
func (c *Config) Listeners() []string {
	list := []string{c.Server.Listen, c.HTTP.Listen}
	if c.Mode() == datadir.Cluster {
		list = append(list, c.ClusterListen())
	}
	return list
}

// SocketPath is where the agent answers local commands.
func (c *Config) SocketPath() string { return filepath.Join(c.Node.DataDir, SocketName) }

// FileName is the name of a config file in the directory of a node.
const FileName = "config.toml"

// SocketName is the name of the agent's socket in the data directory.
const SocketName = datadir.SocketFile

// LeaseTiming returns the part of the lease protocol's config that is about time: a renewal may take half the time to
// the next one.
func (c ClusterSection) LeaseTiming() lease.Config {
	return lease.Config{TTL: c.SessionTTL, Renew: c.Renew, Margin: c.Margin, WriteLimit: c.Renew / 2}
}

// Topic finds a topic by its name.
func (c *Config) Topic(name string) (partitioner.Topic, bool) {
	for _, t := range c.Topics {
		if t.Name == name {
			return t, true
		}
	}
	return partitioner.Topic{}, false
}

// minReserve and reserveShare say how much of max_store is kept from topics for the bucket with sessions and leases.
const (
	minReserve   = 64 * bytesize.MiB
	reserveShare = 10 // One tenth.
)

// Reserve is the part of server.max_store that topics cannot have.
func (c *Config) Reserve() bytesize.Size { return max(c.Server.MaxStore/reserveShare, minReserve) }

// resolve makes a path of the file absolute: relative ones start at the file's own directory, so that they mean the
// same wherever the agent is started.
func (c *Config) resolve(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(c.path), path)
}

// applyDefaults completes what the file left out, except for sizes: existing streams keep theirs.
func (c *Config) applyDefaults() {
	c.Node.DataDir = c.resolve(c.Node.DataDir)
	c.resolvePaths()
	defaults := timings[c.Cluster.Timing]
	c.Cluster.SessionTTL = cmp.Or(c.Cluster.SessionTTL, defaults.ttl)
	c.Cluster.Renew = cmp.Or(c.Cluster.Renew, defaults.renew)
	c.Cluster.Margin = cmp.Or(c.Cluster.Margin, defaults.margin)
	for i, t := range c.Topics {
		c.Topics[i] = t.WithDefaults()
	}
	for i, g := range c.Groups {
		g.HandoverTimeout = cmp.Or(g.HandoverTimeout, g.Timeout)
		g.Handler = g.Handler.WithPaths(c.credential, c.resolve)
		c.Groups[i] = g
	}
}

// resolvePaths finds the files of keys and passwords.
func (c *Config) resolvePaths() {
	c.HTTP.TokenFile = c.credential(c.HTTP.TokenFile)
	for _, t := range []*pki.TLSConfig{&c.Server.TLS, &c.HTTP.TLS} {
		t.CertFile, t.KeyFile, t.CAFile = c.credential(t.CertFile), c.credential(t.KeyFile), c.credential(t.CAFile)
	}
	for i, u := range c.Users {
		c.Users[i].PasswordFile = c.credential(u.PasswordFile)
	}
}

// timing is the session timing that goes with a named Raft timing.
type timing struct{ ttl, renew, margin time.Duration }

var timings = map[string]timing{
	raft.TimingLAN: {ttl: 5 * time.Second, renew: time.Second, margin: time.Second},
	raft.TimingWAN: {ttl: 20 * time.Second, renew: 4 * time.Second, margin: 3 * time.Second},
}

// samePlace reports whether two addresses cannot both be listened on.
func samePlace(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	return errA == nil && errB == nil && portA == portB && portA != "0" && portA != "-1" &&
		(hostA == hostB || isAny(hostA) || isAny(hostB))
}

func isAny(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || (ip != nil && ip.IsUnspecified())
}

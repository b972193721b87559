package server

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	broker "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"leasehold/internal/bytesize"
	"leasehold/internal/fielderr"
	"leasehold/internal/memory"
	"leasehold/internal/plural"
	"leasehold/server/access"
	"leasehold/server/datadir"
	"leasehold/server/disk"
	"leasehold/server/pki"
	"leasehold/server/raft"
)

// Account holds everything of ours: topics, the bucket, dead letters.
const Account = "LEASEHOLD"

// systemAccount carries the brokers' own traffic. JetStream must not be enabled in it.
const systemAccount = "SYS"

// deadLetterRoom is how much more the broker takes than users may send: a dead letter is the message plus headers
// that say why, and must always fit.
const deadLetterRoom = 64 * bytesize.KiB

// Durability settings: what an acknowledged message survives.
const (
	powerSafe   = "power-safe"   // every write is synced before it is acknowledged
	processSafe = "process-safe" // synced every two minutes: the death of processes, not of power
)

// Config is the [server] table.
type Config struct {
	Listen     string `toml:"listen"`     // where clients connect; port 0 takes any free one
	Durability string `toml:"durability"` // "power-safe" or "process-safe"
	// disk for streams, whose sizes are granted from it; Raft logs come on top
	MaxStore   bytesize.Size `toml:"max_store"`
	MaxMemory  bytesize.Size `toml:"max_memory"`  // for streams kept in memory; ours are on disk
	MaxPayload bytesize.Size `toml:"max_payload"` // what users may send in one message
	// of clients at a time; less where the machine has too few descriptors
	MaxConnections int `toml:"max_connections"`
	// free disk space below which publishes are refused; 0: by the disk's size
	MinFree bytesize.Size `toml:"min_free"`
	Ballast bytesize.Size `toml:"ballast"` // size of a file that is given up when the disk is full; 0: none
	TLS     pki.TLSConfig `toml:"tls"`     // of the client listener; routes are always TLS
}

// DefaultConfig is what a missing key means.
func DefaultConfig() Config {
	return Config{
		Listen: "127.0.0.1:4222", Durability: powerSafe,
		MaxStore: 8 * bytesize.GiB, MaxMemory: 256 * bytesize.MiB, MaxPayload: bytesize.MiB,
		MaxConnections: 16_384, Ballast: 64 * bytesize.MiB, TLS: pki.DefaultTLSConfig(),
	}
}

// Disk is the part of it that the watch on the disk needs.
func (c Config) Disk() disk.Config { return disk.Config{MinFree: c.MinFree, Ballast: c.Ballast} }

// Bounds of the sizes. The broker's own limit for a payload is 64 MiB, and it warns above 8.
const (
	minStore   = 64 * bytesize.MiB
	minMemory  = bytesize.MiB
	minPayload = bytesize.KiB
	maxPayload = 8*bytesize.MiB - deadLetterRoom
	minMinFree = 4 * bytesize.MiB // a quarter of it must do for the broker to start
	minBallast = bytesize.MiB

	maxMaxConnections = 100_000
)

// Validate returns every fault of the [server] table, each a *fielderr.Error.
func (c Config) Validate() error {
	faults := fielderr.NewList("server.")
	faults.AddTable("tls", c.TLS.Validate("server.tls"))
	if _, _, err := splitListen(c.Listen); err != nil {
		faults.Add("listen", "%w", err)
	}
	if c.Durability != powerSafe && c.Durability != processSafe {
		faults.Add("durability", "%q is neither %q nor %q", c.Durability, powerSafe, processSafe)
	}
	if c.MaxStore < minStore {
		faults.Add("max_store", "%s is less than %s", c.MaxStore, minStore)
	}
	if c.MaxMemory < minMemory {
		faults.Add("max_memory", "%s is less than %s", c.MaxMemory, minMemory)
	}
	if c.MaxPayload < minPayload || c.MaxPayload > maxPayload {
		faults.Add("max_payload", "%s is not between %s and %s", c.MaxPayload, minPayload, maxPayload)
	}
	if c.MaxConnections < 1 || c.MaxConnections > maxMaxConnections {
		faults.Add("max_connections", "%d is not between 1 and %d", c.MaxConnections, maxMaxConnections)
	}
	if c.MinFree != 0 && c.MinFree < minMinFree {
		faults.Add("min_free", "%s is less than %s; 0 leaves it to the size of the disk", c.MinFree, minMinFree)
	}
	if c.Ballast != 0 && c.Ballast < minBallast {
		faults.Add("ballast", "%s is less than %s; 0 means none", c.Ballast, minBallast)
	}
	return faults.Err()
}

// splitListen takes "host:port" apart; ports 0 and -1 mean any free one, which the broker writes as -1.
func splitListen(addr string) (host string, port int, err error) {
	host, p, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("%q is not HOST:PORT", addr)
	}
	port, err = strconv.Atoi(p)
	if err != nil || port < -1 || port > 65535 {
		return "", 0, fmt.Errorf("%q: port %q is not a number from 0 to 65535", addr, p)
	}
	if port == 0 {
		port = broker.RANDOM_PORT
	}
	return host, port, nil
}

// Peer is one node of the cluster as the config names it.
type Peer struct{ Name, Address string }

// Options are what a Server needs.
type Options struct {
	Config
	datadir.Identity
	Dir *datadir.Dir

	ClusterListen string   // where this node listens for the others, "" in single mode
	Advertise     string   // HOST:PORT at which the others reach it, if not ClusterListen
	Peers         []Peer   // every configured node including this one; empty in single mode
	Secrets       [][]byte // 32 bytes each; the first makes our certificates, all are accepted
	Timing        raft.Timing

	// PublishSubjects is what local clients, which need no password, may publish to. They may do nothing else, and
	// there are none when other machines can reach the listener.
	PublishSubjects []string
	// Topics and Groups name those that this node serves: what the connections of the roles may work with.
	Topics, Groups []string
	// Operations is what one user may ask for in a second beside its messages; 0: as a fleet of devices needs. Another one
	// is for tests that wait until buffers are full.
	Operations int
	// Unlimited adds the role "test", which may do everything. It is for tests.
	Unlimited bool
	// ConnClosed, if set, is called when a connection that Conn made has ended permanently, and the node did not close it:
	// the client library does not reconnect after some of the broker's refusals. It must not block.
	ConnClosed func(role Role, err error)

	// Users are the clients that show who they are. A listener that other machines can reach needs at least one.
	Users []access.User

	// BeforeClose, if set, is called once before the listeners close, whatever the reason: ctx ended (then cause is
	// nil) or the broker gave up. Other nodes take a closed cluster port as a sign that this node runs no call any
	// more, so it must not return before all lanes are joined (or must end the process).
	BeforeClose func(cause error)

	// CutOff, if set, is called when the last route to any other node has ended. It must not block.
	CutOff func()

	Logger hclog.Logger
}

// minPeers is the smallest cluster. Two nodes stop when either does, which is worse than one.
const minPeers = 3

func (o Options) validate() error {
	errs := []error{o.Config.Validate(), access.CheckReach(o.Listen, len(o.Users))}
	if o.Dir == nil || o.Logger == nil {
		errs = append(errs, errors.New("server: Dir and Logger are required"))
	}
	for _, s := range o.PublishSubjects {
		if !access.ValidSubject(s) {
			errs = append(errs, fmt.Errorf("topic.subject: %q is not a valid subject", s))
		}
	}
	for _, name := range slices.Concat(o.Topics, o.Groups) {
		if !access.ValidSubject(name) || strings.ContainsAny(name, ".*>") {
			errs = append(errs, fmt.Errorf("topic.name, group.name: %q is not a valid name", name))
		}
	}
	for _, u := range o.Users {
		errs = append(errs, u.Validate())
	}
	switch o.Mode {
	case datadir.Single:
		if o.TLS.UsesSecret() {
			errs = append(errs, pki.CheckSecrets(o.Secrets))
		}
	case datadir.Cluster:
		errs = append(errs, o.validateCluster())
	default:
		errs = append(errs, fmt.Errorf("server: mode %q is neither %q nor %q", o.Mode, datadir.Single, datadir.Cluster))
	}
	return errors.Join(errs...)
}

func (o Options) validateCluster() error {
	var errs []error
	if len(o.Peers) < minPeers {
		errs = append(errs, fmt.Errorf("cluster.nodes: %s %s too few for a cluster, it needs %d: "+
			"with two, the loss of either stops both", plural.Of(len(o.Peers), "node"), plural.Verb(len(o.Peers), "is", "are"),
			minPeers))
	}
	if _, port, err := splitListen(o.ClusterListen); err != nil {
		errs = append(errs, fmt.Errorf("cluster.nodes: address of this node: %w", err))
	} else if port == broker.RANDOM_PORT {
		errs = append(errs, errors.New("cluster.nodes: the others must know this node's port, it cannot be 0"))
	}
	if o.Timing.Heartbeat <= 0 || o.Timing.Heartbeat >= o.Timing.ElectionMin ||
		o.Timing.ElectionMin >= o.Timing.ElectionMax {
		errs = append(errs, fmt.Errorf("cluster.timing: %+v is not ordered heartbeat < election", o.Timing))
	}
	named := false
	for _, p := range o.Peers {
		named = named || p.Name == o.Node
		if _, _, err := net.SplitHostPort(p.Address); err != nil {
			errs = append(errs, fmt.Errorf("cluster.nodes: %s=%s: %w", p.Name, p.Address, err))
		}
	}
	if !named {
		errs = append(errs, fmt.Errorf("cluster.nodes: this node, %q, is not in the list", o.Node))
	}
	return errors.Join(append(errs, pki.CheckSecrets(o.Secrets))...)
}

// identity is a user of the broker with what it may do. Its key exists only in this process's memory, and the broker
// takes only in-process connections.
type identity struct {
	key nkeys.KeyPair
	rights
}

// credentials are the users of one process's broker.
type credentials struct {
	roles  map[Role]identity
	system nkeys.KeyPair
}

func (o Options) newCredentials() (credentials, error) {
	c := credentials{roles: map[Role]identity{}}
	var errs []error
	for role, r := range o.roles() {
		key, err := nkeys.CreateUser()
		c.roles[role] = identity{key, r}
		errs = append(errs, err)
	}
	var err error
	c.system, err = nkeys.CreateUser()
	if err := errors.Join(append(errs, err)...); err != nil {
		return credentials{}, fmt.Errorf("make the broker's users: %w", err)
	}
	return c, nil
}

// brokerOptions makes the broker's options. Accounts go through config text: built by hand they come up without
// JetStream, whose per-account limits are an unexported field.
func (o Options) brokerOptions(users credentials) (*broker.Options, error) {
	text, err := o.configText(users)
	if err != nil {
		return nil, err
	}
	b := &broker.Options{}
	if err := b.ProcessConfigString(text); err != nil {
		return nil, fmt.Errorf("broker options: %w", err)
	}
	b.Host, b.Port = "127.0.0.1", broker.RANDOM_PORT // nobody listens there: see withoutListener
	b.ServerName = o.Dir.ServerName()
	b.JetStream = true
	b.StoreDir = o.Dir.Path() // the broker adds the last part of Dir.StoreDir itself
	b.DisableJetStreamBanner = true
	b.NoSigs = true // signals are main's
	b.MaxPayload = int32(o.MaxPayload + deadLetterRoom)
	b.StreamMaxBufferedSize = max(memory.Share(maxBuffered, bufferedPart), 8*int64(b.MaxPayload))
	b.JetStreamMaxCatchup = max(memory.Share(maxCatchup, bufferedPart), 8*int64(b.MaxPayload))
	if o.Mode == datadir.Cluster {
		return b, o.addCluster(b)
	}
	return b, nil
}

// What the broker may hold in memory: its own defaults, or a part of the memory limit where that is less. More is
// refused with "too many requests", and sent again by publishers.
const (
	maxBuffered  = 128 << 20 // bytes published to a topic that are not in its Raft log yet
	maxCatchup   = 64 << 20  // bytes on the way to replicas that catch up
	bufferedPart = 8
)

// configText holds what only the config parser can set up.
func (o Options) configText(users credentials) (string, error) {
	accounts, err := users.accounts()
	if err != nil {
		return "", err
	}
	syncInterval := "always"
	if o.Durability == processSafe {
		syncInterval = "2m"
	}
	return fmt.Sprintf("system_account: %s\njetstream: { max_mem: %d, max_file: %d, sync_interval: %q }\n%s",
		systemAccount, int64(o.MaxMemory), int64(brokerStore), syncInterval, accounts), nil
}

// brokerStore is the broker's own limit of storage: none. It counts the sizes of all streams, and a node whose limit is
// below that sum comes up without its replicas and refuses every larger stream (nats-server v2.15.2,
// server/jetstream.go: checkBytesLimits; jetstream_cluster.go: selectPeerGroup), so that a max_store that differs
// between nodes, or was lowered, would stop them. And when the limit is reached, nothing is stored any more, leases
// neither. What bounds the store are the streams' sizes; who makes them keeps their sum below MaxStore
// (partitioner.Sizing).
const brokerStore = 1 << 60

// allowRule allows these subjects only. An empty allow list would mean everything to the broker.
func allowRule(subjects []string) string {
	if len(subjects) == 0 {
		return `{ deny: [">"] }`
	}
	return `{ allow: ["` + strings.Join(subjects, `", "`) + `"] }`
}

// Route settings.
const (
	// A dead link is closed after about four of these; the broker's own 30 s would let a cut-off node's routes linger.
	routePing       = 5 * time.Second
	routeTLSTimeout = 5.0 // seconds; a small box needs more than the broker's 2 when three start at once
	routePool       = 1   // one account carries all our traffic, and the system account has a route of its own anyway
)

// addCluster makes the broker one of the cluster. Every configured node is a route, this one too: the number of routes
// is the number of votes that the very first election needs.
func (o Options) addCluster(b *broker.Options) error {
	host, port, err := splitListen(o.ClusterListen)
	if err != nil {
		return err
	}
	config, err := pki.RouteTLS(o.Secrets, time.Now)
	if err != nil {
		return err
	}
	b.Cluster = broker.ClusterOpts{
		Name: o.Identity.Cluster, Host: host, Port: port, Advertise: o.Advertise,
		NoAdvertise:  true, // of *client* addresses: 127.0.0.1 of another node is of no use to a client here
		PoolSize:     routePool,
		PingInterval: routePing,
		TLSConfig:    config, TLSTimeout: routeTLSTimeout,
	}
	for _, p := range o.Peers {
		b.Routes = append(b.Routes, &url.URL{Scheme: "nats-route", Host: p.Address})
	}
	return nil
}

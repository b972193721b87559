package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	broker "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"leasehold/server/datadir"
	"leasehold/server/ingress"
	"leasehold/server/raft"
	"leasehold/server/replicas"
)

// Bounds of start and stop.
const (
	stopLimit = 5 * time.Second // for the whole stop: a site's power-off stops all nodes at once, nobody to hand over to
	startWait = 2 * time.Second // of which at most this long for a start that is under way
)

// replicaCount is how many replicas a cluster keeps of everything.
const replicaCount = 3

// Server is one run of the embedded broker.
type Server struct {
	opt    Options
	log    hclog.Logger
	out    *brokerLog
	users  credentials
	broker *broker.Server

	ingress *ingress.Ingress // set before started is closed

	ran      atomic.Bool
	started  chan struct{} // closed once the listeners are up
	health   *health
	replicas *replicas.Local
	routes   *routes
	heard    *lastHeard
}

// New checks the options and builds the broker. Nothing runs and no port is taken before Run.
func New(o Options) (*Server, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	if o.Mode == datadir.Cluster {
		if err := o.Dir.CheckClusterState(Account, systemAccount); err != nil {
			return nil, err
		}
	}
	users, err := o.newCredentials()
	if err != nil {
		return nil, err
	}
	opts, err := o.brokerOptions(users)
	if err != nil {
		return nil, err
	}
	b, err := broker.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("build the broker: %w", err)
	}
	if err := withoutListener(b); err != nil {
		return nil, err
	}
	log := o.Logger.Named("broker")
	watched := newRoutes(o.CutOff)
	s := &Server{opt: o, log: log, out: newBrokerLog(log, watched), routes: watched, users: users, broker: b,
		started: make(chan struct{}), heard: newLastHeard()}
	s.health = newHealth(s)
	s.replicas = replicas.New(b, Account, o.Dir.ServerName(), log, s.notice)
	b.SetLoggerV2(s.out, log.IsTrace(), false, false)
	return s, nil
}

// Run starts the broker and blocks until ctx ends or the broker failed. After ctx it returns nil, with the ports
// free and Raft leaders handed over; if the broker gave up, its reason. A stop that takes longer than 5 s is an error,
// and the process should end, for then parts of the broker still run.
func (s *Server) Run(ctx context.Context) error {
	if !s.ran.CompareAndSwap(false, true) {
		return errors.New("server: Run was called twice")
	}
	if err := s.probeListeners(ctx); err != nil {
		return err
	}
	if err := s.listen(); err != nil { //nolint:contextcheck // Clients are served until Close, while the broker stops.
		return err
	}
	defer s.ingress.Close()
	if s.opt.Mode == datadir.Cluster {
		if err := raft.Timers.Acquire(s.opt.Timing); err != nil {
			return err
		}
	}
	startDone := make(chan struct{})
	go func() {
		defer close(startDone)
		s.broker.Start()
	}()
	looks, stopLooking := context.WithCancel(context.WithoutCancel(ctx))
	var looking sync.WaitGroup
	cause := s.serve(ctx, startDone, func() {
		looking.Go(s.ingress.Run)
		looking.Go(func() { s.health.run(looks) })
		looking.Go(func() { s.replicas.WatchCaches(looks) })
		if s.opt.Mode == datadir.Cluster {
			looking.Go(func() { s.watchRoutes(looks) })
			looking.Go(func() { s.replicas.WatchStalled(looks) })
			looking.Go(func() { s.announceActivity(looks) })
		}
	})
	if s.opt.BeforeClose != nil {
		s.opt.BeforeClose(cause)
	}
	s.ingress.Close()
	s.routes.close()
	stopLooking()
	return errors.Join(cause, s.stop(startDone, &looking))
}

// serve waits for the listeners, tells so, and then for the end.
func (s *Server) serve(ctx context.Context, startDone <-chan struct{}, up func()) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	polls := tick.C
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-s.out.fatal:
			return fmt.Errorf("broker gave up: %w", err)
		case <-polls:
			if !isClosed(startDone) || !s.broker.ReadyForConnections(time.Millisecond) {
				continue
			}
			polls = nil
			s.log.Info("broker started", "server", s.opt.Dir.ServerName(), "clients", s.ingress.Addr(), "cluster",
				s.clusterAddr())
			close(s.started)
			up()
		}
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// stop shuts the broker down. Its Shutdown first moves every Raft leader to a follower that is current, so that the
// others need no election.
func (s *Server) stop(startDone <-chan struct{}, looking *sync.WaitGroup) error {
	begun := time.Now()
	limit := time.NewTimer(stopLimit)
	defer limit.Stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		// A Shutdown that overtakes Start leaves a broker that Start then wakes up.
		select {
		case <-startDone:
		case <-time.After(startWait):
		}
		s.broker.Shutdown()
		s.broker.WaitForShutdown()
		<-startDone
		looking.Wait()
	}()
	select {
	case <-limit.C:
		return fmt.Errorf("stop the broker: still not stopped after %s", stopLimit)
	case <-done:
	}
	if s.opt.Mode == datadir.Cluster {
		raft.Timers.Release()
	}
	if s.out.writeFailed.Load() {
		if err := s.opt.Dir.DropIndexes(); err != nil {
			return err
		}
		s.log.Warn("a write failed: the next start rebuilds the stream indexes")
	}
	s.log.Info("broker stopped", "took_ms", time.Since(begun).Milliseconds())
	return nil
}

// probeListeners finds a taken cluster port before the broker starts: it would notice only after its store has been
// opened. A port that nobody else can reach is warned of: it looks like a network that is down, on every machine.
func (s *Server) probeListeners(ctx context.Context) error {
	if s.opt.Mode != datadir.Cluster {
		return nil
	}
	if s.opt.Advertise == "" {
		if text := CheckRoutes(ctx, net.DefaultResolver, s.opt.Identity.Node, s.opt.Peers); text != "" {
			s.log.Warn(text)
		}
	}
	return probe("cluster.nodes", s.opt.ClusterListen)
}

// clusterAddr is where the broker listens for others, "" if it does not: the address, not the name that it was given.
func (s *Server) clusterAddr() string {
	if a := s.broker.ClusterAddr(); s.opt.Mode == datadir.Cluster && a != nil {
		return a.String()
	}
	return s.opt.ClusterListen
}

func probe(key, addr string) error {
	host, port, err := splitListen(addr)
	if err != nil || port == broker.RANDOM_PORT {
		return err
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, fmt.Sprint(port)))
	if err != nil {
		return explainListen(key, addr, err)
	}
	return l.Close()
}

// Started is closed once the listeners are up and Conn works. That is not yet ready: see Ready.
func (s *Server) Started() <-chan struct{} { return s.started }

// Conn makes an in-process connection in our account, with a role's rights. It reconnects by itself and keeps nothing
// back while it is not connected: a write that could not be sent is an error at once, never sent later behind one's
// back.
func (s *Server) Conn(role Role) (*nats.Conn, error) {
	who, ok := s.users.roles[role]
	if !ok {
		return nil, fmt.Errorf("connect to the broker: there is no role %q", role)
	}
	return s.connect(role, who.key)
}

var errNotStarted = errors.New("connect to the broker: it has not started yet")

func (s *Server) connect(role Role, user nkeys.KeyPair) (*nats.Conn, error) {
	if !isClosed(s.started) {
		return nil, errNotStarted
	}
	public, err := user.PublicKey()
	if err != nil {
		return nil, err
	}
	return s.open(role, nats.InProcessServer(s.broker), nats.Nkey(public, user.Sign),
		nats.CustomInboxPrefix(s.opt.inboxPrefix(role)))
}

// open makes a connection that reconnects by itself and keeps nothing back while it is not connected.
func (s *Server) open(role Role, options ...nats.Option) (*nats.Conn, error) {
	log := s.opt.Logger.Named("conn").With("conn", string(role))
	nc, err := nats.Connect("", append(options,
		nats.Name(string(role)), nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond),
		nats.ReconnectBufSize(-1),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { log.Debug("disconnected", "error", err) }),
		nats.NoCallbacksAfterClientClose(), nats.ClosedHandler(func(nc *nats.Conn) { s.connClosed(role, nc.LastError()) }),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) { logAsync(log, sub, err) }),
	)...)
	if err != nil {
		return nil, fmt.Errorf("connect to the broker: %w", err)
	}
	return nc, nil
}

// connClosed tells that a connection ended that nobody here has closed. With most of the broker's errors the client
// library reconnects; the others it takes to be final, such as that of a line which is too long.
func (s *Server) connClosed(role Role, err error) {
	s.log.Error("broker closed a connection of this node, which does not reconnect", "conn", string(role), "error", err)
	if s.opt.ConnClosed != nil {
		s.opt.ConnClosed(role, err)
	}
}

// logAsync replaces the client library's handler, which prints to stderr.
func logAsync(log hclog.Logger, sub *nats.Subscription, err error) {
	if sub != nil {
		log = log.With("subject", sub.Subject)
	}
	log.Warn("connection error", "error", err)
}

// ID is the broker's server id, new in every process.
func (s *Server) ID() string { return s.broker.ID() }

// Replicas is how many replicas every stream has: 1 or 3.
func (s *Server) Replicas() int {
	if s.opt.Mode == datadir.Cluster {
		return replicaCount
	}
	return 1
}

// ClientAddr is the host and port clients connect to, "" before Started.
func (s *Server) ClientAddr() string {
	if !isClosed(s.started) {
		return ""
	}
	return s.ingress.Addr().String()
}

// ServerNodeName is the node's name in a broker's server name: all before the random id.
func (s *Server) ServerNodeName(serverName string) string { return nodeName(serverName) }

func nodeName(serverName string) string {
	if i := strings.LastIndexByte(serverName, '-'); i >= 0 {
		return serverName[:i]
	}
	return serverName
}

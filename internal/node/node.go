// Package node puts a node together: it builds the broker, the topics, the readers, the groups, the lease driver and
// the face to the outside, starts them in order and stops them in the opposite one.
package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"leasehold/cluster"
	"leasehold/internal/api"
	"leasehold/internal/brokererr"
	"leasehold/internal/config"
	"leasehold/internal/logsink"
	"leasehold/server"
	"leasehold/server/datadir"
	"leasehold/server/disk"
	"leasehold/server/pki"
	"leasehold/server/raft"
)

// ErrConfig is in the chain of Run's error when the config contradicts what is stored: trying again will not help.
var ErrConfig = errors.New("this config cannot be run here")

// Options are what a node is run with.
type Options struct {
	Config  *config.Config
	Logger  hclog.Logger
	Log     *logsink.Sink // Where Logger writes; nil if that is nothing that can be stuck.
	Version string
}

// Node is one run of a node.
type Node struct {
	Options
	log hclog.Logger

	before againError    // How the life before this one ended.
	pause  time.Duration // How long to wait before the broker is started, if that was a fault.

	dir    *datadir.Dir
	disk   *disk.Disk
	broker *server.Server
	conns  conns
	kv     *cluster.KV
	driver *cluster.Driver
	topics map[string]*topic
	groups []*group
	ingest *ingest

	doors    *doors // Whether the topics take messages.
	liveness liveness

	deaths deaths // What this node has seen of the deaths of others.

	holes   copyHoles
	mended  aside       // The copy that was set aside before this life.
	endLife func(error) // Ends this life. Set before the first lane starts.
	stop    func(error) // Ends this life, whatever it is doing. Set before the broker starts.

	clientCA string // PEM of what clients trust, if the listener's certificate comes from the cluster's secret

	mu      sync.Mutex
	closing bool     // The broker closes its listeners by itself: no lane may start any more.
	waiting []string // What the node waits for; empty means ready.
	served  bool     // driver, topics, groups and ingest are set and do not change any more.
}

// newLife is a node before it has done anything. before is how the life before it ended, pause how long to wait if that was a
// fault.
func newLife(o Options, before againError, pause time.Duration) *Node {
	return &Node{Options: o, log: o.Logger.Named("node"), topics: map[string]*topic{}, before: before, pause: pause}
}

// runLife runs the node from the data directory to the broker's end.
func (n *Node) runLife(ctx context.Context) error {
	o := n.Options
	n.wait("the data directory")
	dir, err := datadir.Open(o.Config.Node.DataDir, o.Config.Identity())
	if errors.Is(err, datadir.ErrMismatch) {
		err = fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if err != nil {
		return err
	}
	defer dir.Close() //nolint:errcheck // the life ends
	n.dir = dir
	if n.disk, err = disk.New(dir.Path(), o.Config.Server.Disk(), o.Logger); err != nil {
		return err
	}
	secrets, err := o.Config.ReadSecrets()
	if err != nil {
		return err
	}
	web, err := n.newFace(secrets)
	if err != nil {
		return err
	}
	if n.broker, err = n.newBroker(secrets); err != nil {
		return err
	}
	if aside := n.before.aside; aside.topic != "" {
		if err := n.setAside(aside); err != nil {
			return err
		}
	}
	return n.run(ctx, web)
}

// run runs the parts. Each outer part outlives the inner ones, and the end of any ends the node.
func (n *Node) run(ctx context.Context, web *api.Server) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	n.stop = stop
	outer := context.WithoutCancel(ctx)
	disk := runPart(outer, stop, "disk", n.disk.Run)
	face := runPart(outer, stop, "http", web.Run)
	news := n.tellManager(ctx, web.Started())

	broker, err := n.live(ctx, stop)
	if again := startsAgain(err); again != nil {
		stop(again)
	}
	n.wait("the end of this node: it is stopping")
	err = errors.Join(err, news.endSoon(), face.end())
	n.conns.close()
	stuck := broker()
	err = ending(context.Cause(ctx), errors.Join(err, disk.endSoon()), stuck)
	if err == nil {
		n.log.Info("stopped")
	}
	return err
}

// ending is what a life ends with. What ended it says more than what came of it; but with a broker or a part that does not
// stop, no other life can begin in this process.
func ending(cause, err, stuck error) error {
	if errors.Is(err, errStuck) {
		stuck = errors.Join(stuck, err)
	}
	err = errors.Join(err, stuck)
	if cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	if again := startsAgain(err); stuck != nil && again != nil {
		return fmt.Errorf("%s, and this process cannot start its broker again: %w", again.reason, stuck)
	}
	return err
}

// live starts the broker once there is room for it, and serves until ctx ends. It returns what ends the broker.
func (n *Node) live(ctx context.Context, stop context.CancelCauseFunc) (end func() error, err error) {
	if err := n.room(ctx); err != nil {
		return func() error { return nil }, n.cutShort(ctx, err)
	}
	broker := runPart(context.WithoutCancel(ctx), stop, "broker", n.broker.Run)
	storage := runPart(ctx, stop, "storage", n.watchStorage)
	err = n.serve(ctx)
	return broker.end, errors.Join(err, storage.endSoon())
}

// part is something that runs beside the rest.
type part struct {
	name   string
	cancel context.CancelFunc
	done   chan error
}

// errStuck is for a part that does not end. As long as it runs, no other life can begin in this process.
var errStuck = errors.New("it does not end")

// partLimit is how long a part may take that has nothing to do at its end.
const partLimit = 10 * time.Second

// runPart runs f. If it ends before it is asked to, the whole node stops with its error.
func runPart(ctx context.Context, stop context.CancelCauseFunc, name string, f func(context.Context) error) *part {
	ctx, cancel := context.WithCancel(ctx)
	p := &part{name: name, cancel: cancel, done: make(chan error, 1)}
	go func() {
		err := f(ctx)
		if ctx.Err() == nil {
			if err == nil {
				err = fmt.Errorf("%s ended by itself", name)
			}
			stop(err)
		}
		p.done <- err
	}()
	return p
}

// end asks the part to end and waits for it.
func (p *part) end() error {
	p.cancel()
	return <-p.done
}

// endSoon asks the part to end and does not wait for long: it may be waiting for a broker or a disk that hangs.
func (p *part) endSoon() error {
	p.cancel()
	timer := time.NewTimer(partLimit)
	defer timer.Stop()
	select {
	case err := <-p.done:
		return err
	case <-timer.C:
		return fmt.Errorf("%s: %w", p.name, errStuck)
	}
}

// newFace builds what answers over HTTP.
func (n *Node) newFace(secrets config.Secrets) (*api.Server, error) {
	c := n.Config
	token, err := c.ReadToken()
	if err != nil {
		return nil, err
	}
	for _, w := range token.Warnings {
		n.log.Warn(w)
	}
	protection, err := pki.ListenerTLS(c.HTTP.TLS, secrets.Keys, n.Logger)
	if err != nil {
		return nil, fmt.Errorf("http.tls: %w", err)
	}
	return api.New(api.Options{
		Listen: c.HTTP.Listen, Socket: n.dir.SocketPath(), Source: n, Membership: public{n}, Requests: public{n}, Messages: public{n}, Alive: n.Alive,
		Token: token.Text, MaxPayload: int64(c.Server.MaxPayload), TLS: protection, Logger: n.Logger,
	})
}

// newBroker builds the embedded server.
func (n *Node) newBroker(secrets config.Secrets) (*server.Server, error) {
	c := n.Config
	timing, err := raft.TimingByName(c.Cluster.Timing)
	if err != nil {
		return nil, err
	}
	users, err := c.ReadUsers()
	if err != nil {
		return nil, err
	}
	if c.Server.TLS.UsesSecret() {
		ca, err := pki.ClientCA(secrets.Keys)
		if err != nil {
			return nil, err
		}
		n.clientCA = string(ca)
	}
	handlers, err := c.CheckHandlerFiles()
	if err != nil {
		return nil, err
	}
	for _, w := range slices.Concat(c.Warnings(), secrets.Warnings, handlers) {
		n.log.Warn(w)
	}
	var subjects, topics, groups []string
	for _, t := range c.Topics {
		subjects, topics = append(subjects, t.Subject), append(topics, t.Name)
	}
	for _, g := range c.Groups {
		groups = append(groups, g.Name)
	}
	return server.New(server.Options{
		Config: c.Server, Identity: c.Identity(), Dir: n.dir,
		ClusterListen: c.ClusterListen(), Advertise: c.Cluster.Advertise, Peers: c.Peers(),
		Secrets: secrets.Keys, Timing: timing, PublishSubjects: subjects, Topics: topics, Groups: groups, Users: users,
		BeforeClose: n.beforeClose, CutOff: n.cutOff, ConnClosed: n.connClosed, Logger: n.Logger,
	})
}

// beforeClose sees to it that no call runs once the cluster port is closed: others take that as a proof. In an orderly
// stop all lanes are joined by then; when the broker gives up by itself they are joined here.
func (n *Node) beforeClose(cause error) {
	if cause == nil {
		return
	}
	n.mu.Lock()
	driver := n.driver
	n.closing = true
	n.mu.Unlock()
	if driver != nil {
		driver.Abort(fmt.Errorf("the broker gave up: %w", cause))
	}
}

// cutOff has the driver end all calls: to the others this node may look dead.
func (n *Node) cutOff() {
	n.mu.Lock()
	driver := n.driver
	n.mu.Unlock()
	if driver != nil && n.Config.Cluster.FastTakeover {
		driver.Isolated() // first: a log can be slow
		n.log.Warn("every route has ended: no call starts before the others are heard again")
	}
}

// wait says what the node waits for; nothing means ready.
func (n *Node) wait(what ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.waiting = nil
	for _, w := range what {
		n.waiting = append(n.waiting, brokererr.Plain(w))
	}
}

// Ready lists what the node waits for.
func (n *Node) Ready() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.waiting
}

// until calls look every interval until it has nothing more to wait for; what it waits for shows in Ready.
func (n *Node) until(ctx context.Context, interval time.Duration, look func() []string) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		reasons := look()
		if len(reasons) == 0 {
			return nil
		}
		n.wait(reasons...)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

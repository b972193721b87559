// Package node composes a node: it builds the broker, the topics, the readers, the groups, the lease driver and what
// watches over them, starts them in order and stops them in the opposite one. DESIGN.md says in which and why.
package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"

	"leasehold/cluster"
	"leasehold/internal/admin"
	"leasehold/internal/api"
	"leasehold/internal/config"
	"leasehold/internal/diskguard"
	"leasehold/internal/ingest"
	"leasehold/internal/logsink"
	"leasehold/internal/membership"
	"leasehold/internal/readiness"
	"leasehold/internal/registry"
	"leasehold/internal/repair"
	"leasehold/internal/sdnotify"
	"leasehold/internal/status"
	"leasehold/internal/supervise"
	"leasehold/partitioner"
	"leasehold/server"
	"leasehold/server/datadir"
	"leasehold/server/disk"
	"leasehold/server/pki"
)

// ErrConfig is in the chain of Run's error when the config contradicts what is stored: trying again will not help.
var ErrConfig = supervise.ErrConfig

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

	before  supervise.RestartError // How the run before this one ended.
	delay   time.Duration          // How long to wait before the broker is started, if that was a fault.
	waiting supervise.Waiting

	dir      *datadir.Dir
	disk     *disk.Disk
	broker   *server.Server
	clientCA string // PEM of what clients trust, if the listener's certificate comes from the cluster's secret.
	view     *status.View

	// Set once the broker has started.
	conns      conns
	kv         *cluster.KV // For everything but the lease protocol.
	registry   *registry.Registry
	capacity   diskguard.Capacity
	membership *membership.Membership
	setup      *setup
	topics     map[string]*topic
	repair     *repair.Repair
	work       *work

	ingest   *ingest.Ingest
	liveness readiness.Liveness
	stage    stage
	stop     func(error) // Ends this run, whatever it is doing. Set before the broker starts.
}

// newRun is a node before it has done anything. before is how the run before it ended, delay how long to wait if that
// was a fault.
func newRun(o Options, before supervise.RestartError, delay time.Duration) *Node {
	return &Node{Options: o, log: o.Logger.Named("node"), topics: map[string]*topic{}, before: before, delay: delay}
}

// single reports whether the node is on its own.
func (n *Node) single() bool { return n.Config.Mode() == datadir.Single }

// run runs the node from the data directory to the broker's end.
func (n *Node) run(ctx context.Context) error {
	o := n.Options
	n.waiting.For("the data directory")
	dir, err := datadir.Open(o.Config.Node.DataDir, o.Config.Identity())
	if errors.Is(err, datadir.ErrMismatch) {
		err = fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if err != nil {
		return err
	}
	defer dir.Close() //nolint:errcheck // the run ends
	n.dir = dir
	if n.disk, err = disk.New(dir.Path(), o.Config.Server.Disk(), o.Logger); err != nil {
		return err
	}
	secrets, err := o.Config.ReadSecrets()
	if err != nil {
		return err
	}
	if n.broker, err = n.newBroker(secrets); err != nil {
		return err
	}
	http, err := n.newHTTP(secrets)
	if err != nil {
		return err
	}
	if err := n.quarantine(n.before.Quarantine); err != nil {
		return err
	}
	return n.runParts(ctx, http)
}

// quarantine moves away the replica that the run before this one has given up.
func (n *Node) quarantine(q supervise.Quarantine) error {
	if q.Topic == "" {
		return nil
	}
	to, err := n.dir.Quarantine(server.Account, q.Topic, time.Now())
	if err != nil {
		return err
	}
	n.log.Warn("corrupt replica moved away; delete it when you have looked at it", "topic", q.Topic, "moved_to", to)
	return nil
}

// runParts runs the parts. Each outer part outlives the inner ones, and the end of any ends the node.
func (n *Node) runParts(ctx context.Context, http *api.Server) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	n.stop = stop
	outer := context.WithoutCancel(ctx)
	diskPart := supervise.Go(outer, stop, "disk", n.disk.Run)
	web := supervise.Go(outer, stop, "http", http.Run)
	manager := sdnotify.New(sdnotify.Options{
		Node: n.Config.Node.Name, Socket: n.dir.SocketPath(), Liveness: &n.liveness, Waiting: &n.waiting,
		Driver: n.stage.leases, Logger: n.log,
	})
	notify := manager.Start(ctx, http.Started())

	stopBroker, err := n.runOnBroker(ctx, stop)
	if restart := supervise.AsRestart(err); restart != nil {
		stop(restart)
	}
	n.waiting.For("this node to stop")
	err = errors.Join(err, notify.StopSoon(), web.Stop())
	n.conns.close()
	stuck := stopBroker()
	err = exitCause(context.Cause(ctx), errors.Join(err, diskPart.StopSoon()), stuck)
	if err == nil {
		n.log.Info("stopped")
	}
	return err
}

// exitCause is what a run ends with. What ended it says more than what came of it; but with a broker or a part that
// does not stop, no other run can begin in this process.
func exitCause(cause, err, stuck error) error {
	if errors.Is(err, supervise.ErrStuck) {
		stuck = errors.Join(stuck, err)
	}
	err = errors.Join(err, stuck)
	if cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	if restart := supervise.AsRestart(err); stuck != nil && restart != nil {
		return fmt.Errorf("%s, and this process cannot start its broker again: %w", restart.Reason, stuck)
	}
	return err
}

// runOnBroker starts the broker once there is disk space for it, and serves until ctx ends. It returns what stops the
// broker.
func (n *Node) runOnBroker(ctx context.Context, stop context.CancelCauseFunc) (stopBroker func() error, err error) {
	s := storage{
		disk: n.disk, broker: n.broker, waiting: &n.waiting, log: n.log, before: n.before, delay: n.delay,
	}
	if err := s.awaitSpace(ctx); err != nil {
		return func() error { return nil }, ignoreStop(ctx, err)
	}
	broker := supervise.Go(context.WithoutCancel(ctx), stop, "broker", n.broker.Run)
	storage := supervise.Go(ctx, stop, "storage", s.watch)
	err = n.serve(ctx)
	return broker.Stop, errors.Join(err, storage.StopSoon())
}

// newHTTP builds what answers over HTTP, and the view of the node that it answers from.
func (n *Node) newHTTP(secrets config.Secrets) (*api.Server, error) {
	c := n.Config
	n.view = n.newView()
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
	n.ingest = ingest.New(ingest.Options{
		Topic: func(name string) (partitioner.Topic, error) {
			t, err := n.view.OpenTopic(name)
			return t.Topic, err
		},
		MaxPayload: int64(c.Server.MaxPayload),
		Connect:    func() (*nats.Conn, error) { return n.broker.IngressConn(server.HTTPUser) },
	})
	answers := admin.New(n.view, n.ingest.Publish, n.Logger)
	return api.New(api.Options{
		Listen: c.HTTP.Listen, Socket: n.dir.SocketPath(), Source: answers, Membership: answers, Requests: answers,
		Messages:  answers,
		Explainer: answers, Alive: n.liveness.Alive, Token: token.Text, MaxPayload: int64(c.Server.MaxPayload),
		TLS: protection, Logger: n.Logger,
	})
}

func (n *Node) newView() *status.View {
	return status.NewView(status.Options{
		Config: n.Config, Broker: n.broker, ClientCA: n.clientCA, ConfigHash: configHash(n.Config), Ready: n.waiting.Reasons,
		Opened: n.stage.opened, Serving: n.stage.serves,
	})
}

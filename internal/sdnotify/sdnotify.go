// Package sdnotify keeps the service manager that started the process informed about the node.
package sdnotify

import (
	"context"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/hashicorp/go-hclog"

	"leasehold/cluster"
	"leasehold/internal/api"
	"leasehold/internal/plural"
	"leasehold/internal/readiness"
	"leasehold/internal/status"
	"leasehold/internal/supervise"
)

// statusInterval is how often a notifier looks, at most.
const statusInterval = 2 * time.Second

// notifier tells the service manager that started the process, if one did, that the node is up, that it still makes
// progress, and in one line what it waits for. Up is not ready: of three nodes started one after the other none would
// ever be up.
type notifier struct {
	send func(state string)
	// watchdog is how long the service manager bears silence before it ends the process; 0: for ever.
	watchdog time.Duration
	// look returns the line. It answers only if what must make progress in a node does; otherwise it fails, and nothing
	// vouches for the process.
	look func(ctx context.Context) (string, error)
	// restarts reports that the node stops only to restart in the same process. To the service manager it keeps running.
	restarts func() bool
	log      hclog.Logger
}

// Options are what a Manager needs.
type Options struct {
	Node     string // This node's name.
	Socket   string // Path of the node's own HTTP socket.
	Liveness *readiness.Liveness
	Waiting  *supervise.Waiting
	// Driver is the lease driver, nil until the node serves.
	Driver func() *cluster.Driver
	Logger hclog.Logger
}

// Manager tells the service manager about one run of a node.
type Manager struct{ Options }

// New returns a Manager.
func New(o Options) *Manager { return &Manager{o} }

// newNotifier returns nil if nobody wants to be told.
func (m *Manager) newNotifier(restarts func() bool) *notifier {
	log := m.Logger.Named("notify")
	send := func(state string) {
		if _, err := daemon.SdNotify(false, state); err != nil {
			log.Warn("could not notify the service manager", "error", err)
		}
	}
	if told, err := daemon.SdNotify(false, "STATUS=starting"); !told && err == nil {
		return nil
	}
	watchdog, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("cannot read the watchdog interval of the service manager: sending no heartbeat", "error", err)
	}
	return &notifier{send: send, watchdog: watchdog, look: m.proveProgress, restarts: restarts, log: log}
}

// run says that the node is up once it answers, then beats until ctx ends, which is when the node begins to stop. From
// there on the stop's own time limit applies, not the watchdog.
func (o *notifier) run(ctx context.Context, answers <-chan struct{}) error {
	select {
	case <-answers:
		o.send(daemon.SdNotifyReady)
		o.beat(ctx)
	case <-ctx.Done():
	}
	if !o.restarts() {
		o.send(daemon.SdNotifyStopping + "\nSTATUS=stopping: finishing calls and handing partitions over")
	}
	return nil
}

func (o *notifier) beat(ctx context.Context) {
	interval := statusInterval
	if o.watchdog > 0 { // Three beats may get lost before the fourth would be late.
		interval = min(interval, o.watchdog/4)
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	sent := ""
	for ctx.Err() == nil {
		sent = o.once(ctx, interval, sent)
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// once looks, vouches for the process if that went well, and says what is new.
func (o *notifier) once(ctx context.Context, limit time.Duration, sent string) string {
	look, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	line, err := o.look(look)
	if err != nil {
		if ctx.Err() == nil {
			o.log.Warn("watchdog heartbeat withheld: node is not making progress", "error", err)
		}
		return sent
	}
	if o.watchdog > 0 {
		o.send(daemon.SdNotifyWatchdog)
	}
	line = strings.ReplaceAll(line, "\n", " ") // A line break would begin another assignment.
	if line != sent {
		o.send("STATUS=" + line)
	}
	return line
}

// proveProgress asks the loop that renews the session and decides about every lease; before there is one, the node's
// own HTTP server, by the socket that local commands use.
func (m *Manager) proveProgress(ctx context.Context) (string, error) {
	if err := m.Liveness.Alive(); err != nil {
		return "", err
	}
	driver := m.Driver()
	if driver == nil {
		reasons, err := api.NewClient(m.Socket).Ready(ctx)
		return waitingFor(reasons), err
	}
	view, err := driver.Snapshot(ctx)
	if err != nil {
		return "", err
	}
	if reasons := m.Waiting.Reasons(); len(reasons) > 0 {
		return waitingFor(reasons), nil
	}
	owned := 0
	for _, rec := range view.Sessions {
		if rec.Node == m.Node {
			owned = status.Owned(view, rec)
		}
	}
	return "ready: " + plural.Of(owned, "partition"), nil
}

func waitingFor(reasons []string) string {
	var short []string
	for _, r := range reasons {
		short = append(short, supervise.Plain(r))
	}
	return "waiting for: " + strings.Join(short, "; ")
}

// Start keeps the service manager informed until ctx ends; of a run after which another one begins, until all of it has
// ended, since for a service that does not stop the watchdog's limit applies. The node answers once answers is closed.
func (m *Manager) Start(ctx context.Context, answers <-chan struct{}) *supervise.Part {
	restarts := func() bool { return supervise.AsRestart(context.Cause(ctx)) != nil }
	return supervise.Go(context.WithoutCancel(ctx), func(error) {}, "notify", func(part context.Context) error {
		notifying, quit := context.WithCancel(part)
		defer quit()
		defer context.AfterFunc(ctx, func() {
			if !restarts() {
				quit()
			}
		})()
		if o := m.newNotifier(restarts); o != nil {
			if err := o.run(notifying, answers); err != nil {
				return err
			}
		}
		<-part.Done()
		return nil
	})
}

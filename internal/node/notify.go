package node

import (
	"context"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/hashicorp/go-hclog"

	"leasehold/internal/api"
	"leasehold/internal/plural"
)

// statusInterval is how often a notifier looks, at most.
const statusInterval = 2 * time.Second

// notifier tells the service manager that started the process, if one did, that the node is up, that it still gets on,
// and in one line what it waits for. Up is not ready: of three nodes started one after the other none would ever be up.
type notifier struct {
	send func(state string)
	// watchdog is how long the service manager bears silence before it ends the process; 0: for ever.
	watchdog time.Duration
	// look returns the line. It answers only if what must get on in a node does; otherwise it fails, and nothing vouches
	// for the process.
	look func(ctx context.Context) (string, error)
	// again reports that the node ends only to start anew in the same process. To the service manager it goes on.
	again func() bool
	log   hclog.Logger
}

// newNotifier returns nil if nobody wants to be told.
func (n *Node) newNotifier(again func() bool) *notifier {
	log := n.log.Named("notify")
	send := func(state string) {
		if _, err := daemon.SdNotify(false, state); err != nil {
			log.Warn("could not tell the service manager", "error", err)
		}
	}
	if told, err := daemon.SdNotify(false, "STATUS=starting"); !told && err == nil {
		return nil
	}
	watchdog, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("the service manager's watchdog interval cannot be read: there is no heartbeat", "error", err)
	}
	return &notifier{send: send, watchdog: watchdog, look: n.proveProgress, again: again, log: log}
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
	if !o.again() {
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
	said := ""
	for ctx.Err() == nil {
		said = o.once(ctx, interval, said)
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// once looks, vouches for the process if that went well, and says what is new.
func (o *notifier) once(ctx context.Context, limit time.Duration, said string) string {
	look, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	line, err := o.look(look)
	if err != nil {
		if ctx.Err() == nil {
			o.log.Warn("no heartbeat: the node does not get on", "error", err)
		}
		return said
	}
	if o.watchdog > 0 {
		o.send(daemon.SdNotifyWatchdog)
	}
	line = strings.ReplaceAll(line, "\n", " ") // A line break would begin another assignment.
	if line != said {
		o.send("STATUS=" + line)
	}
	return line
}

// proveProgress asks the loop that renews the session and decides about every lease; before there is one, the node's own
// face, by the way that local commands take.
func (n *Node) proveProgress(ctx context.Context) (string, error) {
	if err := n.Alive(); err != nil {
		return "", err
	}
	n.mu.Lock()
	driver := n.driver
	n.mu.Unlock()
	if driver == nil {
		reasons, err := api.NewClient(n.dir.SocketPath()).Ready(ctx)
		return waitingFor(reasons), err
	}
	view, err := driver.Snapshot(ctx)
	if err != nil {
		return "", err
	}
	if reasons := n.Ready(); len(reasons) > 0 {
		return waitingFor(reasons), nil
	}
	held := 0
	for _, rec := range view.Sessions {
		if rec.Node == n.Config.Node.Name {
			held = n.owned(view, rec)
		}
	}
	return "ready: " + plural.Of(held, "partition"), nil
}

// waitingPrefix is how the broker's reasons begin.
const waitingPrefix = "waiting for "

func waitingFor(reasons []string) string {
	var short []string
	for _, r := range reasons {
		short = append(short, strings.TrimPrefix(r, waitingPrefix))
	}
	return "waiting for: " + strings.Join(short, "; ")
}

// tellManager keeps the service manager informed until ctx ends; of a life after which another one begins, until all of it
// has ended, since for a service that does not stop the watchdog's limit applies.
func (n *Node) tellManager(ctx context.Context, answers <-chan struct{}) *part {
	again := func() bool { return startsAgain(context.Cause(ctx)) != nil }
	return runPart(context.WithoutCancel(ctx), func(error) {}, "notify", func(part context.Context) error {
		telling, quit := context.WithCancel(part)
		defer quit()
		defer context.AfterFunc(ctx, func() {
			if !again() {
				quit()
			}
		})()
		if o := n.newNotifier(again); o != nil {
			if err := o.run(telling, answers); err != nil {
				return err
			}
		}
		<-part.Done()
		return nil
	})
}

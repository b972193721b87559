package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"leasehold/internal/config"
	"leasehold/internal/status"
	"leasehold/internal/supervise"
	"leasehold/server/servertest"
)

// oneRun is one run of a node in single mode, with one topic and one group.
type oneRun struct {
	*Node
	quit  func()
	ended chan error
}

// newRuns returns what starts the runs of one node, one after the other, and waits until each is ready.
func newRuns(t *testing.T) func() oneRun {
	t.Helper()
	cfg := loadSingle(t)
	return func() oneRun {
		t.Helper()
		n := startRun(t, cfg)
		n.waitReady(t)
		return n
	}
}

// loadSingle is the config of a node in single mode, with one topic and one group.
func loadSingle(t *testing.T) *config.Config {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "node.toml")
	text := fmt.Sprintf(`
[node]
name = "n1"
data_dir = "data"
[server]
listen = %q
[http]
listen = %q
[[topic]]
name = "orders"
partitions = 4
[[group]]
name = "audit"
topic = "orders"
handler = { kind = "discard" }
`, servertest.FreeAddress(t), servertest.FreeAddress(t))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func startRun(t *testing.T, cfg *config.Config) oneRun {
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	n := oneRun{newRun(Options{Config: cfg, Logger: servertest.Logger(t), Version: "test"}, supervise.RestartError{}, 0),
		stop, make(chan error, 1)}
	go func() { n.ended <- n.run(ctx) }()
	return n
}

// reader answers as the node would over HTTP.
func (l oneRun) reader() *status.Reader { return status.NewReader(l.view) }

func (l oneRun) waitReady(t *testing.T) {
	t.Helper()
	servertest.Eventually(t, time.Minute, func() error {
		if reasons := l.waiting.Reasons(); len(reasons) > 0 || l.stage.serves() == nil {
			return errors.New("not ready: " + strings.Join(reasons, ", "))
		}
		return nil
	})
}

// waitEnd waits for the end of the run and returns why it ended.
func (l oneRun) waitEnd(t *testing.T) error {
	t.Helper()
	select {
	case err := <-l.ended:
		return err
	case <-time.After(time.Minute):
		t.Fatal("the node goes on")
	}
	return nil
}

func (l oneRun) leasesConn(t *testing.T) *nats.Conn {
	t.Helper()
	for _, nc := range l.conns.all {
		if nc.Opts.Name == "leases" {
			return nc
		}
	}
	t.Fatal("there is no connection for leases")
	return nil
}

// Whatever connection the broker ends for good, the node notices and starts again in the process, and is then as it
// was.
func TestANodeWhoseConnectionEndedRestarts(t *testing.T) {
	t.Parallel()
	start := newRuns(t)
	long := strings.Repeat("k", 5000) // The broker takes a line of 4,096 bytes.
	for role, end := range map[string]func(n oneRun) error{
		"deadletters": func(n oneRun) error { return n.conns.letters.Conn().Publish("dlq.audit.0.final."+long+".1", nil) },
		"services":    func(n oneRun) error { return n.conns.services.Publish("leasehold.serve."+long, nil) },
		"leases": func(n oneRun) error {
			return n.leasesConn(t).Publish("$KV.leasehold."+long, nil)
		},
	} {
		n := start()
		if err := end(n); err != nil {
			t.Fatal(err)
		}
		err := n.waitEnd(t)
		restart := supervise.AsRestart(err)
		if restart == nil || !restart.Fault || !strings.Contains(restart.Reason, "role "+role) ||
			!strings.Contains(restart.Reason, "maximum control line") {
			t.Errorf("%s: the run ended with %v", role, err)
		}
	}
	n := start()
	for _, nc := range n.conns.all {
		if nc.Status() != nats.CONNECTED {
			t.Errorf("%s is %v", nc.Opts.Name, nc.Status())
		}
	}
}

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
	"leasehold/server/servertest"
)

// life is one life of a node in single mode, with one topic and one group.
type life struct {
	*Node
	quit  func()
	ended chan error
}

// newLives returns what starts the lives of one node, one after the other, and waits until each is ready.
func newLives(t *testing.T) func() life {
	t.Helper()
	cfg := loadSingle(t)
	return func() life {
		t.Helper()
		n := startLife(t, cfg)
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

func startLife(t *testing.T, cfg *config.Config) life {
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	n := life{newLife(Options{Config: cfg, Logger: servertest.Logger(t), Version: "test"}, againError{}, 0), stop, make(chan error, 1)}
	go func() { n.ended <- n.runLife(ctx) }()
	return n
}

func (l life) waitReady(t *testing.T) {
	t.Helper()
	servertest.Eventually(t, time.Minute, func() error {
		l.mu.Lock()
		served := l.served
		l.mu.Unlock()
		if reasons := l.Ready(); len(reasons) > 0 || !served {
			return errors.New("not ready: " + strings.Join(reasons, ", "))
		}
		return nil
	})
}

// waitEnd waits for the end of the life and returns why it ended.
func (l life) waitEnd(t *testing.T) error {
	t.Helper()
	select {
	case err := <-l.ended:
		return err
	case <-time.After(time.Minute):
		t.Fatal("the node goes on")
	}
	return nil
}

func (l life) leasesConn(t *testing.T) *nats.Conn {
	t.Helper()
	for _, nc := range l.conns.all {
		if nc.Opts.Name == "leases" {
			return nc
		}
	}
	t.Fatal("there is no connection for leases")
	return nil
}

// Whatever connection the broker ends for good, the node notices and starts again in the process, and is then as it was.
func TestANodeWhoseConnectionEndedStartsAgain(t *testing.T) {
	start := newLives(t)
	long := strings.Repeat("k", 5000) // The broker takes a line of 4,096 bytes.
	for role, end := range map[string]func(n life) error{
		"deadletters": func(n life) error { return n.conns.letters.Conn().Publish("dlq.audit.0.final."+long+".1", nil) },
		"services":    func(n life) error { return n.conns.services.Publish("leasehold.serve."+long, nil) },
		"leases": func(n life) error {
			return n.leasesConn(t).Publish("$KV.leasehold."+long, nil)
		},
	} {
		n := start()
		if err := end(n); err != nil {
			t.Fatal(err)
		}
		err := n.waitEnd(t)
		again := startsAgain(err)
		if again == nil || !again.fault || !strings.Contains(again.reason, "role "+role) || !strings.Contains(again.reason, "maximum control line") {
			t.Errorf("%s: the life ended with %v", role, err)
		}
	}
	n := start()
	for _, nc := range n.conns.all {
		if nc.Status() != nats.CONNECTED {
			t.Errorf("%s is %v", nc.Opts.Name, nc.Status())
		}
	}
}

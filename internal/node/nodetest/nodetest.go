// Package nodetest runs real nodes in single mode for tests, in the test's process.
package nodetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"leasehold/internal/api"
	"leasehold/internal/config"
	"leasehold/internal/node"
	"leasehold/partitioner/publisher"
	"leasehold/server/servertest"
)

// One is a node in single mode with one topic and one file group.
type One struct {
	Dir    string // Of its config and its data.
	HTTP   string // Address of its HTTP port.
	Config *config.Config
	Stop   context.CancelFunc
	Ended  chan error // Gets how the node ended.
}

// Write writes a file.
func Write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// NewOne makes the config of a node whose topic "orders" has some more lines.
func NewOne(t *testing.T, topic string) *One {
	t.Helper()
	o := &One{Dir: t.TempDir(), HTTP: servertest.FreeAddress(t)}
	file := filepath.Join(o.Dir, "node.toml")
	Write(t, file, fmt.Sprintf(`
[node]
name = "n1"
data_dir = "data"
[server]
listen = %q
[http]
listen = %q
[[topic]]
name = "orders"
partitions = 8
%s
[[group]]
name = "audit"
topic = "orders"
handler = { kind = "file", path = "out" }
`, servertest.FreeAddress(t), o.HTTP, topic))
	var err error
	if o.Config, err = config.Load(file); err != nil {
		t.Fatal(err)
	}
	return o
}

// Start starts it and waits until it is ready.
func (o *One) Start(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	o.Stop, o.Ended = cancel, make(chan error, 1)
	go func() {
		o.Ended <- node.Run(ctx, node.Options{Config: o.Config, Logger: servertest.Logger(t), Version: "test"})
	}()
	t.Cleanup(cancel)
	servertest.Eventually(t, time.Minute, func() error {
		select {
		case err := <-o.Ended:
			t.Fatalf("the node ended: %v", err)
		default:
		}
		reasons, err := api.NewClient(o.HTTP).Ready(context.Background())
		if err == nil && len(reasons) > 0 {
			err = errors.New(strings.Join(reasons, ", "))
		}
		return err
	})
}

// End stops it; it must end well.
func (o *One) End(t *testing.T) {
	t.Helper()
	o.Stop()
	select {
	case err := <-o.Ended:
		if err != nil {
			t.Fatalf("the node ended with: %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the node does not stop")
	}
}

// Publish publishes the numbers from from to below to, with 20 keys.
func (o *One) Publish(t *testing.T, from, to int) {
	t.Helper()
	nc, err := nats.Connect("nats://" + o.Config.Server.Listen)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	topic, _ := o.Config.Topic("orders")
	p, err := publisher.New(nc, topic, publisher.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for i := from; i < to; i++ {
		m := publisher.Message{Key: fmt.Sprint("k", i%20), Data: fmt.Appendf(nil, "%d", i)}
		if err := p.Publish(context.Background(), m, func(r publisher.Result) {
			if r.Outcome != publisher.Stored {
				t.Errorf("message %d: %v %v", i, r.Outcome, r.Err)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// Lines reads what the file handler wrote, by key.
func (o *One) Lines(t *testing.T) map[string][]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(o.Dir, "out", "*.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	byKey := map[string][]string{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
			var l struct{ Key, Data string }
			if line == "" {
				continue
			}
			if err := json.Unmarshal([]byte(line), &l); err != nil {
				t.Fatalf("%s: %v: %s", f, err, line)
			}
			byKey[l.Key] = append(byKey[l.Key], l.Data)
		}
	}
	return byKey
}

// WaitIdle waits until the topic has n messages and all are processed.
func (o *One) WaitIdle(t *testing.T, n uint64) {
	t.Helper()
	servertest.Eventually(t, time.Minute, func() error {
		s, err := api.NewClient(o.Config.SocketPath()).Status(context.Background())
		if err != nil {
			return err
		}
		g := s.Groups[0]
		if s.Topics[0].LastSeq != n || g.Unowned > 0 || g.Lag == nil || *g.Lag != 0 {
			return fmt.Errorf("last sequence %d, %d unowned, lag %v", s.Topics[0].LastSeq, g.Unowned, g.Lag)
		}
		return nil
	})
}

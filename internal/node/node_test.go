package node_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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

// one is a node in single mode with one topic and one file group.
type one struct {
	dir, http string
	cfg       *config.Config
	stop      context.CancelFunc
	done      chan error
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func newOne(t *testing.T, topic string) *one {
	t.Helper()
	o := &one{dir: t.TempDir(), http: servertest.FreeAddress(t)}
	file := filepath.Join(o.dir, "node.toml")
	write(t, file, fmt.Sprintf(`
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
`, servertest.FreeAddress(t), o.http, topic))
	var err error
	if o.cfg, err = config.Load(file); err != nil {
		t.Fatal(err)
	}
	return o
}

func (o *one) start(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	o.stop, o.done = cancel, make(chan error, 1)
	go func() {
		o.done <- node.Run(ctx, node.Options{Config: o.cfg, Logger: servertest.Logger(t), Version: "test"})
	}()
	t.Cleanup(cancel)
	servertest.Eventually(t, time.Minute, func() error {
		select {
		case err := <-o.done:
			t.Fatalf("the node ended: %v", err)
		default:
		}
		reasons, err := api.NewClient(o.http).Ready(context.Background())
		if err == nil && len(reasons) > 0 {
			err = errors.New(strings.Join(reasons, ", "))
		}
		return err
	})
}

func (o *one) end(t *testing.T) {
	t.Helper()
	o.stop()
	select {
	case err := <-o.done:
		if err != nil {
			t.Fatalf("the node ended with: %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the node does not stop")
	}
}

func (o *one) publish(t *testing.T, from, to int) {
	t.Helper()
	nc, err := nats.Connect("nats://" + o.cfg.Server.Listen)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	topic, _ := o.cfg.Topic("orders")
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

// lines reads what the file handler wrote, by key.
func (o *one) lines(t *testing.T) map[string][]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(o.dir, "out", "*.ndjson"))
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

func (o *one) waitIdle(t *testing.T, n uint64) {
	t.Helper()
	servertest.Eventually(t, time.Minute, func() error {
		s, err := api.NewClient(o.cfg.SocketPath()).Status(context.Background())
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

func TestNodeProcessesInOrderAndGoesOnAfterARestart(t *testing.T) {
	o := newOne(t, "")
	o.start(t)
	o.publish(t, 0, 1000)
	o.waitIdle(t, 1000)
	o.end(t)
	o.start(t)
	o.publish(t, 1000, 1500)
	o.waitIdle(t, 1500)
	o.end(t)
	for k := range 20 {
		var want []string
		for i := k; i < 1500; i += 20 {
			want = append(want, fmt.Sprint(i))
		}
		if got := o.lines(t)[fmt.Sprint("k", k)]; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("key k%d: got %v, want %v", k, got, want)
		}
	}
}

func TestStatusCountsWhatClientsAreRefused(t *testing.T) {
	o := newOne(t, "")
	o.start(t)
	nc, err := nats.Connect("nats://" + o.cfg.Server.Listen)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	for range 3 {
		m := &nats.Msg{Subject: "orders.a", Header: nats.Header{"Nats-Rollup": {"all"}}}
		if answer, err := nc.RequestMsg(m, time.Minute); err != nil || !strings.Contains(string(answer.Data), `"err_code":20003`) {
			t.Fatalf("answered with %v, %v", answer, err)
		}
	}
	servertest.Eventually(t, time.Minute, func() error {
		s, err := api.NewClient(o.cfg.SocketPath()).Status(context.Background())
		if err == nil && !slices.Contains(s.Nodes[0].Refused, api.Refused{User: "anonymous", Reason: "header_not_allowed", Count: 3}) {
			err = fmt.Errorf("refused: %+v", s.Nodes[0].Refused)
		}
		if err == nil && !slices.Equal(s.Listen, []string{o.cfg.Server.Listen, o.http}) {
			t.Errorf("listens at %v", s.Listen)
		}
		return err
	})
	o.end(t)
}

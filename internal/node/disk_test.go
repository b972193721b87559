package node_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"leasehold/internal/api"
	"leasehold/internal/bytesize"
	"leasehold/internal/config"
	"leasehold/internal/node"
	"leasehold/internal/node/nodetest"
	"leasehold/server/servertest"
)

const mib = int64(1) << 20

// trio is three nodes in this process, each with the topic "orders" and a file group.
type trio struct {
	dir   string
	nodes []*one
}

// newTrio makes their configs. disks, if any, are where the first of them have their data.
//
// Nothing is purged: a broker whose disk is full may lock up in a purge, and then only a new process helps, which these
// tests have no use for.
func newTrio(t *testing.T, disks ...*servertest.TinyDisk) *trio {
	t.Helper()
	c := &trio{dir: t.TempDir()}
	nodetest.Write(t, filepath.Join(c.dir, "secret"), strings.Repeat("7a", 32)+"\n")
	var nodes []string
	for i := range 3 {
		nodes = append(nodes, fmt.Sprintf("n%d=%s", i+1, servertest.FreeAddress(t)))
	}
	list, err := json.Marshal(nodes)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		name := fmt.Sprintf("n%d", i+1)
		o := &one{&nodetest.One{Dir: filepath.Join(c.dir, name), HTTP: servertest.FreeAddress(t)}}
		if err := os.Mkdir(o.Dir, 0o700); err != nil {
			t.Fatal(err)
		}
		data := "data"
		if i < len(disks) {
			data = filepath.Join(disks[i].Path, "data")
		}
		file := filepath.Join(o.Dir, "node.toml")
		nodetest.Write(t, file, fmt.Sprintf(`
[node]
name = %q
data_dir = %q
[server]
listen = %q
durability = "process-safe"
max_store = "256MiB"
min_free = "16MiB"
ballast = "8MiB"
[http]
listen = %q
[cluster]
name = "test"
nodes = %s
secret_file = "../secret"
[[topic]]
name = "orders"
partitions = 8
retain = "1h"
max_bytes = "180MiB"
[[group]]
name = "audit"
topic = "orders"
handler = { kind = "file", path = "out" }
`, name, data, servertest.FreeAddress(t), o.HTTP, list))
		if o.Config, err = config.Load(file); err != nil {
			t.Fatal(err)
		}
		c.nodes = append(c.nodes, o)
	}
	return c
}

// start starts all nodes and waits until they are ready.
func (c *trio) start(t *testing.T) {
	t.Helper()
	for i, o := range c.nodes {
		ctx, cancel := context.WithCancel(context.Background())
		o.Stop, o.Ended = cancel, make(chan error, 1)
		go func() {
			o.Ended <- node.Run(ctx, node.Options{Config: o.Config, Logger: servertest.Logger(t).Named(fmt.Sprintf("n%d", i+1)),
				Version: "test"})
		}()
	}
	t.Cleanup(func() { // at once: the last one alone has nobody to hand over to
		for _, o := range c.nodes {
			o.Stop()
		}
		for _, o := range c.nodes {
			select {
			case <-o.Ended:
			case <-time.After(time.Minute):
				t.Error("a node does not stop")
			}
		}
	})
	for _, o := range c.nodes {
		o.waitReady(t)
	}
}

func (o *one) waitReady(t *testing.T) {
	t.Helper()
	o.waitFor(t, func(reasons []string) error {
		if len(reasons) > 0 {
			return errors.New(strings.Join(reasons, ", "))
		}
		return nil
	})
}

func (o *one) waitFor(t *testing.T, f func(reasons []string) error) {
	t.Helper()
	servertest.Eventually(t, time.Minute, func() error {
		reasons, err := api.NewClient(o.HTTP).Ready(context.Background())
		if err != nil {
			return err
		}
		return f(reasons)
	})
}

// waitFull keeps a node's disk full, what the ballast leaves too, until the node has ended its part and waits for room.
func (o *one) waitFull(t *testing.T, disk *servertest.TinyDisk) {
	t.Helper()
	o.waitFor(t, func(reasons []string) error {
		disk.Fill(t, 0)
		if text := strings.Join(reasons, ", "); !strings.Contains(text, "free disk space: ") {
			return fmt.Errorf("the node waits for %q", text)
		}
		return nil
	})
}

// waitWarning waits until the node's status warns of all the parts in one line.
func (o *one) waitWarning(t *testing.T, parts ...string) {
	t.Helper()
	servertest.Eventually(t, time.Minute, func() error {
		s, err := api.NewClient(o.Config.SocketPath()).Status(context.Background())
		if err != nil {
			return err
		}
		for _, w := range s.Warnings {
			if containsAll(w, parts) {
				return nil
			}
		}
		return fmt.Errorf("warnings %q, want one with %q", s.Warnings, parts)
	})
}

func containsAll(text string, parts []string) bool {
	for _, p := range parts {
		if !strings.Contains(text, p) {
			return false
		}
	}
	return true
}

// ask publishes as any client does, and returns the answer.
func (o *one) ask(subject, data string) (string, error) {
	nc, err := nats.Connect("nats://" + o.Config.Server.Listen)
	if err != nil {
		return "", err
	}
	defer nc.Close()
	m, err := nc.Request(subject, []byte(data), 2*time.Second)
	if err != nil {
		return "", err
	}
	return string(m.Data), nil
}

// waitFree waits until the topic is not held any more.
func (o *one) waitFree(t *testing.T) {
	t.Helper()
	servertest.Eventually(t, time.Minute, func() error {
		s, err := api.NewClient(o.Config.SocketPath()).Status(context.Background())
		if err != nil {
			return err
		}
		if len(s.Topics) == 0 || s.Topics[0].Held {
			return fmt.Errorf("topics %+v, want one that is not held", s.Topics)
		}
		return nil
	})
}

// waitAnswer waits until a publish at this node is answered with the text.
func (o *one) waitAnswer(t *testing.T, text string) {
	t.Helper()
	servertest.Eventually(t, time.Minute, func() error {
		got, err := o.ask("orders.probe", "x")
		if err == nil && !strings.Contains(got, text) {
			err = fmt.Errorf("a publish is answered %s, want %s", got, text)
		}
		return err
	})
}

// A node that is short of space: publishes are refused on every node, before its broker would give up, and taken again
// by themselves.
func TestShortDiskOfOneNodeRefusesPublishesEverywhereUntilThereIsRoom(t *testing.T) {
	t.Parallel()
	disk := servertest.NewTinyDisk(t, 128*mib)
	c := newTrio(t, disk)
	c.start(t)
	c.nodes[2].Publish(t, 0, 100)
	disk.Fill(t, 12*mib)
	for _, o := range c.nodes {
		o.waitAnswer(t, "maximum messages exceeded")
		o.waitWarning(t, "node n1 is short of disk space", "min_free 16 MiB")
	}
	disk.Fill(t, 18*mib) // more than the mark, and not enough to come back
	c.nodes[1].waitAnswer(t, "maximum messages exceeded")
	disk.Heal(t)
	c.nodes[1].waitFree(t)
	for i, o := range c.nodes {
		o.Publish(t, 100+10*i, 110+10*i)
	}
}

// A disk that is full at one go: the broker switches itself off. The node gives up its ballast and comes back; without
// room even then it waits, and says for what.
func TestFullDiskOfOneNodeIsSurvivedAndComesBackByItself(t *testing.T) {
	t.Parallel()
	disk := servertest.NewTinyDisk(t, 128*mib)
	c := newTrio(t, disk)
	c.start(t)
	c.nodes[0].Publish(t, 0, 100)
	c.nodes[0].waitFull(t, disk)
	c.nodes[0].waitWarning(t, "this node waits for free disk space", "the broker needs 4.0 MiB")
	c.nodes[1].waitFree(t) // a node that is down is short of nothing
	c.nodes[1].Publish(t, 100, 200)
	disk.Heal(t)
	c.nodes[0].waitReady(t)
	c.nodes[0].Publish(t, 200, 300)
}

// All disks full at one go: nothing that was acknowledged is lost, and all is well again by itself.
func TestFullDisksOfAllNodesAreSurvivedAndComeBackByThemselves(t *testing.T) {
	t.Parallel()
	var disks []*servertest.TinyDisk
	for range 3 {
		disks = append(disks, servertest.NewTinyDisk(t, 128*mib))
	}
	c := newTrio(t, disks...)
	c.start(t)
	c.nodes[0].Publish(t, 0, 100)
	var wait sync.WaitGroup
	for i, o := range c.nodes {
		wait.Go(func() { o.waitFull(t, disks[i]) })
	}
	wait.Wait()
	for _, d := range disks {
		d.Heal(t)
	}
	for _, o := range c.nodes {
		o.waitReady(t)
	}
	c.nodes[1].waitFree(t)
	c.nodes[2].Publish(t, 100, 200)
	c.waitHandled(t, 200)
}

// waitHandled waits until the handlers have had every message from 0 on that was published, by number.
func (c *trio) waitHandled(t *testing.T, count int) {
	t.Helper()
	servertest.Eventually(t, time.Minute, func() error {
		seen := map[string]bool{}
		for _, o := range c.nodes {
			for _, list := range o.Lines(t) {
				for _, data := range list {
					seen[data] = true
				}
			}
		}
		for i := range count {
			if !seen[fmt.Sprint(i)] {
				return fmt.Errorf("message %d was never handled, %d were", i, len(seen))
			}
		}
		return nil
	})
}

func TestFullDiskOfANodeOnItsOwnComesBackByItself(t *testing.T) {
	t.Parallel()
	disk := servertest.NewTinyDisk(t, 128*mib)
	o := newOne(t, `retain = "1h"`)
	o.Config.Node.DataDir = filepath.Join(disk.Path, "data")
	o.Config.Server.MinFree, o.Config.Server.Ballast = 16*bytesize.MiB, 8*bytesize.MiB
	o.Start(t)
	o.Publish(t, 0, 100)
	o.waitFull(t, disk)
	disk.Heal(t)
	o.waitReady(t)
	o.waitFree(t)
	o.Publish(t, 100, 200)
	(&trio{nodes: []*one{o}}).waitHandled(t, 200)
	o.End(t)
}

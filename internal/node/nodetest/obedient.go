package nodetest

import (
	"bufio"
	"cmp"
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
	"leasehold/partitioner/publisher"
	"leasehold/server/servertest"
)

// obedient is a handler that answers with the status that the file "say" holds for a payload, else with ok, and logs
// every call that it answered with ok.
const obedient = `
import json, os, sys
here = sys.argv[1]
for line in sys.stdin:
    m = json.loads(line)
    if m["type"] != "message":
        print(json.dumps({"type": "ack", "id": m["id"]}), flush=True)
        continue
    with open(os.path.join(here, "say")) as f:
        say = json.load(f)
    status = say.get(m["data"], "ok")
    with open(os.path.join(here, "calls"), "a") as f:
        f.write(json.dumps({"key": m["key"], "data": m["data"], "seq": m["seq"], "epoch": m["epoch"],
            "attempt": m["attempt"], "idem": m["idempotency_key"], "status": status}) + "\n")
    print(json.dumps({"type": "result", "id": m["id"], "status": status, "reason": "as told"}), flush=True)
`

// Call is one call of the handler.
type Call struct {
	Key, Data, Idem, Status string
	Seq, Epoch              uint64
	Attempt                 int
}

// Obedient is a node in single mode whose handler does as it is told.
type Obedient struct {
	*One
	t      *testing.T
	Client *api.Client
}

// NewObedient starts a node whose group "billing" has some more lines in its config.
func NewObedient(t *testing.T, group string) *Obedient {
	t.Helper()
	o := &One{Dir: t.TempDir(), HTTP: servertest.FreeAddress(t)}
	Write(t, filepath.Join(o.Dir, "handler.py"), obedient)
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
partitions = 4
retain = "1h"
[[group]]
name = "billing"
topic = "orders"
handler = { kind = "subprocess", command = ["python3", %q, %q], processes = 1 }
backoff = { initial = "5ms", max = "20ms" }
max_attempts = 2
%s
`, servertest.FreeAddress(t), o.HTTP, filepath.Join(o.Dir, "handler.py"), o.Dir, group))
	var err error
	if o.Config, err = config.Load(file); err != nil {
		t.Fatal(err)
	}
	a := &Obedient{One: o, t: t, Client: api.NewClient(o.Config.SocketPath())}
	a.Say(map[string]string{})
	a.Start(t)
	return a
}

// Say says with which status the handler answers which payload.
func (a *Obedient) Say(say map[string]string) {
	a.t.Helper()
	text, err := json.Marshal(say)
	if err != nil {
		a.t.Fatal(err)
	}
	Write(a.t, filepath.Join(a.Dir, "say.new"), string(text))
	if err := os.Rename(filepath.Join(a.Dir, "say.new"), filepath.Join(a.Dir, "say")); err != nil {
		a.t.Fatal(err)
	}
}

// Publish publishes "key:data" in this order.
func (a *Obedient) Publish(messages ...string) {
	a.t.Helper()
	nc, err := nats.Connect("nats://" + a.Config.Server.Listen)
	if err != nil {
		a.t.Fatal(err)
	}
	defer nc.Close()
	topic, _ := a.Config.Topic("orders")
	p, err := publisher.New(nc, topic, publisher.Options{})
	if err != nil {
		a.t.Fatal(err)
	}
	defer p.Close()
	for _, m := range messages {
		key, data, _ := strings.Cut(m, ":")
		if err := p.Publish(context.Background(), publisher.Message{Key: key, ID: "id-" + data, Data: []byte(data)},
			func(r publisher.Result) {
				if r.Outcome != publisher.Stored {
					a.t.Errorf("message %s: %v %v", m, r.Outcome, r.Err)
				}
			}); err != nil {
			a.t.Fatal(err)
		}
		if err := p.Flush(context.Background()); err != nil {
			a.t.Fatal(err)
		}
	}
}

// Calls lists what the handler was called with.
func (a *Obedient) Calls() []Call {
	a.t.Helper()
	f, err := os.Open(filepath.Join(a.Dir, "calls"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		a.t.Fatal(err)
	}
	defer f.Close()
	var all []Call
	for s := bufio.NewScanner(f); s.Scan(); {
		var c Call
		if err := json.Unmarshal(s.Bytes(), &c); err != nil {
			break // Being written.
		}
		all = append(all, c)
	}
	return all
}

// Done lists the payloads that the handler answered with ok.
func (a *Obedient) Done() []string {
	var out []string
	for _, c := range a.Calls() {
		if c.Status == "ok" {
			out = append(out, c.Data)
		}
	}
	return out
}

// WaitDone waits until the handler has answered these payloads with ok, in order within a key, which is the first
// letter.
func (a *Obedient) WaitDone(want ...string) {
	a.t.Helper()
	servertest.Eventually(a.t, time.Minute, func() error {
		// Partitions go on side by side: what counts is the order within a key, which is the payload's first letter.
		got := a.Done()
		slices.SortStableFunc(got, func(a, b string) int { return cmp.Compare(a[0], b[0]) })
		if !slices.Equal(got, want) {
			return fmt.Errorf("done %v, want %v", got, want)
		}
		return nil
	})
}

// Letters lists the dead letters with their payloads.
func (a *Obedient) Letters() []api.Letter {
	a.t.Helper()
	list, err := a.Client.DeadLetters(context.Background(), "billing", api.LetterFilter{Data: true})
	if err != nil {
		a.t.Fatal(err)
	}
	return list.Letters
}

// WaitLetters waits for dead letters, each as "kind reason payload".
func (a *Obedient) WaitLetters(want ...string) []api.Letter {
	a.t.Helper()
	var letters []api.Letter
	servertest.Eventually(a.t, time.Minute, func() error {
		letters = a.Letters()
		var got []string
		for _, l := range letters {
			got = append(got, l.Kind+" "+l.Reason+" "+*l.Data)
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("dead letters %q, want %q", got, want)
		}
		return nil
	})
	return letters
}

// Command gives a command and waits until it is applied everywhere.
func (a *Obedient) Command(command api.Ask) {
	a.t.Helper()
	r, err := a.Client.Ask(context.Background(), "billing", command)
	if err != nil {
		a.t.Fatal(err)
	}
	servertest.Eventually(a.t, time.Minute, func() error {
		now, err := a.Client.Asked(context.Background(), "billing", r.ID, time.Minute)
		if err == nil && len(now.Waiting) > 0 {
			err = fmt.Errorf("not applied to %v", now.Waiting)
		}
		return err
	})
}

// Group is the group's status.
func (a *Obedient) Group() api.Group {
	a.t.Helper()
	s, err := a.Client.Status(context.Background())
	if err != nil {
		a.t.Fatal(err)
	}
	return s.Groups[0]
}

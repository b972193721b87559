package node_test

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
        f.write(json.dumps({"key": m["key"], "data": m["data"], "seq": m["seq"], "epoch": m["epoch"], "attempt": m["attempt"],
            "idem": m["idempotency_key"], "status": status}) + "\n")
    print(json.dumps({"type": "result", "id": m["id"], "status": status, "reason": "as told"}), flush=True)
`

type call struct {
	Key, Data, Idem, Status string
	Seq, Epoch              uint64
	Attempt                 int
}

// asked is a node in single mode whose handler does as it is told.
type asked struct {
	*one
	t      *testing.T
	client *api.Client
}

func newAsked(t *testing.T, group string) *asked {
	t.Helper()
	o := &one{dir: t.TempDir(), http: servertest.FreeAddress(t)}
	write(t, filepath.Join(o.dir, "handler.py"), obedient)
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
partitions = 4
retain = "1h"
[[group]]
name = "billing"
topic = "orders"
handler = { kind = "subprocess", command = ["python3", %q, %q], processes = 1 }
backoff = { initial = "5ms", max = "20ms" }
max_attempts = 2
%s
`, servertest.FreeAddress(t), o.http, filepath.Join(o.dir, "handler.py"), o.dir, group))
	var err error
	if o.cfg, err = config.Load(file); err != nil {
		t.Fatal(err)
	}
	a := &asked{one: o, t: t, client: api.NewClient(o.cfg.SocketPath())}
	a.say(map[string]string{})
	a.start(t)
	return a
}

func (a *asked) say(say map[string]string) {
	a.t.Helper()
	text, err := json.Marshal(say)
	if err != nil {
		a.t.Fatal(err)
	}
	write(a.t, filepath.Join(a.dir, "say.new"), string(text))
	if err := os.Rename(filepath.Join(a.dir, "say.new"), filepath.Join(a.dir, "say")); err != nil {
		a.t.Fatal(err)
	}
}

// publish publishes "key:data" in this order.
func (a *asked) publish(messages ...string) {
	a.t.Helper()
	nc, err := nats.Connect("nats://" + a.cfg.Server.Listen)
	if err != nil {
		a.t.Fatal(err)
	}
	defer nc.Close()
	topic, _ := a.cfg.Topic("orders")
	p, err := publisher.New(nc, topic, publisher.Options{})
	if err != nil {
		a.t.Fatal(err)
	}
	defer p.Close()
	for _, m := range messages {
		key, data, _ := strings.Cut(m, ":")
		if err := p.Publish(context.Background(), publisher.Message{Key: key, ID: "id-" + data, Data: []byte(data)}, func(r publisher.Result) {
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

func (a *asked) calls() []call {
	a.t.Helper()
	f, err := os.Open(filepath.Join(a.dir, "calls"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		a.t.Fatal(err)
	}
	defer f.Close()
	var all []call
	for s := bufio.NewScanner(f); s.Scan(); {
		var c call
		if err := json.Unmarshal(s.Bytes(), &c); err != nil {
			break // Being written.
		}
		all = append(all, c)
	}
	return all
}

// done lists the payloads that the handler answered with ok.
func (a *asked) done() []string {
	var out []string
	for _, c := range a.calls() {
		if c.Status == "ok" {
			out = append(out, c.Data)
		}
	}
	return out
}

func (a *asked) waitDone(want ...string) {
	a.t.Helper()
	servertest.Eventually(a.t, time.Minute, func() error {
		// Partitions go on side by side: what counts is the order within a key, which is the payload's first letter.
		got := a.done()
		slices.SortStableFunc(got, func(a, b string) int { return cmp.Compare(a[0], b[0]) })
		if !slices.Equal(got, want) {
			return fmt.Errorf("done %v, want %v", got, want)
		}
		return nil
	})
}

func (a *asked) letters() []api.Letter {
	a.t.Helper()
	list, err := a.client.DeadLetters(context.Background(), "billing", api.LetterFilter{Data: true})
	if err != nil {
		a.t.Fatal(err)
	}
	return list.Letters
}

func (a *asked) waitLetters(want ...string) []api.Letter {
	a.t.Helper()
	var letters []api.Letter
	servertest.Eventually(a.t, time.Minute, func() error {
		letters = a.letters()
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

// ask asks and waits until it is applied everywhere.
func (a *asked) ask(ask api.Ask) {
	a.t.Helper()
	r, err := a.client.Ask(context.Background(), "billing", ask)
	if err != nil {
		a.t.Fatal(err)
	}
	servertest.Eventually(a.t, time.Minute, func() error {
		now, err := a.client.Asked(context.Background(), "billing", r.ID, 0)
		if err == nil && len(now.Waiting) > 0 {
			err = fmt.Errorf("not applied to %v", now.Waiting)
		}
		return err
	})
}

func (a *asked) group() api.Group {
	a.t.Helper()
	s, err := a.client.Status(context.Background())
	if err != nil {
		a.t.Fatal(err)
	}
	return s.Groups[0]
}

func TestDeadLetterIsShownRequeuedAndDropped(t *testing.T) {
	a := newAsked(t, "")
	a.say(map[string]string{"bad": "retry", "worse": "reject"})
	a.publish("k:k1", "k:bad", "k:worse", "k:k2")
	a.waitDone("k1", "k2")
	letters := a.waitLetters("dead max_attempts bad", "dead rejected worse")
	l := letters[0]
	if l.Attempts != 2 || l.Error != "as told" || l.Key != "k" || l.Subject != "orders.k" || l.Node != "n1" || l.Headers["Nats-Msg-Id"][0] != "id-bad" {
		t.Errorf("letter %+v", l)
	}
	if g := a.group(); g.DeadLetters != 2 {
		t.Errorf("status says %d dead letters", g.DeadLetters)
	}
	a.say(map[string]string{})
	done, err := a.client.Requeue(context.Background(), "billing", api.LetterOrder{Numbers: []uint64{l.Number, 77}})
	if err != nil || len(done.Done) != 1 || len(done.Failed) != 1 {
		t.Fatalf("requeue: %+v, %v", done, err)
	}
	a.waitDone("bad", "k1", "k2")
	calls := a.calls()
	if last := calls[len(calls)-1]; last.Idem != "id-bad" || last.Attempt != 1 {
		t.Errorf("requeued as %+v", last)
	}
	if _, err := a.client.Drop(context.Background(), "billing", api.LetterOrder{Numbers: []uint64{letters[1].Number}}); err != nil {
		t.Fatal(err)
	}
	a.waitLetters()
	a.end(t)
}

func TestRequeuedMessageIsNotRequeuedForEver(t *testing.T) {
	a := newAsked(t, "")
	a.say(map[string]string{"bad": "reject"})
	a.publish("k:bad")
	for want := range 3 {
		l := a.waitLetters("dead rejected bad")[0]
		if l.Requeues != want {
			t.Fatalf("requeued %d times, want %d", l.Requeues, want)
		}
		done, err := a.client.Requeue(context.Background(), "billing", api.LetterOrder{Numbers: []uint64{l.Number}, MaxRequeues: 2})
		if err != nil || len(done.Failed) != want/2 {
			t.Fatalf("requeue %d: %+v, %v", want, done, err)
		}
		if want < 2 {
			servertest.Eventually(t, time.Minute, func() error {
				if ls := a.letters(); len(ls) != 1 || ls[0].Number == l.Number {
					return errors.New("not back yet")
				}
				return nil
			})
		}
	}
	a.end(t)
}

func TestParkedKeyIsReleasedInOrderAcrossARestart(t *testing.T) {
	a := newAsked(t, `on_exhausted = "park_key"`)
	a.say(map[string]string{"k2": "retry"})
	a.publish("k:k1", "k:k2", "j:j1", "k:k3", "j:j2")
	a.waitDone("j1", "j2", "k1")
	a.waitLetters("parked max_attempts k2", "parked parked k3")
	a.end(t)
	a.start(t)
	a.publish("k:k4", "j:j3")
	a.waitDone("j1", "j2", "j3", "k1")
	a.waitLetters("parked max_attempts k2", "parked parked k3", "parked parked k4")
	if done, err := a.client.Requeue(context.Background(), "billing", api.LetterOrder{Numbers: []uint64{1}}); err != nil || len(done.Failed) != 1 {
		t.Errorf("a parked message was requeued: %+v, %v", done, err)
	}
	a.say(map[string]string{})
	a.ask(api.Ask{Kind: "release", Keys: []string{"k"}})
	a.waitLetters()
	a.publish("k:k5")
	a.waitDone("j1", "j2", "j3", "k1", "k2", "k3", "k4", "k5")
	a.end(t)
}

func TestDroppingTheLastParkedMessageUnparksItsKey(t *testing.T) {
	a := newAsked(t, `on_exhausted = "park_key"`)
	a.say(map[string]string{"k1": "retry"})
	a.publish("k:k1")
	l := a.waitLetters("parked max_attempts k1")[0]
	if _, err := a.client.Drop(context.Background(), "billing", api.LetterOrder{Numbers: []uint64{l.Number}}); err != nil {
		t.Fatal(err)
	}
	servertest.Eventually(t, time.Minute, func() error {
		for _, p := range a.group().Partitions {
			if p.Parked > 0 || p.State != "held" {
				return fmt.Errorf("partition %+v", p)
			}
		}
		return nil
	})
	a.publish("k:k2")
	a.waitDone("k2")
	a.end(t)
}

func TestPauseLastsUntilSomebodyResumes(t *testing.T) {
	a := newAsked(t, "")
	a.publish("k:k1")
	a.waitDone("k1")
	a.ask(api.Ask{Kind: "pause", Reason: "lunch"})
	a.publish("k:k2")
	a.end(t)
	a.start(t)
	servertest.Eventually(t, time.Minute, func() error {
		for _, p := range a.group().Partitions {
			if p.State != "paused" || p.Paused != "lunch" || p.Error != fmt.Sprintf("lunch; `leasehold resume billing --partition %d` lets it go on", p.Partition) {
				return fmt.Errorf("partition %+v", p)
			}
		}
		return nil
	})
	a.waitDone("k1")
	a.ask(api.Ask{Kind: "resume"})
	a.waitDone("k1", "k2")
	a.end(t)
}

func TestHandlersPauseEndsWithResumeToo(t *testing.T) {
	a := newAsked(t, "")
	a.say(map[string]string{"k2": "pause"})
	a.publish("k:k1", "k:k2", "k:k3")
	servertest.Eventually(t, time.Minute, func() error {
		for _, p := range a.group().Partitions {
			if strings.Contains(p.Paused, "as told") {
				return nil
			}
		}
		return errors.New("nothing is paused")
	})
	a.say(map[string]string{})
	a.ask(api.Ask{Kind: "resume"})
	a.waitDone("k1", "k2", "k3")
	a.end(t)
}

func TestSeekHandlesAgainUnderANewEpochAndSaysHowMany(t *testing.T) {
	a := newAsked(t, "")
	a.publish("k:k1", "k:k2", "k:k3", "j:j4")
	a.waitDone("j4", "k1", "k2", "k3")
	servertest.Eventually(t, time.Minute, func() error { // The checkpoints are stored every 100 ms.
		plan, err := a.client.Ask(context.Background(), "billing", api.Ask{Kind: "seek", To: "seq:2", DryRun: true})
		if err == nil && (plan.Seq != 1 || plan.ID != 0 || plan.Again != 3 || plan.Skipped != 0) {
			err = fmt.Errorf("plan %+v", plan)
		}
		return err
	})
	a.ask(api.Ask{Kind: "seek", To: "seq:2"})
	servertest.Eventually(t, time.Minute, func() error {
		if got := a.done(); len(got) != 7 {
			return fmt.Errorf("done %v", got)
		}
		return nil
	})
	epochs := map[string][]uint64{}
	for _, c := range a.calls() {
		epochs[c.Data] = append(epochs[c.Data], c.Epoch)
	}
	if e := epochs["k2"]; len(e) != 2 || e[1] <= e[0] || len(epochs["k1"]) != 1 {
		t.Errorf("epochs %v", epochs)
	}
	a.ask(api.Ask{Kind: "pause", Reason: "skip some"})
	a.publish("k:k5", "k:k6")
	for _, to := range []string{"time:" + time.Now().Add(time.Hour).UTC().Format(time.RFC3339), "seq:7", "latest"} { // the same place
		asked, err := a.client.Ask(context.Background(), "billing", api.Ask{Kind: "seek", To: to, DryRun: to != "latest"})
		if err != nil || asked.Skipped != 2 || !strings.HasPrefix(asked.Skips, "skips 2 messages that the group has not handled, in partitions ") {
			t.Errorf("seek to %s: %+v, %v", to, asked, err)
		}
	}
	a.ask(api.Ask{Kind: "seek", To: "latest"})
	a.ask(api.Ask{Kind: "resume"})
	a.publish("k:k7")
	servertest.Eventually(t, time.Minute, func() error {
		if got := a.done(); got[len(got)-1] != "k7" || slices.Contains(got, "k5") {
			return fmt.Errorf("done %v", got)
		}
		return nil
	})
	a.end(t)
}

func TestWhatCannotBeAskedIsRefusedByName(t *testing.T) {
	a := newAsked(t, "")
	for _, c := range []struct {
		group string
		ask   api.Ask
		kind  error
		says  string
	}{
		{"nobody", api.Ask{Kind: "resume"}, api.ErrNotFound, `no group "nobody"`},
		{"billing", api.Ask{Kind: "resume", Partitions: []int{4}}, api.ErrNotFound, "no partition 4"},
		{"billing", api.Ask{Kind: "explode"}, api.ErrBadRequest, `"explode"`},
		{"billing", api.Ask{Kind: "pause"}, api.ErrBadRequest, "reason"},
		{"billing", api.Ask{Kind: "seek", To: "soon"}, api.ErrBadRequest, `"soon"`},
		{"billing", api.Ask{Kind: "seek", To: "seq:99"}, api.ErrBadRequest, "newest message is 0"},
		{"billing", api.Ask{Kind: "seek", To: "2h"}, api.ErrBadRequest, `"2h"`},
		{"billing", api.Ask{Kind: "release", Keys: []string{"k"}}, api.ErrNotFound, `key "k"`},
	} {
		if _, err := a.client.Ask(context.Background(), c.group, c.ask); !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v", c.ask, err)
		}
	}
	port := api.NewClient(a.http)
	if _, err := port.Ask(context.Background(), "billing", api.Ask{Kind: "resume"}); !errors.Is(err, api.ErrNotAllowed) {
		t.Errorf("over the port without a token: %v", err)
	}
	if _, err := a.client.Ask(context.Background(), "billing", api.Ask{Kind: "seek", To: "-7d", DryRun: true}); err != nil {
		t.Errorf("seek by a week: %v", err)
	}
	four := 4
	if _, err := a.client.DeadLetters(context.Background(), "billing", api.LetterFilter{Partition: &four}); !errors.Is(err, api.ErrNotFound) || !strings.Contains(err.Error(), "no partition 4") {
		t.Errorf("dead letters of a partition that is not there: %v", err)
	}
	if _, err := port.DeadLetters(context.Background(), "billing", api.LetterFilter{}); !errors.Is(err, api.ErrNotAllowed) {
		t.Errorf("dead letters over the port without a token: %v", err)
	}
	a.end(t)
}

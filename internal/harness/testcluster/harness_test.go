package testcluster

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	"leasehold/internal/bytesize"
	"leasehold/internal/config"
	"leasehold/internal/harness/history"
	"leasehold/partitioner"
)

func TestMain(m *testing.M) { Main(m) }

// conversation is a running test handler and our ends of its pipes.
type conversation struct {
	t   *testing.T
	in  io.WriteCloser
	out *bufio.Reader
	p   *Process
}

func talk(t *testing.T) *conversation {
	t.Helper()
	cmd := exec.Command(HandlerBinary(t), "log")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, outEnd := io.Pipe()
	cmd.Stdout = outEnd
	p, err := StartProcess(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { outEnd.Close(); p.Kill() })
	return &conversation{t: t, in: in, out: bufio.NewReader(out), p: p}
}

func (c *conversation) say(line string) {
	c.t.Helper()
	if _, err := io.WriteString(c.in, line+"\n"); err != nil {
		c.t.Fatal(err)
	}
}

func (c *conversation) hear(want string) {
	c.t.Helper()
	got, err := c.out.ReadString('\n')
	if err != nil || strings.TrimSpace(got) != want {
		c.t.Fatalf("got %q (%v), want %q", got, err, want)
	}
}

func message(seq, attempt int) string {
	return fmt.Sprintf(`{"type":"message","id":"orders/3/%d","topic":"orders","group":"calls","node":"n1",`+
		`"partition":3,"seq":%d,"epoch":41,"attempt":%d,"max_attempts":8,"key":"k7","subject":"orders.k7",`+
		`"idempotency_key":"m%d","timeout_ms":30000,"time":"2026-11-23T21:00:00Z","headers":{},"data":"x"}`,
		seq, seq, attempt, seq)
}

func TestCallLogSpeaksTheProtocolAndLogsCalls(t *testing.T) {
	c := New(t, Spec{})
	c.CallLogHandler(CallLogOptions{}) // makes the directory
	h := talk(t)
	h.say(fmt.Sprintf(`{"v":1,"type":"init","id":"0","app":"leasehold/0","node":"n1","group":"calls","topic":"orders",`+
		`"config":{"dir":%q,"delay_ms":1,"retry_every":5}}`, c.CallDir()))
	h.hear(`{"type":"ack","id":"0","wants":["parallel"]}`)
	h.say(`{"type":"assign","id":"1","partition":3,"epoch":41,"next_seq":4}`)
	h.hear(`{"type":"ack","id":"1"}`)
	h.say(message(4, 1))
	h.hear(`{"type":"result","id":"orders/3/4","status":"ok"}`)
	h.say(message(5, 1))
	h.hear(`{"type":"result","id":"orders/3/5","status":"retry"}`)
	h.say(message(5, 2))
	h.hear(`{"type":"result","id":"orders/3/5","status":"ok"}`)
	h.say(`{"type":"revoke","id":"2","partition":3,"epoch":41,"reason":"rebalance"}`)
	h.hear(`{"type":"ack","id":"2"}`)
	h.say(`{"type":"stop","id":"3"}`)
	h.hear(`{"type":"ack","id":"3"}`)
	h.in.Close()
	if !h.p.Wait(10*time.Second) || h.p.err != nil {
		t.Fatalf("exit at the end of input: %v", h.p.err)
	}

	published := []history.PublishRecord{
		{ID: "m4", Key: "k7", Seq: 4, Outcome: history.Stored, Sent: 1, Acked: 2},
		{ID: "m5", Key: "k7", Seq: 5, Outcome: history.Stored, Sent: 1, Acked: 2},
	}
	report := history.Check(c.History(published), history.Rules{MinAcked: 2})
	if report.Err() != nil || report.Summary.Calls != 3 || report.Summary.Retried != 1 {
		t.Error(report)
	}
}

func TestCallLogKilledInACallLeavesItOpen(t *testing.T) {
	c := New(t, Spec{})
	c.CallLogHandler(CallLogOptions{})
	h := talk(t)
	h.say(fmt.Sprintf(`{"v":1,"type":"init","id":"0","node":"n1","group":"calls","topic":"orders",`+
		`"config":{"dir":%q,"delay_ms":60000}}`, c.CallDir()))
	h.hear(`{"type":"ack","id":"0","wants":["parallel"]}`)
	h.say(message(4, 1))
	Eventually(t, 10*time.Second, func() error {
		if n := len(c.Calls()); n != 1 {
			return fmt.Errorf("%d calls", n)
		}
		return nil
	})
	if got := c.orphans(); len(got) != 1 {
		t.Errorf("the running handler is not noticed: %v", got)
	}
	h.p.Kill()
	if call := c.Calls()[0]; call.End != 0 || call.Result != "" || call.Start == 0 || call.ID != "m4" {
		t.Errorf("%+v", call)
	}
}

func TestConfigOfEveryNodeIsValid(t *testing.T) {
	for _, nodes := range []int{1, 3} {
		c := New(t, Spec{Nodes: nodes, Topics: []Topic{{Name: "orders", Partitions: 8}}})
		c.AddGroup(Group{Name: "calls", Topic: "orders", Handler: c.CallLogHandler(CallLogOptions{Delay: time.Millisecond}),
			Extra: `commit = "each"`})
		for _, n := range c.Nodes {
			conf, err := config.Load(n.ConfigFile)
			if err != nil {
				t.Fatalf("%s: %v", n.Name, err)
			}
			if len(conf.Topics) != 1 || len(conf.Groups) != 1 || conf.Node.Name != n.Name {
				t.Errorf("%+v", conf)
			}
		}
	}
}

func TestProcessIsKilledEvenWhenStopped(t *testing.T) {
	p, err := StartProcess(exec.Command("sleep", "60"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Kill()
	if p.Wait(10 * time.Millisecond) {
		t.Fatalf("exited: %v", p.err)
	}
	p.Kill()
	if !p.Wait(time.Second) || p.err == nil {
		t.Errorf("err %v", p.err)
	}
}

func TestLoadRecordsEveryOutcomeAcrossABrokerRestart(t *testing.T) {
	dir, port := t.TempDir(), FreePorts(t, 1)[0]
	broker := StartPlainBroker(t, dir, port)

	topic := partitioner.Topic{Name: "orders", Partitions: 8, MaxBytes: 64 * bytesize.MiB}.WithDefaults()
	stream := MakeStream(t, port, topic)
	load := StartLoad(t, []string{fmt.Sprintf("nats://127.0.0.1:%d", port)},
		LoadSpec{Topic: topic, Keys: 20, Rate: 500, Burst: 100})
	load.Flows(t, 20*time.Second, 200)
	broker.Shutdown()
	broker.WaitForShutdown()
	StartPlainBroker(t, dir, port)
	load.Flows(t, 20*time.Second, 200)
	records := load.Stop(t, 30*time.Second)

	info, err := stream.Info(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	acked, ids := 0, make(map[string]bool)
	for _, r := range records {
		ids[r.ID] = true
		if r.Outcome == history.Stored || r.Outcome == history.Duplicate {
			acked++
		}
		if r.Sent == 0 || r.Acked < r.Sent {
			t.Errorf("times of %+v", r)
		}
	}
	if len(ids) != len(records) || acked != int(info.State.Msgs) {
		t.Errorf("%d records of %d ids, %d acked, %d stored", len(records), len(ids), acked, info.State.Msgs)
	}
}

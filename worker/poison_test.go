package worker

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"

	"leasehold/internal/bytesize"
	"leasehold/internal/ownership"
	"leasehold/partitioner"
	"leasehold/partitioner/stream"
	"leasehold/worker/deadletter"
	"leasehold/worker/handler"
	"leasehold/worker/reader"
	"leasehold/worker/workertest"
)

// poison is a message as a plain NATS client may write it.
type poison struct{ key, headers, data string }

// line is the message in the broker's protocol.
func (p poison) line() string {
	if p.headers == "" {
		return fmt.Sprintf("PUB orders.%s %d\r\n%s\r\n", p.key, len(p.data), p.data)
	}
	block := "NATS/1.0\r\n" + p.headers + "\r\n"
	return fmt.Sprintf("HPUB orders.%s %d %d\r\n%s%s\r\n", p.key, len(block), len(block)+len(p.data), block, p.data)
}

// poisons are messages whose dead letters would not fit or could not be sent, were they stored just as they are.
var poisons = map[string]poison{
	"key as long as the line": {key: strings.Repeat("k", 4060), data: "no"},
	"key of 1,000 umlauts":    {key: strings.Repeat("ü", 1000), data: "no"},
	"key that is not UTF-8":   {key: "M\xfcller", data: "no"},
	"key with a control":      {key: "a\x01b\x7f", data: "no"},
	"key beyond JSON escapes": {key: "\U000e0001", data: "no"},
	"forged hash":             {key: string(partitioner.NewLetterKey(strings.Repeat("k", 4060))), data: "no"},
	"headers of 65,300 bytes": {key: "h1", headers: "X: " + strings.Repeat("h", 65300) + "\r\n", data: "no"},
	"5,400 reserved headers":  {key: "h2", headers: strings.Repeat("Nats-a: x\r\n", 5400), data: "no"},
	"16,000 short headers":    {key: "h3", headers: strings.Repeat("a:\r\n", 16000), data: "no"},
	"name with a blank":       {key: "h4", headers: "a b: c\r\n", data: "no"},
	"name in Latin-1":         {key: "h5", headers: "caf\xe9: c\r\n", data: "no"},
	"bare line feed":          {key: "h6", headers: "X: a\nY: b\r\n", data: "no"},
	"our own headers": {key: "h7",
		headers: "Leasehold-Packed-Bytes: 1\r\nLeasehold-Packed-Headers: /////w==\r\nLeasehold-Key: x\r\n", data: "no"},
	"largest": {key: "h8", data: "no" + strings.Repeat(" ", 1<<20-2)},
}

// TestNoMessageThatCanBeStoredStopsItsPartition: each of them is rejected, becomes a dead letter with its key and
// payload, and the connection that all lanes share lives on.
func TestNoMessageThatCanBeStoredStopsItsPartition(t *testing.T) {
	ns := workertest.StartServer(t)
	r := workertest.NewTestTopic(t, workertest.Connect(t, ns), "orders", 4)
	r.Topic.MaxBytes = 64 * bytesize.MiB
	_, err := stream.Ensure(t.Context(), r.JS, r.Topic, stream.Options{Replicas: 1, MaxPayload: bytesize.MiB})
	if err != nil {
		t.Fatal(err)
	}
	letters := &deadletter.Store{Group: "billing", JS: r.JS}
	if _, err := stream.EnsureDeadLetters(t.Context(), r.JS, "billing",
		stream.DeadLetterOptions{Replicas: 1, Sizing: stream.Sizing{Stated: 64 * bytesize.MiB}}); err != nil {
		t.Fatal(err)
	}
	names := slices.Sorted(maps.Keys(poisons))
	publishRaw(t, ns.Addr().String(), names)
	group := rejecting(t, r, letters)
	for p := range r.Topic.Partitions {
		group.Start(ownership.Grant{Partition: p, Epoch: 1})
	}
	workertest.Eventually(t, workertest.WaitLimit, func() error {
		done := uint64(0)
		for _, s := range group.Status() {
			done = max(done, s.Checkpoint)
			if s.Lag == nil || *s.Lag > 0 || s.Error != "" {
				return fmt.Errorf("partition %d is %s at %d: %q", s.Partition, s.State, s.Checkpoint, s.Error)
			}
		}
		if all := uint64(2 * len(names)); done != all {
			return fmt.Errorf("message %d of %d is done", done, all)
		}
		return nil
	})
	if !r.JS.Conn().IsConnected() {
		t.Fatalf("the connection ended: %v", r.JS.Conn().LastError())
	}
	want := map[string]string{}
	for _, p := range poisons {
		want[p.key] = p.data
	}
	_, err = letters.List(t.Context(), deadletter.Query{Partition: -1}, func(l *deadletter.Record) bool {
		if data, ok := want[l.Key]; !ok || data != string(l.Data) || l.Subject != "orders."+l.Key || l.LeftOut != "" {
			t.Errorf("letter of key %.20q: %d bytes, left out %q", l.Key, len(l.Data), l.LeftOut)
		}
		delete(want, l.Key)
		return true
	})
	if err != nil || len(want) > 0 {
		t.Errorf("no letters of %.100q: %v", slices.Collect(maps.Keys(want)), err)
	}
}

// publishRaw stores the messages as they are, and a good one after each.
func publishRaw(t *testing.T, addr string, names []string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var text strings.Builder
	text.WriteString("CONNECT {\"headers\":true,\"verbose\":false}\r\n")
	for i, name := range names {
		text.WriteString(poisons[name].line())
		text.WriteString(poison{key: fmt.Sprintf("good%d", i), data: "yes"}.line())
	}
	text.WriteString("PING\r\n")
	go func() { _, _ = conn.Write([]byte(text.String())) }()
	for in := bufio.NewScanner(conn); in.Scan(); {
		switch line := in.Text(); {
		case strings.HasPrefix(line, "-ERR"):
			t.Fatal(line)
		case line == "PONG":
			return
		}
	}
	t.Fatal("the broker ended the connection")
}

// rejecting starts a group whose handler rejects what says no.
func rejecting(t *testing.T, r *workertest.TestTopic, letters *deadletter.Store) *Group {
	t.Helper()
	logger := hclog.New(&hclog.LoggerOptions{Output: t.Output(), Level: hclog.Warn})
	reader := reader.New(reader.Options{Topic: r.Topic, JS: r.JS, Logger: logger})
	group, err := NewGroup(GroupOptions{
		Config: Config{Name: "billing", Topic: "orders"}, Topic: r.Topic, Node: "n1", Reader: reader, Logger: logger,
		DeadLetters: letters,
		Handler: handler.Func(func(_ context.Context, m *handler.Message) handler.Result {
			if strings.HasPrefix(string(m.Data), "no") {
				return handler.Result{Status: handler.Reject, Reason: "bad"}
			}
			return handler.Result{Status: handler.OK}
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { _ = reader.Run(ctx) })
	all.Go(func() { _ = group.Run(ctx) })
	t.Cleanup(func() { cancel(); all.Wait() })
	return group
}

// Package workertest holds what the tests of several rooms of the worker share: a broker, topics, messages, and
// checks of results.
package workertest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"leasehold/partitioner"
	"leasehold/worker/handler"
	"leasehold/worker/header"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// WaitLimit is how long a test waits for what happens within milliseconds on a machine that has nothing else to do.
const WaitLimit = 30 * time.Second

// Eventually waits until check has nothing to complain about.
func Eventually(t testing.TB, limit time.Duration, check func() error) {
	t.Helper()
	for deadline := time.Now().Add(limit); ; time.Sleep(2 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// StartBroker runs a stand-alone broker in this process.
func StartBroker(t testing.TB) jetstream.JetStream {
	t.Helper()
	return Connect(t, StartServer(t))
}

// StartServer runs a stand-alone broker in this process.
func StartServer(t testing.TB) *server.Server {
	t.Helper()
	ns, err := server.NewServer(&server.Options{
		ServerName: "test", Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
		MaxPayload: 1<<20 + 64<<10, // As a node's: the largest message, and what a dead letter adds to it.
	})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(20 * time.Second) {
		t.Fatal("the broker does not start")
	}
	return ns
}

// Connect returns a connection to a broker in this process.
func Connect(t testing.TB, ns *server.Server) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect("", nats.InProcessServer(ns))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// Batch are messages 1001, 1003, 1005, … of partition 3 with these payloads.
func Batch(data ...string) (ms []*handler.Message) {
	for i, d := range data {
		ms = append(ms, Message(3, uint64(1001+2*i), d))
	}
	return ms
}

// HandleBatch calls h with a deadline, as a lane does.
func HandleBatch(t *testing.T, h handler.Batcher, ms []*handler.Message) handler.BatchResult {
	t.Helper()
	ctx := handler.NewCallContext(t.Context(), time.Now().Add(20*time.Second))
	defer ctx.End()
	return h.HandleBatch(ctx, ms)
}

// WantBatch checks the result of a batch.
func WantBatch(t *testing.T, got handler.BatchResult, ok int, named bool, want handler.Status, reason string) {
	t.Helper()
	if got.OK != ok || got.Named != named {
		t.Errorf("got %+v, want %d done, named %t", got, ok, named)
	}
	WantStatus(t, got.Result, want, reason)
}

// WantAll checks that all n messages of a batch succeeded.
func WantAll(t *testing.T, got handler.BatchResult, n int) {
	t.Helper()
	if got.OK != n {
		t.Errorf("got %+v, want all %d", got, n)
	}
}

// WantRest checks that the first n messages are done and the others are to be called next.
func WantRest(t *testing.T, got handler.BatchResult, n int) {
	t.Helper()
	if got.OK != n || !got.Rest {
		t.Errorf("got %+v, want %d done and the rest next", got, n)
	}
}

// BatchWords has a service of http or nats do what the first message of a batch says that is not "ok".
func BatchWords(t *testing.T, body []byte) (word, arg string) {
	for _, line := range strings.Split(strings.TrimSpace(string(body)), "\n") {
		var m struct {
			Data *string `json:"data"`
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil || m.Data == nil {
			t.Errorf("no message: %v in %s", err, header.Cut(line, 200))
			return "", ""
		}
		if word, arg, _ = strings.Cut(*m.Data, " "); word != "ok" {
			return word, arg
		}
	}
	return "", ""
}

// HandleFor calls h with a deadline, as a lane does.
func HandleFor(t *testing.T, h handler.Handler, m *handler.Message, d time.Duration) handler.Result {
	t.Helper()
	ctx := handler.NewCallContext(t.Context(), time.Now().Add(d))
	defer ctx.End()
	return h.Handle(ctx, m)
}

// Handle calls a handler with 20 seconds to answer.
func Handle(t *testing.T, h handler.Handler, m *handler.Message) handler.Result {
	t.Helper()
	return HandleFor(t, h, m, 20*time.Second)
}

// WriteFile writes text to a new file and returns its name.
func WriteFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// WantHeaders checks the first values of headers.
func WantHeaders(t *testing.T, got map[string][]string, want map[string]string) {
	t.Helper()
	for name, value := range want {
		if is := strings.Join(got[name], ","); is != value {
			t.Errorf("%s is %q, want %q", name, is, value)
		}
	}
}

// Log has the server's complaints about clients in the test's log.
func Log(t *testing.T) *log.Logger { return log.New(t.Output(), "", 0) }

// Message is a message of partition p whose payload tells the test child what to do.
func Message(p int, seq uint64, data string) *handler.Message {
	return &handler.Message{
		ID: fmt.Sprintf("orders/%d/%d", p, seq), IdempotencyKey: "k", Topic: "orders", Group: "billing", Node: "n1",
		Partition: p, Seq: seq, Epoch: 5, Attempt: 1, MaxAttempts: 8, Key: "c-17", Subject: "orders.c-17",
		Timeout: 20 * time.Second, Published: time.Unix(1700000000, 5), Data: []byte(data),
	}
}

// RunHandler runs h until the test's end or until the function returned is called, which waits for its end.
func RunHandler(t *testing.T, h handler.Runner) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// Soon waits until check has nothing to complain about.
func Soon(t *testing.T, check func() error) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// Alive reports whether the process runs; a zombie does not.
func Alive(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !bytes.Contains(text, []byte(") Z "))
}

// WantStatus checks a result.
func WantStatus(t *testing.T, got handler.Result, want handler.Status, reason string) {
	t.Helper()
	if got.Status != want || !strings.Contains(got.Reason, reason) {
		t.Fatalf("got %+v, want %s with %q in its reason", got, want, reason)
	}
}

// Kill kills a process.
func Kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// LockedBuffer is a buffer for several goroutines.
type LockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write appends to the buffer.
func (b *LockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String returns what was written.
func (b *LockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Expiring is a context whose deadline comes when the test says so.
type Expiring struct {
	context.Context
	Over chan struct{}
}

// Done is closed when Over is.
func (e Expiring) Done() <-chan struct{} { return e.Over }

// Err is context.DeadlineExceeded once Over is closed.
func (e Expiring) Err() error {
	select {
	case <-e.Over:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// ReadPID waits for a file with a process id and returns that.
func ReadPID(t *testing.T, name string) (pid int) {
	t.Helper()
	Soon(t, func() error {
		text, err := os.ReadFile(name)
		if err == nil {
			pid, err = strconv.Atoi(strings.TrimSuffix(string(text), "\n"))
		}
		return err
	})
	return pid
}

// Need returns the path of a program that the examples are written for. A machine without it proves nothing, so the
// test fails there.
func Need(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatalf("this test runs an example and needs %s on the PATH: %v", program, err)
	}
	return path
}

// CPUTime returns the processor time that this process has used.
func CPUTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestTopic is a topic on a broker, and its stream once create has made it.
type TestTopic struct {
	T      testing.TB
	JS     jetstream.JetStream
	Topic  partitioner.Topic
	Stream jetstream.Stream
}

// NewTestTopic only names the topic.
func NewTestTopic(t testing.TB, js jetstream.JetStream, name string, partitions int) *TestTopic {
	return &TestTopic{T: t, JS: js, Topic: partitioner.Topic{Name: name, Partitions: partitions}.WithDefaults()}
}

// Create creates the topic's stream without what guards a real one: tests delete messages from it.
func (x *TestTopic) Create(replicas int) {
	x.T.Helper()
	create := func() (err error) {
		x.Stream, err = x.JS.CreateStream(x.T.Context(), jetstream.StreamConfig{
			Name: x.Topic.Name, Subjects: []string{x.Topic.StoredFilter()}, Replicas: replicas,
			AllowDirect: true, MaxBytes: 64 << 20,
		})
		return err
	}
	Eventually(x.T, WaitLimit, create) // A cluster's first asset may have to wait for it.
}

const Steering = "boom \x1b]0;PWNED\a\u009b2J \u202etxt\nOK: all is fine"

// Steered is what of it is shown.
const Steered = `boom \u001b]0;PWNED\u0007\u009b2J \u202etxt OK: all is fine`

// NewExpiring returns a context whose deadline comes when Over is closed.
func NewExpiring(parent context.Context) Expiring {
	return Expiring{Context: parent, Over: make(chan struct{})}
}
